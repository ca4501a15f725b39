"""The signals that ask a node to end, as the loop hears of them: by a descriptor, between two events."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable
from typing import Final

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_READ_BYTES: Final = 64


def watch_signals(selector: selectors.BaseSelector, heard: Callable[[], None]) -> tuple[socket.socket, socket.socket]:
    """Has the selector call `heard` when SIGTERM, SIGINT or SIGHUP has come. Gives the sockets that bring it there, to
    be kept as long as that shall be so."""
    wake_read, wake_write = socket.socketpair()
    wake_read.setblocking(False)
    wake_write.setblocking(False)
    signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
    for number in _ENDING:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the guardian had these blocked until now

    def wake(_events: int) -> None:
        wake_read.recv(_READ_BYTES)
        heard()

    selector.register(wake_read, selectors.EVENT_READ, wake)
    return wake_read, wake_write
