"""Confines a worker right after its fork: the one place where the parts of its sandbox come together.

What the kernel lacks is left out and reported. A worker cannot undo any of it, and its children inherit it.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from erlbridge.core.sandbox import OFF, REQUIRED, Report
from erlbridge.worker.sandbox import kernel, landlock, seccomp
from erlbridge.worker.sandbox.landlock import READ, WRITE, Access
from erlbridge.worker.sandbox.reach import Reach

MAX_DESCRIPTORS: Final = 4096
"""A job opens a few for each of its threads, of which there are at most some hundred."""

MAX_FILE_BYTES: Final = 2**30
"""Four times what the largest file of a worker, the kept answers, may hold."""

SPARE_PROCESSES: Final = 4096
"""How many more processes and threads the user may have than when the node began. They are counted for the user, not
for the worker, hence so many; the kernel does not hold root to it."""


class Unconfined(Exception):
    """A worker that must be confined fully cannot be."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a worker is confined.

    Args:
        mode: `core.sandbox.ON`, `OFF` or `REQUIRED`.
        shared: The directory in which workers keep what they share; None for none.
        home: The worker's own temporary directory, where it also works from; None when there is none.
        reach: What it can read and execute besides.
        ports: Where TCP may connect to; with none, anywhere.
        max_processes: What `RLIMIT_NPROC` becomes; None leaves it.
    """

    mode: str
    shared: Path | None = None
    home: Path | None = None
    reach: Reach = field(default_factory=Reach)
    ports: tuple[int, ...] = ()
    max_processes: int | None = None


def confine(policy: Policy) -> Report:
    """Confines the calling process, which must have no thread yet but this one.

    Raises:
        Unconfined: The mode is `REQUIRED`, and a part cannot be had; says which, and why.
    """
    if policy.mode == OFF:
        return Report(OFF, 0, {})
    version = landlock.version()
    missing: dict[str, str] = {}
    for part, act in _acts(policy, version):
        try:
            act()
        except OSError as error:
            missing[part] = error.strerror or str(error)
    if policy.mode == REQUIRED and missing:
        reasons = "; ".join(f"{part}: {reason}" for part, reason in missing.items())
        raise Unconfined(f"the sandbox is required and cannot be had in full here: {reasons}")
    return Report(policy.mode, version, missing)


def _acts(policy: Policy, version: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each part with what puts it in force, in an order in which none stands in another's way."""
    yield "directory", lambda: _settle(policy.home)
    yield "limits", lambda: _limit(policy.max_processes)
    yield "no_new_privs", kernel.forbid_new_privileges
    yield "files", lambda: _restrict(policy, version)
    yield "tcp", lambda: _since(version, landlock.TCP_SINCE, "6.7")
    yield "signals", lambda: _since(version, landlock.SIGNALS_SINCE, "6.12")
    yield "seccomp", lambda: _filter(policy)
    yield "memory", kernel.keep_memory_private


def _settle(home: Path | None) -> None:
    os.umask(0o077)
    if home is None:
        os.chdir("/")
        raise OSError(0, "no disk takes a temporary directory")
    os.chdir(home)
    os.environ["TMPDIR"] = tempfile.tempdir = str(home)


def _limit(max_processes: int | None) -> None:
    lower_limit(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    lower_limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    lower_limit(resource.RLIMIT_CORE, 0)
    if max_processes is not None:
        lower_limit(resource.RLIMIT_NPROC, max_processes)


def lower_limit(kind: int, most: int) -> None:
    """Makes a limit this low, also against the process's own raising of it; one that is lower already stays."""
    limits = [most if limit == resource.RLIM_INFINITY else min(limit, most) for limit in resource.getrlimit(kind)]
    resource.setrlimit(kind, (min(limits), min(limits)))


def _restrict(policy: Policy, version: int) -> None:
    if version == 0:
        raise OSError(0, "the kernel has no Landlock, or does not use it (Linux 5.13, and `landlock` in its `lsm=`)")
    rules = landlock.Ruleset(min(version, landlock.SIGNALS_SINCE), policy.ports)
    try:
        rules.allow(policy.reach.readable, READ)
        rules.allow(policy.reach.executable, READ | Access.EXECUTE)
        rules.allow([os.devnull], READ | Access.WRITE_FILE | Access.TRUNCATE)
        rules.allow([path for path in (policy.shared, policy.home) if path is not None], WRITE)
        rules.enforce()
    finally:
        rules.close()
    _since(version, landlock.TRUNCATE_SINCE, "6.2")


def _since(version: int, needed: int, linux: str) -> None:
    if version < needed:
        raise OSError(0, f"needs version {needed} of Landlock (Linux {linux}); the kernel has {version or 'none'}")


def _filter(policy: Policy) -> None:
    if reason := seccomp.why_not():
        raise OSError(0, reason)
    seccomp.enforce(executing=bool(policy.reach.executable))


def max_processes() -> int | None:
    """What to limit workers' processes to: those that the user has now, threads counted each, and some more; None when
    they cannot be counted."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        try:
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == user:
                # Fields after the name, which may hold anything: `proc_pid_stat(5)`, number 20 of them all.
                count += int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[17])
        except (OSError, ValueError, IndexError):
            continue
    return count + SPARE_PROCESSES if count else None
