"""The frames of connections, out of their segments: put in order, each once, whatever the network did with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Final

from erlbridge.errors import FrameError
from erlbridge.limits import MAX_WORKER_FRAME_BYTES
from erlbridge.tools.packets import Segment
from erlbridge.wire.capture import HOST, Damage, Entry, Note, Record, likely_direction
from erlbridge.wire.frames import HEADER_BYTES, FrameReader

_MOST_STREAMS: Final = 256
_MOST_EARLY_BYTES: Final = 8 * 1024 * 1024
"""Of segments behind a gap. What is missing then was not captured."""
_MOST_EARLY: Final = 4096
_WRAP: Final = 2**32
_VERSION_MAGIC: Final = 131


def frames_of(segments: Iterable[Segment | Damage]) -> Iterator[Entry]:
    """A `Record` for each frame, a note `stream` where another connection begins (`from`, `to`), and a `Damage` for
    what was not captured."""
    streams: dict[tuple[str, str], _Stream] = {}
    number = 0
    for segment in segments:
        if isinstance(segment, Damage):
            yield segment
            continue
        if not segment.data and not segment.opens:
            continue
        key = (segment.source, segment.target)
        stream = streams.get(key)
        if stream is None:
            if len(streams) == _MOST_STREAMS:
                continue
            stream = streams[key] = _Stream()
            if segment.source:
                facts = {"from": segment.source, "to": segment.target}
                yield Note(number + 1, "stream", facts, segment.time_ns, segment.time_ns, segment.offset)
        for found in stream.take(segment):
            if isinstance(found, Damage):
                yield found
                continue
            number += 1
            direction = likely_direction(found)
            times = (segment.time_ns, segment.time_ns)
            yield Record(number, HOST, direction, *times, len(found), found, segment.offset)


class _Stream:
    """One direction of a connection. What does not begin with a frame is passed over until a segment does."""

    def __init__(self) -> None:
        self._next: int | None = None
        """The place of the next byte: its sequence number, counted on beyond the wrap."""
        self._early: dict[int, bytes] = {}
        self._places: list[int] = []
        """Those of `_early` as a heap, so that many gaps cost no search each."""
        self._early_bytes = 0
        self._reader: FrameReader | None = None

    def take(self, segment: Segment) -> Iterator[bytes | Damage]:
        if segment.sequence is None:
            yield from self._feed(segment.data, segment.offset)
            return
        sequence = segment.sequence
        if segment.opens:
            sequence = (sequence + 1) % _WRAP
            self._next, self._reader, self._early_bytes = sequence, None, 0  # a new connection of the same ends
            self._early.clear()
            self._places.clear()
        if self._next is None:
            self._next = sequence
        ahead = (sequence - self._next + _WRAP // 2) % _WRAP - _WRAP // 2
        if ahead < 0:  # sent once more, perhaps with more behind it
            yield from self._follow(segment.data[-ahead:], segment.offset)
        elif ahead:
            self._keep(self._next + ahead, segment.data)
            if self._early_bytes > _MOST_EARLY_BYTES or len(self._early) > _MOST_EARLY:
                yield from self._skip(segment.offset)
        else:
            yield from self._follow(segment.data, segment.offset)

    def _keep(self, place: int, data: bytes) -> None:
        """Keeps what came too early; of the same twice the longer one."""
        known = self._early.get(place)
        if known is None:
            heappush(self._places, place)
        if known is None or len(known) < len(data):
            self._early[place] = data
            self._early_bytes += len(data) - len(known or b"")

    def _follow(self, data: bytes, offset: int) -> Iterator[bytes | Damage]:
        """Takes the next bytes, and what came too early and follows them."""
        assert self._next is not None  # noqa: S101 - set with the first segment
        while data:
            yield from self._feed(data, offset)
            self._next += len(data)
            data = b""
            while not data and self._places and self._places[0] <= self._next:
                place = self._places[0]
                data = self._take_early()[self._next - place :]

    def _take_early(self) -> bytes:
        data = self._early.pop(heappop(self._places))
        self._early_bytes -= len(data)
        return data

    def _skip(self, offset: int) -> Iterator[bytes | Damage]:
        """Gives up what is missing."""
        assert self._next is not None  # noqa: S101 - set with the first segment
        nearest = self._places[0]
        yield Damage(offset, 0, f"{nearest - self._next} bytes of the connection were not captured")
        self._reader, self._next = None, nearest
        yield from self._follow(self._take_early(), offset)

    def _feed(self, data: bytes, offset: int) -> Iterator[bytes | Damage]:
        if self._reader is None:
            if not _begins_a_frame(data):
                yield Damage(offset, len(data), "bytes of a connection that begin no frame")
                return
            self._reader = FrameReader(MAX_WORKER_FRAME_BYTES)
        self._reader.feed(data)
        try:
            yield from self._reader
        except FrameError as error:
            self._reader = None
            yield Damage(offset, len(data), str(error))


def _begins_a_frame(data: bytes) -> bool:
    length = int.from_bytes(data[:HEADER_BYTES])
    return length <= MAX_WORKER_FRAME_BYTES and data[HEADER_BYTES : HEADER_BYTES + 1] in (b"", bytes([_VERSION_MAGIC]))
