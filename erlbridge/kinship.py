"""A process among its kin: dies with its parent, adopts its orphaned descendants, ends them all. Linux's `prctl(2)`.

Knows the kernel and nothing of nodes and workers, which both stand on it. Only a process's own children are ever killed
by pid: until they are reaped, no other process can have theirs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LOOK_S: Final = 0.001
_PASSED_OVER: Final = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)

_reserve: Final[list[int]] = []
"""A descriptor that is given up for a moment where no other is left to look for children with."""


def die_with_parent(parent_pid: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send this process a signal when its parent ends, however it does; ends at once if it already has.

    The setting is lost on `fork`, so each generation asks for itself.
    """
    _prctl(_PR_SET_PDEATHSIG, int(by))
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Descendants whose parents have ended become this process's children, also those in sessions of their own.

    The setting is lost on `fork`, so each generation asks for itself.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if not _reserve:
        _reserve.append(_open_reserve())


def restore_signals() -> None:
    """Gives this process, and what it starts, the signals that a program expects to begin with.

    The BEAM starts port programs with SIGCHLD ignored, which makes `waitpid` lose every child's status, and Python
    ignores SIGPIPE and SIGXFSZ, which programs started in other ways than by `subprocess` would inherit. A handler is
    not inherited by what is executed, and a write to a closed pipe is an error here as before. A Ctrl-C in the
    terminal, SIGINT, is the node's to act on, and nothing to its children.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _PASSED_OVER:
        signal.signal(number, _pass_over)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def children() -> set[int]:
    """This process's own children, adopted ones and those that have ended but are not reaped included."""
    try:
        return _listed_children()
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    if not _reserve:
        return set()
    os.close(_reserve.pop())
    try:
        return _listed_children()
    finally:
        _reserve.append(_open_reserve())


def _listed_children() -> set[int]:
    found: set[int] = set()
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                found.update(map(int, file.read().split()))
    except FileNotFoundError:  # a kernel built without these files
        own = os.getpid()
        found = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == own}
    return found


def end_descendants(spare: Collection[int] = (), within_s: float = 2.0) -> None:
    """Kills and reaps every descendant but those spared and theirs.

    The children of a child that has ended are adopted, so this goes on until none is left, or until the time is over: a
    process that the kernel itself holds up cannot be helped.
    """
    deadline = time.monotonic() + within_s
    while left := children().difference(spare):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError, PermissionError):
                continue
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)


def _open_reserve() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _pass_over(_number: int, _frame: object) -> None:
    """A handler that does nothing, where a signal shall do nothing to this process alone."""
