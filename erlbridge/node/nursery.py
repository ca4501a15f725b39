"""The node's end of the forkserver: starts it, asks it for workers, hears of their deaths and of its own.

Knows one child process and its control socket; knows nothing of jobs. The other end is `worker.forkserver`.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.allotment import WorkerSettings
from erlbridge.core.sandbox import OFF
from erlbridge.node.environment import worker_environment
from erlbridge.node.output import Output

_FORK, _KILL = Atom("fork"), Atom("kill")
_PACKET_BYTES: Final = 4096
_CONTROL_FD: Final = 3
_END_GRACE_S: Final = 2.0
_LAST_LINES: Final = 3


class Nursery:
    """Forks workers through a process that has DSPy loaded; starts that process when there is none.

    `on_lost` hears, in a few words, that the forkserver ended and its workers with it; the next fork starts another.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        settings: WorkerSettings,
        *,
        on_forked: Callable[[int, int], None],
        on_exited: Callable[[int, int], None],
        on_lost: Callable[[str], None],
        on_line: Callable[[bytes], None],
    ) -> None:
        self._selector = selector
        self._settings = settings
        self._on_forked = on_forked
        self._on_exited = on_exited
        self._on_lost = on_lost
        self._on_line = on_line
        self._control: socket.socket | None = None
        self._output: Output | None = None
        self._pid = 0
        self._last_lines: deque[bytes] = deque(maxlen=_LAST_LINES)

    def fork(self, number: int, wire: int, output: int) -> None:
        """Asks for a worker that holds these two descriptors."""
        try:
            control = self._control or self._start()
            socket.send_fds(control, [term_to_binary((_FORK, number))], [wire, output])
        except OSError as error:
            self._lose(f"the forkserver cannot be reached: {error}")

    def kill(self, number: int) -> None:
        """Ends a worker. Its parent does it, so no pid can have been reused in between."""
        if self._control is not None:
            try:
                self._control.send(term_to_binary((_KILL, number)))
            except OSError as error:
                self._lose(f"the forkserver cannot be reached: {error}")

    def close(self) -> None:
        """Ends the forkserver, and with it every worker; waits until it is gone."""
        if self._control is not None:
            self._release()
            self._await_end()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.send(term_to_binary(self._settings.to_term()))
        output = Output(self._selector, self._take_line)
        environment = worker_environment(os.environ, confined=self._settings.sandbox != OFF)
        environment["PYTHONUNBUFFERED"] = "1"  # a line that is printed is a log event now, not when a buffer is full
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                # -P: the working directory is the host's, not a place to import from.
                [sys.executable, "-P", "-m", "erlbridge.worker.forkserver"],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL_FD),
                    (os.POSIX_SPAWN_DUP2, output.theirs, 1),
                    (os.POSIX_SPAWN_DUP2, output.theirs, 2),
                ],
                setsigdef=[signal.SIGCHLD],
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
        self._control, self._output = ours, output
        self._selector.register(ours, selectors.EVENT_READ, lambda _events: self._hear())
        return ours

    def _hear(self) -> None:
        if self._control is None:
            return
        try:
            packet = self._control.recv(_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._lose("the forkserver ended")
            return
        match binary_to_term(packet):
            case (Atom() as what, int(number), int(value)) if str(what) == "forked":
                self._on_forked(number, value)
            case (Atom() as what, int(number), int(value)) if str(what) == "exited":
                self._on_exited(number, value)

    def _take_line(self, line: bytes) -> None:
        self._last_lines.append(line)
        self._on_line(line)

    def _lose(self, text: str) -> None:
        """The forkserver is gone or as good as gone; the kernel kills its workers when it ends."""
        if self._control is not None:
            self._release()
            self._await_end()
        said = b" | ".join(self._last_lines).decode(errors="replace")
        self._last_lines.clear()
        self._on_lost(f"{text}; its last words: {said}" if said else text)

    def _release(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()  # at this the forkserver kills its workers and ends
            self._control = None

    def _await_end(self) -> None:
        deadline = time.monotonic() + _END_GRACE_S
        while not os.waitpid(self._pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                break
            time.sleep(0.002)
        if self._output is not None:
            self._output.close()
            self._output = None
