"""The node's end of the forkserver: starts it, asks it for workers, ends them, hears of their deaths and of its own.

Knows processes and a control socket; knows nothing of jobs. The other end is `worker.forkserver`. No kill waits for the
forkserver: a worker is ended, and its end seen, by its pidfd.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.allotment import STACKS_SIGNAL, WorkerSettings
from erlbridge.core.sandbox import OFF
from erlbridge.kinship import end_descendants
from erlbridge.node.environment import worker_environment
from erlbridge.node.output import OnLines, Output
from erlbridge.node.watchdog import process_of, threads_at_work

_FORK: Final = Atom("fork")
_PACKET_BYTES: Final = 4096
_CONTROL_FD: Final = 3
_END_GRACE_S: Final = 0.3
_STATUS_GRACE_S: Final = 0.1
"""How long after a worker's end its exit status is waited for."""
_FORK_PATIENCE_S: Final = 1.0
"""A fork takes milliseconds. A forkserver that has not answered after this is woken, in case somebody stopped it."""
_WAKE_PATIENCE_S: Final = 5.0
"""So long after that it is killed, and every worker with it: on a machine that is merely slow that must not happen."""
_LAST_LINES: Final = 3


@dataclass(slots=True)
class _Ward:
    """A worker from the moment it is asked for; `pidfd` is there once it is forked, `bury_at` once it has ended."""

    asked_at: float
    pidfd: int | None = None
    doomed: bool = False
    bury_at: float | None = None


