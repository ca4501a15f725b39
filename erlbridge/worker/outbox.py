"""The worker's frames to the node, from any thread, each whole."""

from __future__ import annotations

import socket
import threading
from collections import deque

from erlbridge.limits import MAX_LOG_LINES
from erlbridge.wire.frames import HEADER_BYTES


class Outbox:
    """Sends frames one after the other. `send` waits until a frame is out; `offer` never waits for another thread.

    The collector may run a destructor that logs on the very thread that is sending: what it offers goes out behind.
    """

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._offered: deque[bytes] = deque()

    def send(self, frame: bytes) -> None:
        """Writes a frame, and behind it what has been offered meanwhile."""
        with self._lock:
            self._write(frame)
        self._send_offered()

    def offer(self, frame: bytes) -> bool:
        """Writes a frame now, or behind the one that is being written. False when too many wait for that."""
        if len(self._offered) >= MAX_LOG_LINES:
            return False
        self._offered.append(frame)
        self._send_offered()
        return True

    def _send_offered(self) -> None:
        # Whoever holds the lock comes here when he has released it, so nothing that is offered meanwhile stays.
        while self._offered and self._lock.acquire(blocking=False):
            try:
                while self._offered:
                    self._write(self._offered.popleft())
            finally:
                self._lock.release()

    def _write(self, frame: bytes) -> None:
        self._wire.sendall(len(frame).to_bytes(HEADER_BYTES) + frame)
