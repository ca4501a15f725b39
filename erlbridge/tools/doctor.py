"""`erlbridge doctor`: whether a node with the settings in force would run well here, and what to do where it would not.

It starts what a node starts, one worker through the forkserver, and asks it; so what it says of the sandbox is what is
in force, not what the kernel's version promises.
"""

from __future__ import annotations

import json as json_text
import os
import resource
import secrets
import selectors
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

from erlbridge.codec import IMPLEMENTATION
from erlbridge.core.events import Booted, Died
from erlbridge.core.sandbox import OFF, PARTS, Report
from erlbridge.node.about import About
from erlbridge.node.allotment import worker_settings
from erlbridge.node.config import NodeConfig, settings
from erlbridge.node.pool import Pool, PoolEvent
from erlbridge.node.watchdog import hides_workers, memory_bytes
from erlbridge.store.engine import INDEX_FILE
from erlbridge.store.files import ASIDE
from erlbridge.store.store import open_store
from erlbridge.tools.finding import FAILED, OK, WARNING, Finding
from erlbridge.tools.surroundings import Endpoints, beam, clock

_LEAST_PYTHON: Final = (3, 11)
_LEAST_WORKER_BYTES: Final = 512 * 2**20
"""What a worker needs for DSPy and a job of common size."""

_LEAST_DESCRIPTORS: Final = 256
_GIB: Final = 2**30
_LOGGED: Final = "the lines above it in the node's log tell more"

_HOLDS: Final = {
    "no_new_privs": "no program gives a worker more rights, and it gives up those of root",
    "files": "a worker writes only its own temporary directory and kept answers, and reads only code and the system",
    "tcp": "a worker listens at no port that it chooses, and connects to sandbox_ports only where they are set",
    "signals": "a worker signals no other process",
    "seccomp": "a worker traces, limits and slows no other process, mounts nothing, speaks IP only",
    "memory": "other processes of the user read neither a worker's memory nor its environment",
    "limits": "descriptors, files' sizes and processes are bounded",
    "directory": "a worker has a temporary directory of its own, removed after it",
}


def doctor(config: NodeConfig, *, json: bool, models: Sequence[str] = (), key_variable: str | None = None) -> int:
    """Prints what it finds as lines or as one JSON array of objects; gives 1 when a node would not run, else 0."""
    found = []
    for finding in findings(config, models, key_variable):
        found.append(finding)
        if not json:
            sys.stdout.write(f"{finding.state:<8} {finding.name}: {finding.found}\n")
            if finding.advice:
                sys.stdout.write(f"{'':<8}   {finding.advice}\n")
            sys.stdout.flush()
    if json:
        sys.stdout.write(json_text.dumps([asdict(finding) for finding in found], indent=2) + "\n")
    return int(any(finding.state == FAILED for finding in found))


def findings(config: NodeConfig, models: Sequence[str] = (), key_variable: str | None = None) -> Iterator[Finding]:
    """What is looked at, in this order, each when it is asked for; what takes long comes last.

    Args:
        models: Names or addresses of models whose endpoints are to be reached.
        key_variable: What holds their key, in the place of the providers' own variables.
    """
    yield from _own(config)
    yield from beam()
    endpoints = Endpoints(models, key_variable)
    yield from endpoints.findings()
    yield clock(config.data, endpoints.skews_s)


def _own(config: NodeConfig) -> Iterator[Finding]:
    yield _python()
    yield _codec()
    yield _memory(config)
    yield _descriptors(config)
    data = _data(config)
    yield data
    if data.state == FAILED:
        yield Finding("forkserver", FAILED, "not tried without a data directory")
        return
    yield from _store(config)
    dspy = About(config).dspy
    yield (
        Finding("dspy", OK, dspy)
        if dspy
        else Finding("dspy", FAILED, "not found", f"install it where {sys.executable} finds it")
    )
    boots = _Boots(config)
    with boots:
        yield boots.fork("forkserver", "DSPy is loaded, and the first worker ready, within")
        if boots.report is not None:
            yield boots.fork("worker", "another one is ready within")
    report = boots.report
    if report is not None:
        yield from _sandbox(report)


def _python() -> Finding:
    version = sys.version.split(maxsplit=1)[0]
    if sys.version_info < _LEAST_PYTHON:
        return Finding("python", FAILED, version, f"use Python {'.'.join(map(str, _LEAST_PYTHON))} or newer")
    return Finding("python", OK, f"{version}, {sys.executable}")


def _codec() -> Finding:
    if IMPLEMENTATION == "compiled":
        return Finding("codec", OK, "compiled")
    return Finding(
        "codec", WARNING, f"{IMPLEMENTATION} Python, many times slower", "install from a wheel, or with a C compiler"
    )


