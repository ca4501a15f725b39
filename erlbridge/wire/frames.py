"""Frames of `{:packet, 4}`: a 4-byte big-endian length, then exactly that many bytes. Sans-IO: bytes in, frames out.

Knows lengths; knows neither terms nor descriptors. The same reader and writer serve the host's pipe and the
workers' sockets.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from itertools import islice
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Final

from erlbridge.errors import FrameError
from erlbridge.limits import MAX_FRAME_BYTES

HEADER_BYTES: Final = 4
_LENGTH: Final = struct.Struct(">I")

_SCRATCH_BYTES: Final = 256 * 1024
_AHEAD_BYTES: Final = 4 * 1024
_SHORT_BYTES: Final = 16 * 1024
_KEPT_BYTES: Final = 2 * 1024 * 1024
"""Longest frame whose room is kept for the next one: chunks of transfers, which come by the thousand. Memory that is
had from the system and given back for each costs more than all else that is done with them."""


class FrameReader:
    """Turns a stream of bytes, cut anywhere, into whole frames.

    The bytes are given to `feed`, or read into what `room` gives and told to `filled`, which saves a copy of them.

    A length above `limit_bytes` raises `FrameError` as soon as its header is there, before anything is kept for it;
    the stream has no next boundary after that.

    >>> reader = FrameReader()
    >>> reader.feed(b"\\x00\\x00\\x00\\x02hi\\x00\\x00")
    >>> list(reader)
    [b'hi']
    >>> reader.pending_bytes
    2
    """

    def __init__(self, limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.received_bytes = 0
        self._buffer = bytearray()
        """What no frame has been made of, from `_at` on; what comes behind the long one that is being read, where one
        is."""
        self._at = 0
        self._scratch: bytearray | None = None
        self._long: bytearray | mmap = bytearray()
        """Where long frames are read to, one after the other."""
        self._length = 0
        """Of the one that is being read there, 0 for none."""
        self._there = 0
        self._ahead = _SCRATCH_BYTES
        """How much is read before it is known what comes: little, where the last frame was a long one."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has begun and is not whole yet."""
        return len(self._buffer) - self._at + (HEADER_BYTES + self._there if self._length else 0)

    def feed(self, data: bytes | memoryview) -> None:
        """Takes the next bytes of the stream, any number of them. They are copied; iterating gives the frames."""
        part = min(len(data), self._length - self._there)
        if part:
            self._long[self._there : self._there + part] = data[:part]
            self._there += part
        self._drop()
        self._buffer += data[part:]
        self.received_bytes += len(data)

    def room(self) -> list[memoryview]:
        """Where the next bytes of the stream may be read to, in this order, until `filled` is called."""
        if self._scratch is None:
            self._scratch = bytearray(_SCRATCH_BYTES)
        if not self._length:
            return [memoryview(self._scratch)[: self._ahead]]
        # Only the next header and a little with it: what is read behind a long frame is copied.
        return [memoryview(self._long)[self._there : self._length], memoryview(self._scratch)[:_AHEAD_BYTES]]

    def filled(self, count: int) -> None:
        """Says that `count` bytes have been read into what `room` gave, from its beginning."""
        assert self._scratch is not None  # noqa: S101 - `room` has been asked for
        part = min(count, self._length - self._there)
        self._there += part
        self._drop()
        self._buffer += memoryview(self._scratch)[: count - part]
        self.received_bytes += count

    def __iter__(self) -> Iterator[bytes]:
        """Yields the frames that are whole. Raises `FrameError` for a length above the limit."""
        for frame in self.views():
            yield bytes(frame)

    def views(self) -> Iterator[bytes | memoryview]:
        """The same; a long frame as a view that is good until the next frame is asked for."""
        while True:
            if self._length:
                if self._there < self._length:
                    return
                length, self._length, self._there = self._length, 0, 0
                self._ahead = _AHEAD_BYTES
                frame = memoryview(self._long)[:length].toreadonly()
                if length > _KEPT_BYTES:
                    self._long = bytearray()
                yield frame
                del frame
            elif (short := self._next()) is not None:
                self._ahead = _SCRATCH_BYTES
                yield short
            else:
                self._begin_long()
                return

    def _begin_long(self) -> None:
        """Has the rest of the frame that has begun read where it stays, when it is long enough for that to count."""
        begun = len(self._buffer) - HEADER_BYTES
        if begun < 0:
            return
        length = int.from_bytes(self._buffer[:HEADER_BYTES])
        if length <= _SCRATCH_BYTES:
            return
        if length > _KEPT_BYTES:
            # Only what is written to takes memory: a header alone takes none. Shared, as `mmap` has it by default, it
            # would cost half as much again and count as a file's.
            self._long = mmap(-1, length, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        elif len(self._long) < length:
            self._long = bytearray(min(length + length // 8, _KEPT_BYTES))
        self._long[:begun] = self._buffer[HEADER_BYTES:]
        self._buffer.clear()
        self._length, self._there = length, begun

    def _next(self) -> bytes | None:
        buffer, begin = self._buffer, self._at + HEADER_BYTES
        if len(buffer) < begin:
            self._drop()
            return None
        (length,) = _LENGTH.unpack_from(buffer, self._at)
        if length > self.limit_bytes:
            raise FrameError(
                f"frame of {length} bytes, limit {self.limit_bytes}; send it as a transfer, or raise max_frame_bytes",
                context={"limit": self.limit_bytes},
            )
        end = begin + length
        if len(buffer) < end:
            self._drop()
            return None
        self._at = end
        return bytes(memoryview(buffer)[begin:end])

    def _drop(self) -> None:
        """Lets go of what frames have been made of: once for many, and before more comes."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0


class FrameWriter:
    """Queues frames for a descriptor that may take only part of them at a time.

    `buffers` gives what to hand to `writev`; `advance` drops what was written.

    >>> writer = FrameWriter()
    >>> writer.add(b"hi")
    >>> b"".join(writer.buffers())
    b'\\x00\\x00\\x00\\x02hi'
    >>> writer.advance(5)
    >>> b"".join(writer.buffers()), writer.pending_bytes
    (b'i', 1)
    """

    def __init__(self, limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.pending_bytes = 0
        self._buffers: deque[memoryview] = deque()
        self._short: list[bytes] = []
        """Behind those: headers and short frames that become one buffer, since one for each costs more than their
        bytes."""

    def add(self, frame: bytes) -> None:
        """Queues one frame. Raises `FrameError` when it is above the limit; nothing is queued then."""
        if len(frame) > self.limit_bytes:
            raise FrameError(
                f"frame of {len(frame)} bytes, limit {self.limit_bytes}", context={"limit": self.limit_bytes}
            )
        self._short.append(_LENGTH.pack(len(frame)))
        if len(frame) <= _SHORT_BYTES:
            self._short.append(frame)
        else:
            self._join()
            self._buffers.append(memoryview(frame))
        self.pending_bytes += HEADER_BYTES + len(frame)

    def buffers(self, most: int = 64) -> list[memoryview]:
        """The first buffers still to be written, at most `most` of them (a kernel takes 1,024 in one call)."""
        self._join()
        return list(islice(self._buffers, most))

    def advance(self, written_bytes: int) -> None:
        """Drops the first `written_bytes` of what is queued."""
        self.pending_bytes -= written_bytes
        while written_bytes:
            first = self._buffers[0]
            if written_bytes < len(first):
                self._buffers[0] = first[written_bytes:]
                return
            written_bytes -= len(first)
            self._buffers.popleft()

    def _join(self) -> None:
        if self._short:
            self._buffers.append(memoryview(b"".join(self._short)))
            self._short.clear()
