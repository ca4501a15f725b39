"""A host's end of a wire: frames to a node's descriptor and from another, with neither side waiting for the other."""

from __future__ import annotations

import math
import os
import select
import time
from collections import deque
from typing import Final

from erlbridge.errors import BridgeError
from erlbridge.wire.frames import HEADER_BYTES, FrameReader

_LONGEST_FRAME: Final = 2**31 - 1
"""Whatever the node's own limit is: what it sends is taken."""
_READ_BYTES: Final = 1 << 18


class WireClosed(BridgeError):
    """The node has closed its end, or this end is closed."""


class WireEnd:
    """Two descriptors of a host. For one thread; they are closed by `close`.

    While a frame is written, what the node says meanwhile is read: a node whose answers nobody takes reads no further.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self._open = True
        self._writing = True
        self._reader = FrameReader(_LONGEST_FRAME)
        self._frames: deque[bytes] = deque()
        self._ended = False
        os.set_blocking(outgoing, False)

    def send(self, frame: bytes) -> None:
        """Writes a frame, whole. Raises `WireClosed`."""
        left = memoryview(len(frame).to_bytes(HEADER_BYTES) + frame)
        while left:
            if not self._writing:
                raise WireClosed("the wire is closed")
            told = _told(self._watched() | {self.outgoing: select.POLLOUT}, None)
            if self.incoming in told:
                self._read()
            if self.outgoing in told:
                try:
                    left = left[os.write(self.outgoing, left) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise WireClosed(f"the node takes nothing more: {error.strerror}") from None

    def receive(self, timeout_s: float | None = None, wake: int | None = None) -> bytes | None:
        """The next frame; None when there is none within the time, or when `wake`, a descriptor, has become readable.

        Raises `WireClosed` at the end of what the node has said, `FrameError` when framing is lost.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._frames:
            if self._ended or not self._open:
                raise WireClosed("the node has closed the wire")
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            told = _told(self._watched() if wake is None else self._watched() | {wake: select.POLLIN}, left_s)
            if self.incoming in told:
                self._read()
            elif told or (deadline is not None and time.monotonic() >= deadline):
                return None
        return self._frames.popleft()

    def close_writing(self) -> None:
        """Closes the way to the node, which then ends."""
        if self._writing:
            self._writing = False
            os.close(self.outgoing)

    def close(self) -> None:
        """Closes both ways."""
        self.close_writing()
        if self._open:
            self._open = False
            os.close(self.incoming)

    def _watched(self) -> dict[int, int]:
        return {} if self._ended else {self.incoming: select.POLLIN}

    def _read(self) -> None:
        data = os.read(self.incoming, _READ_BYTES)
        self._ended = not data
        self._reader.feed(data)
        self._frames.extend(self._reader)


def _told(watched: dict[int, int], timeout_s: float | None) -> set[int]:
    """The descriptors that have something to tell. By `poll`: a host may have more of them than `select` takes."""
    poll = select.poll()
    for descriptor, events in watched.items():
        poll.register(descriptor, events)
    return {told for told, _ in poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))}
