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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from erlbridge.limits import MAX_RESPONSE_BYTES
from erlbridge.programs.guard import Guard

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_ESTABLISHED: Final = 1
_SYN: Final = 1
"""What opens a connection counts as a byte that was taken."""

_TCP_INFO: Final = struct.Struct("@B43xI72xQQ")
"""The state, milliseconds since data were last sent, bytes that the other end has taken, bytes received: their places
in `struct tcp_info` of Linux's `tcp.h`, which only grows at its end."""

_LOOK_S: Final = 0.02
"""How often it asks whether the job must stop."""

_INSPECT_SHARE: Final = 50
"""It looks at each connection as often, since what an endless answer brings meanwhile is held in memory; but where
there are many, for no more than such a part of its time."""

_OUT_S: Final = 0.005
"""A request whose last bytes went out so long ago is whole. One that is not yet is let out first: it was counted."""

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
                    if _is_waiting(connection):
                        _cut(connection)
            elif time.monotonic() >= self._inspect_at:
                self._inspect()
                self._inspect_at = self._inspected_at + _INSPECT_SHARE * (time.monotonic() - self._inspected_at)

    def _inspect(self) -> None:
        now = time.monotonic()
        since_s, self._inspected_at = now - self._inspected_at, now
        before, self._received = self._received, {}
        for connection in _connections():
            found = _traffic(connection)
            if found is None or not found.established:
                continue
            # What had come before the last request, as exactly as one looks.
            earlier = found.received if found.sent_s <= since_s else before.get(found.inode, 0)
            self._received[found.inode] = earlier
            if excess := self._excess(found.sent_s, found.received - earlier):
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
    """The connections that this process has opened to the internet, each for the moment in which it is looked at;
    others keep owning them. Those that it has accepted are nobody's calls."""
    ports: dict[int, int] = {}
    listening: set[int] = set()
    for descriptor in _descriptors():
        with _borrowed(descriptor) as connection, suppress(OSError):
            if connection is None or connection.family not in _FAMILIES or connection.type != socket.SOCK_STREAM:
                continue
            ports[descriptor] = port = connection.getsockname()[1]
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.add(port)
    for descriptor, port in ports.items():
        if port not in listening:
            with _borrowed(descriptor) as connection:
                if connection is not None:
                    yield connection


def _descriptors() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no descriptor is left to list them with
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return range(min(soft, _MOST_DESCRIPTORS))


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # no socket, or closed meanwhile
        yield None
        return
    try:
        yield connection
    finally:
        connection.detach()


@dataclass(frozen=True, slots=True)
class _Traffic:
    """What the kernel knows of a connection; `sent_s` is how long ago data last went out."""

    inode: int
    established: bool
    sent_s: float
    taken: int
    received: int


def _traffic(connection: socket.socket) -> _Traffic | None:
    try:
        found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        inode = os.fstat(connection.fileno()).st_ino
    except OSError:
        return None  # closed meanwhile
    if len(found) < _TCP_INFO.size:
        return None
    state, sent_ms, taken, received = _TCP_INFO.unpack(found)
    return _Traffic(inode, state == _ESTABLISHED, sent_ms / 1000, taken, received)


def _is_waiting(connection: socket.socket) -> bool:
    """Whether nothing more of a request is on its way out of here."""
    found = _traffic(connection)
    return found is None or not found.established or (found.taken > _SYN and found.sent_s >= _OUT_S)


def _cut(connection: socket.socket) -> None:
    """Ends both directions under whoever waits on them; the descriptor stays theirs to close."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
