"""Ends the model calls of a job from outside: when the job must stop, or when one call takes too long or too much.

Whoever asks a model waits in a system call, which no flag and no exception reaches, and its client's timeout counts
from byte to byte: an endpoint that says nothing, or a byte at a time, or bytes without end, keeps it there. So the
connection itself is shut down under the call, whichever client made it: all that a worker has over a network belongs
to its one job. What the kernel counts of a connection tells how long ago its last request went out, and how much has
come since. Knows sockets and times; what becomes of a call that was ended is the guard's.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from erlbridge.limits import MAX_RESPONSE_BYTES
from erlbridge.programs.guard import Guard

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_ESTABLISHED: Final = 1
_LAST_DATA_SENT: Final = struct.Struct("@44xI")
_BYTES_RECEIVED: Final = struct.Struct("@128xQ")
"""Their places in `struct tcp_info` of Linux's `tcp.h`, which only grows at its end."""

_LOOK_S: Final = 0.02
"""How often it asks whether the job must stop."""

_INSPECT_SHARE: Final = 50
"""It looks at each connection as often, since what an endless answer brings meanwhile is held in memory; but where
there are many, for no more than such a part of its time."""

_SLACK_S: Final = 0.25
"""An endpoint that says nothing is left by the client, whose error says so; this is for one that keeps it busy."""

_MOST_DESCRIPTORS: Final = 65_536

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call may take.

    Args:
        seconds: From its request to the end of its answer; None where an answer is streamed.
        most_bytes: Of its answer, as they come over the line.
    """

    seconds: float | None
    most_bytes: int = MAX_RESPONSE_BYTES


@contextmanager
def leashed(guard: Guard, bounds: Bounds) -> Iterator[None]:
    """Within the block no call outlives the job's reason to stop, or its bounds, by more than an instant."""
    over = threading.Event()
    thread = threading.Thread(target=_Leash(guard, bounds).watch, args=(over,), name="erlbridge-leash", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Leash:
    def __init__(self, guard: Guard, bounds: Bounds) -> None:
        self._guard = guard
        self._bounds = bounds
        self._inspected_at = self._inspect_at = time.monotonic()
        self._received: dict[int, int] = {}

    def watch(self, over: threading.Event) -> None:
        while not over.wait(_LOOK_S):
            if self._guard.minds_its_connections:
                continue
            if self._guard.must_end_calls():
                for connection in _connections():
                    _cut(connection)
            elif time.monotonic() >= self._inspect_at:
                self._inspect()
                self._inspect_at = self._inspected_at + _INSPECT_SHARE * (time.monotonic() - self._inspected_at)

    def _inspect(self) -> None:
        now = time.monotonic()
        since_s, self._inspected_at = now - self._inspected_at, now
        before, self._received = self._received, {}
        for connection in _connections():
            try:
                found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
                if len(found) < _BYTES_RECEIVED.size or found[0] != _ESTABLISHED:
                    continue
                inode = os.fstat(connection.fileno()).st_ino
            except OSError:
                continue  # closed meanwhile
            sent_s = _LAST_DATA_SENT.unpack_from(found)[0] / 1000
            (received,) = _BYTES_RECEIVED.unpack_from(found)
            # What had come before the last request, as exactly as one looks.
            self._received[inode] = earlier = received if sent_s <= since_s else before.get(inode, 0)
            if excess := self._excess(sent_s, received - earlier):
                _log.warning("a connection to a model's endpoint was closed: %s", excess)
                _cut(connection)

    def _excess(self, sent_s: float, answered: int) -> str | None:
        limit_s, most_bytes = self._bounds.seconds, self._bounds.most_bytes
        if answered > most_bytes:
            return f"{answered} bytes of answer, limit {most_bytes}"
        if limit_s is not None and sent_s > limit_s + _SLACK_S:
            return f"its last request went out {sent_s:.1f} s ago, limit {limit_s:g}"
        return None


def _connections() -> Iterator[socket.socket]:
    """This process's sockets of the internet, each for the moment in which it is looked at; others keep owning them."""
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no descriptor is left to list them with
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = list(range(min(soft, _MOST_DESCRIPTORS)))
    for descriptor in descriptors:
        try:
            connection = socket.socket(fileno=descriptor)
        except OSError:
            continue
        try:
            if connection.family in _FAMILIES and connection.type == socket.SOCK_STREAM:
                yield connection
        finally:
            connection.detach()


def _cut(connection: socket.socket) -> None:
    """Ends both directions under whoever waits on them; the descriptor stays theirs to close."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
