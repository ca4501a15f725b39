"""SIGTERM, SIGINT and SIGHUP as events of the node's selector, so that no handler runs in the middle of anything."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable


class Signals:
    """Calls `asked` in the loop for each signal that wants the node to end. Keeps the sockets by which it hears."""

    def __init__(self, selector: selectors.BaseSelector, asked: Callable[[], None]) -> None:
        self._heard, self._wakes = socket.socketpair()
        self._heard.setblocking(False)
        self._wakes.setblocking(False)
        self._asked = asked
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the guardian had these blocked until now
        selector.register(self._heard, selectors.EVENT_READ, self._hear)

    def _hear(self, _events: int) -> None:
        self._heard.recv(64)
        self._asked()
