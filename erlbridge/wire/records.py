"""Frames that wait to be written to a capture, put behind each other as its records: what the loop of a node hands over
costs it one copy. Checksums and times of the wall come in later, and secrets go out.

In use is the compiled twin where there is one; both give the same bytes, those of `capture`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from erlbridge.codec import IMPLEMENTATION
from erlbridge.codec.tags import COMPRESSED
from erlbridge.wire.capture import CHECKSUM, FRAME, HEADER, MARKER, OUT, RECORD_HEADER_BYTES, Direction

__all__ = ["PureRecords", "Records", "Taken", "WaitingFrame", "pure_seal_records", "seal_records", "waiting_frames"]


class Taken(NamedTuple):
    """What there is to know of records that waited.

    Attributes:
        frames: How many they are.
        packed: Whether a frame among them holds a compressed term.
        number: That of the last frame, the lost ones counted.
        lost: Frames that came after these and found no room.
        lost_bytes: Theirs.
    """

    frames: int
    packed: bool
    number: int
    lost: int
    lost_bytes: int


class WaitingFrame(NamedTuple):
    """A frame out of records."""

    number: int
    wire: int
    direction: Direction
    monotonic_ns: int
    size: int
    frame: bytes


class PureRecords:
    """Frames as records that wait; `number` counts them from 1.

    Args:
        take_bytes: How much of a frame waits: more than is kept, as a secret may stand across the end of that.
        most_bytes: How much may wait. What finds no room is lost, and all behind it until `take`.
        wake: Called when something waits after nothing did.
        now_ns: The monotonic clock.
    """

    def __init__(self, take_bytes: int, most_bytes: int, wake: Callable[[], object], now_ns: Callable[[], int]) -> None:
        if not 0 <= take_bytes < 1 << 31 or most_bytes < 0:
            raise ValueError("expected 0 <= take_bytes < 2 GiB and 0 <= most_bytes")
        self._take_bytes = take_bytes
        self._most_bytes = most_bytes
        self._wake = wake
        self._now_ns = now_ns
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._content = bytearray()
        self._frames = self._lost = self._lost_bytes = 0
        self._packed = False

    def add(self, wire: int, direction: Direction, frame: bytes | memoryview, at_ns: int | None = None, /) -> None:
        """Adds a frame of now, or of that time on the monotonic clock."""
        came_at_ns = self._now_ns() if at_ns is None else at_ns
        first = not self._content and not self._lost
        self._number += 1
        size = len(frame)
        kept = min(size, self._take_bytes)
        waiting = len(self._content)
        if self._lost or (waiting and waiting + RECORD_HEADER_BYTES + kept > self._most_bytes):
            self._lost += 1
            self._lost_bytes += size
        else:
            flags = OUT if direction == "out" else 0
            head = HEADER.pack(MARKER, FRAME, flags, 0, wire, self._number, came_at_ns, 0, size, kept, 0)
            self._content += head + bytes(CHECKSUM.size)
            self._content += frame[:kept]
            self._frames += 1
            self._packed = self._packed or (size > 1 and frame[1] == COMPRESSED)
        if first:
            self._wake()

    def take(self, content: bytearray, /) -> tuple[int, bool, int, int, int]:
        """Fills a bytearray with what waits, without checksums and times of the wall, and gives the fields of `Taken`;
        nothing waits any more then. With one that is used again and again, no memory comes and goes."""
        content[:] = self._content
        taken = (self._frames, self._packed, self._number, self._lost, self._lost_bytes)
        self._begin()
        return taken


def pure_seal_records(content: bytearray, offset_ns: int, keep_bytes: int, /) -> int:
    """Makes records of what was taken, in its place: puts in checksums and times of the wall, which are `offset_ns`
    after those of the monotonic clock, and cuts longer frames. Gives how many bytes that are; what stands behind them
    means nothing. Raises `ValueError` when these are not whole records."""
    at = to = 0
    while at < len(content):
        end = _end(content, at)
        marker, kind, flags, zero, wire, number, monotonic_ns, _, size, waiting, _ = HEADER.unpack_from(content, at)
        frame = content[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + min(waiting, max(0, keep_bytes))]
        wall_ns, kept = monotonic_ns + offset_ns, len(frame)
        head = HEADER.pack(marker, kind, flags, zero, wire, number, monotonic_ns, wall_ns, size, kept, crc32(frame))
        record = head + CHECKSUM.pack(crc32(head)) + frame
        content[to : to + len(record)] = record
        at, to = end, to + len(record)
    return to


if IMPLEMENTATION == "compiled":
    from erlbridge.codec._compiled import Records, seal_records
else:  # a class of the same calls, not the same class
    Records = PureRecords  # type: ignore[misc,assignment]
    seal_records = pure_seal_records


def waiting_frames(content: bytearray) -> Iterator[WaitingFrame]:
    """The frames of records that were taken. Raises `ValueError` when these are not whole records."""
    at = 0
    while at < len(content):
        end = _end(content, at)
        _, _, flags, _, wire, number, monotonic_ns, _, size, _, _ = HEADER.unpack_from(content, at)
        frame = bytes(content[at + RECORD_HEADER_BYTES : end])
        yield WaitingFrame(number, wire, "out" if flags & OUT else "in", monotonic_ns, size, frame)
        at = end


_KEPT: Final = slice(40, 44)
"""Where a header tells the length of what follows it."""


def _end(content: bytearray, at: int) -> int:
    """Where the record ends that begins there."""
    head = content[at : at + RECORD_HEADER_BYTES]
    end = at + RECORD_HEADER_BYTES + int.from_bytes(head[_KEPT])
    if len(head) < RECORD_HEADER_BYTES or not head.startswith(MARKER) or end > len(content):
        raise ValueError("expected whole records")
    return end