def _memory(config: NodeConfig) -> Finding:
    total = memory_bytes()
    found = f"{total / _GIB:.1f} GiB for {config.workers} workers"
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return Finding("memory", WARNING, f"{found}, and RLIMIT_AS is set", "lift `ulimit -v`: it keeps threads away")
    if os.geteuid() and hides_workers(Path("/proc/self/mountinfo").read_text()):
        advice = "mount /proc without `hidepid` (systemd: no `ProtectProc`): `worker_hard_bytes` cannot be held"
        return Finding("memory", WARNING, f"{found}, and /proc hides theirs", advice)
    if total < config.workers * _LEAST_WORKER_BYTES:
        return Finding("memory", WARNING, found, "give each worker half a GiB at least, or set fewer `workers`")
    return Finding("memory", OK, found)


def _descriptors(config: NodeConfig) -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < _LEAST_DESCRIPTORS + 8 * config.workers:
        return Finding("descriptors", WARNING, f"at most {limit} a process", "raise `ulimit -n`, to 1024 or more")
    return Finding("descriptors", OK, f"at most {limit} a process")


def _data(config: NodeConfig) -> Finding:
    try:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=config.data) as file:
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(config.data).free
    except OSError as error:
        return Finding("data", FAILED, f"{config.data}: {error}", "set `data` to a directory that the node can write")
    found = f"{config.data}, {free / _GIB:.1f} GiB free"
    if free < config.min_free_disk_bytes:
        return Finding("data", WARNING, found, "make room, or lower `min_free_disk_bytes`")
    return Finding("data", OK, found)


def _store(config: NodeConfig) -> Iterator[Finding]:
    """Whether index and blobs answer, by what a node does with them; nothing is left behind."""
    said: list[str] = []
    store = open_store(config.data, said.append, config.places)
    shown = {name: setting.kind.shown(getattr(config, name)) for name, setting in settings().items()}
    probe = ASIDE + secrets.token_hex(8)  # a name that no list shows

    def ask_index() -> None:
        store.engine.read(lambda statements: statements.rows("SELECT count(*) FROM entries"))

    def ask_blobs() -> None:
        store.blobs.put("programs", probe, b"doctor")
        store.blobs.delete("programs", probe)

    yield _asked(
        "store.index", shown["store_index"] or INDEX_FILE, ask_index, "see to the server, or unset `store_index`"
    )
    yield _asked(
        "store.blobs", shown["store_blobs"] or "files", ask_blobs, "see to its address, or unset `store_blobs`"
    )
    store.close()
    for line in said:
        yield Finding("store", WARNING, line)


def _asked(name: str, what: str, ask: Callable[[], None], advice: str) -> Finding:
    started = time.monotonic()
    try:
        ask()
    except OSError as error:
        return Finding(name, FAILED, str(error), advice)
    return Finding(name, OK, f"{what}, answers within {(time.monotonic() - started) * 1000:.0f} ms")


class _Boots:
    """Workers that start and end: how long that takes, how they are confined (`report`), or why they do not start."""

    def __init__(self, config: NodeConfig) -> None:
        self.report: Report | None = None
        self._patience_s = config.boot_timeout_s
        self._happened: deque[PoolEvent] = deque()
        self._selector = selectors.DefaultSelector()
        self._pool = Pool(self._selector, self._happened.append, worker_settings(config))
        self._forked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        self._selector.close()

    def fork(self, name: str, ready: str) -> Finding:
        """Has one more worker start."""
        self._forked += 1
        self._pool.fork(self._forked)
        started = time.monotonic()
        while (left_s := started + self._patience_s - time.monotonic()) > 0:
            for key, events in self._selector.select(left_s):
                # What one handler closed, another had yet to read: of a worker that is gone, say.
                if (current := self._selector.get_map().get(key.fd)) is not None and current.data == key.data:
                    key.data(events)
            while self._happened:
                match self._happened.popleft():
                    case Booted():
                        self.report = self._pool.sandbox
                        return Finding(name, OK, f"{ready} {(time.monotonic() - started) * 1000:.0f} ms")
                    case Died(_, cause):
                        return Finding(name, FAILED, str(cause), _LOGGED)
        return Finding(name, FAILED, f"not ready within {self._patience_s:.0f} s", _LOGGED)


def _sandbox(report: Report) -> Iterator[Finding]:
    if report.mode == OFF:
        yield Finding("sandbox", WARNING, "off by configuration", "set `sandbox` to `on`, or better `required`")
        return
    version = f"version {report.landlock}" if report.landlock else "none"
    yield Finding("sandbox", OK, f"{report.mode}; Landlock: {version}")
    for part in PARTS:
        if reason := report.missing.get(part):
            yield Finding(
                f"sandbox.{part}", WARNING, f"missing: {reason}", f"without it nothing ensures that {_HOLDS[part]}"
            )
        else:
            yield Finding(f"sandbox.{part}", OK, _HOLDS[part])