class Nursery:
    """Forks workers through a process that has DSPy loaded; starts that process when there is none.

    `on_exited` hears of a worker's end with its wait status, or with None when that could not be learned. `on_lost`
    hears, in a few words, that the forkserver ended and its workers with it; the next fork starts another.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        settings: WorkerSettings,
        *,
        on_forked: Callable[[int, int], None],
        on_exited: Callable[[int, int | None], None],
        on_lost: Callable[[str], None],
        on_lines: OnLines,
    ) -> None:
        self._selector = selector
        self._settings = settings
        self._on_forked = on_forked
        self._on_exited = on_exited
        self._on_lost = on_lost
        self._on_lines = on_lines
        self._control: socket.socket | None = None
        self._output: Output | None = None
        self._pid = 0
        self._loaded = False
        self._woken_at: float | None = None
        self._wards: dict[int, _Ward] = {}
        self._last_lines: deque[bytes] = deque(maxlen=_LAST_LINES)

    @property
    def forkserver_pid(self) -> int | None:
        """The forkserver's process, None while there is none."""
        return self._pid if self._control is not None else None

    def fork(self, number: int, wire: int, output: int, stacks: int) -> None:
        """Asks for a worker that holds these three descriptors."""
        try:
            control = self._control or self._start()
            socket.send_fds(control, [term_to_binary((_FORK, number))], [wire, output, stacks])
        except OSError as error:
            self._lose(f"the forkserver cannot be reached: {error}")
        else:
            self._wards[number] = _Ward(time.monotonic())

    def kill(self, number: int) -> None:
        """Ends a worker, also one that is stopped; one that has yet to be forked, as soon as it is."""
        if (ward := self._wards.get(number)) is None:
            return
        if ward.pidfd is not None:
            _send(ward.pidfd, signal.SIGKILL)
        elif self._loaded:
            ward.doomed = True
        else:
            self._lose("the forkserver did not load in time")

    def trace(self, number: int) -> Iterator[int]:
        """Has those threads of a worker write their stacks that hold the others up, whatever they are doing: one with
        each step."""
        ward = self._wards.get(number)
        pid = None if ward is None or ward.pidfd is None else process_of(ward.pidfd)
        if pid is not None:
            for thread in threads_at_work(pid):
                if self._wards.get(number) is not ward:
                    return
                _signal_thread(pid, thread, STACKS_SIGNAL)
                yield thread

    def next_look(self) -> float | None:
        """When `look` has something to do; None while only the forkserver or a worker's end can bring that."""
        times = [ward.bury_at for ward in self._wards.values() if ward.bury_at is not None]
        if (asked_at := self._asked_at()) is not None:
            times.append(asked_at + _FORK_PATIENCE_S if self._woken_at is None else self._woken_at + _WAKE_PATIENCE_S)
        return min(times, default=None)

    def look(self) -> None:
        """Sees to what has been waited for long enough."""
        now = time.monotonic()
        for number, ward in list(self._wards.items()):
            if ward.bury_at is not None and ward.bury_at <= now:
                self._bury(number, None)
        asked_at = self._asked_at()
        if asked_at is None or now < asked_at + _FORK_PATIENCE_S:
            return
        if self._woken_at is None:
            self._woken_at = now
            os.kill(self._pid, signal.SIGCONT)
        elif now >= self._woken_at + _WAKE_PATIENCE_S:
            self._lose("the forkserver does not answer")

    def close(self) -> None:
        """Ends the forkserver, and with it every worker; waits until they are gone."""
        if self._control is not None:
            self._release()
            os.kill(self._pid, signal.SIGTERM)  # while it loads it does not look at the socket
            self._await_end(_END_GRACE_S)

    def _asked_at(self) -> float | None:
        """Since when a fork has not been answered. Loading takes its time, which others limit."""
        waiting = (ward.asked_at for ward in self._wards.values() if ward.pidfd is None)
        return min(waiting, default=None) if self._loaded else None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.send(term_to_binary(self._settings.to_term()))
        output = Output(self._selector, self._take_lines)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                # -P: the working directory is the host's, not a place to import from.
                [sys.executable, "-P", "-m", "erlbridge.worker.forkserver"],
                self._environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL_FD),
                    (os.POSIX_SPAWN_DUP2, output.theirs, 1),
                    (os.POSIX_SPAWN_DUP2, output.theirs, 2),
                ],
                setsigmask=(),
                setsigdef=(signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ),
            )
        except OSError:
            ours.close()
            output.handed_over()
            output.close()
            raise
        finally:
            theirs.close()
        output.handed_over()
        ours.setblocking(False)
        self._control, self._output, self._loaded, self._woken_at = ours, output, False, None
        self._selector.register(ours, selectors.EVENT_READ, lambda _events: self._hear())
        return ours

    def _environment(self) -> Mapping[str, str]:
        environment = worker_environment(os.environ, confined=self._settings.sandbox != OFF)
        environment["PYTHONUNBUFFERED"] = "1"  # a line that is printed is a log event now, not when a buffer is full
        return environment

    def _hear(self) -> None:
        if self._control is None:
            return
        descriptors: list[int] = []
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._lose("the forkserver ended")
            return
        match binary_to_term(packet):
            case (Atom() as what, _, _) if str(what) == "loaded":
                self._loaded = True
                for ward in self._wards.values():
                    ward.asked_at = time.monotonic()
            case (Atom() as what, int() as number, int() as os_pid) if str(what) == "forked":
                self._adopt(number, os_pid, *descriptors)
            case (Atom() as what, int() as number, int() as status) if str(what) == "exited":
                self._bury(number, status)

    def _adopt(self, number: int, os_pid: int, pidfd: int | None = None) -> None:
        ward = self._wards[number]
        ward.asked_at = time.monotonic()
        self._woken_at = None
        if pidfd is None:  # no descriptor is left for it here, so the worker could not be ended later
            os.kill(os_pid, signal.SIGKILL)
            return
        ward.pidfd = pidfd
        self._selector.register(pidfd, selectors.EVENT_READ, lambda _events: self._see_end(number))
        if ward.doomed:
            _send(pidfd, signal.SIGKILL)
        self._on_forked(number, os_pid)

    def _see_end(self, number: int) -> None:
        ward = self._wards[number]
        if ward.pidfd is not None:
            self._selector.unregister(ward.pidfd)
            ward.bury_at = time.monotonic() + _STATUS_GRACE_S

    def _bury(self, number: int, status: int | None) -> None:
        ward = self._wards.pop(number, None)
        if ward is not None:  # else its status came too late
            self._forget(ward)
            self._on_exited(number, status)

    def _forget(self, ward: _Ward) -> None:
        if ward.pidfd is not None:
            if ward.bury_at is None:
                self._selector.unregister(ward.pidfd)
            os.close(ward.pidfd)

    def _take_lines(self, lines: list[bytes], dropped: int) -> None:
        self._last_lines += lines
        self._on_lines(lines, dropped)

    def _lose(self, text: str) -> None:
        """The forkserver is gone or as good as gone; the kernel kills its workers when it ends."""
        if self._control is not None:
            self._release()
            self._await_end(0.0)
        said = b" | ".join(self._last_lines).decode(errors="replace")
        self._last_lines.clear()
        self._on_lost(f"{text}; its last words: {said}" if said else text)

    def _release(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()  # at this the forkserver ends, and its workers with it
            self._control = None
        for ward in self._wards.values():
            self._forget(ward)
        self._wards.clear()

    def _await_end(self, grace_s: float) -> None:
        """Until nothing of the forkserver is left: its orphans are this process's children, and it has no others."""
        with contextlib.suppress(ChildProcessError):
            if not _ends(self._pid, grace_s):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        end_descendants()
        if self._output is not None:
            self._output.close()
            self._output = None


def _signal_thread(pid: int, thread: int, number: signal.Signals) -> None:
    """To one thread, which `kill(2)` cannot; does nothing with a C library that has no `tgkill`, as of before 2019."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).tgkill(pid, thread, number)


def _send(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _ends(pid: int, within_s: float) -> bool:
    """Whether a child ends in time; it is left to be reaped."""
    poll = select.poll()
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # no descriptor is left for it
        return False
    try:
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(within_s * 1000))
    finally:
        os.close(pidfd)
