"""The format of a capture: every frame of every wire, with its direction and its times, as records in a file.

A file is a header of 16 bytes and records, each of which stands for itself: it begins with a marker and holds its own
lengths and checksums, so that records can be appended to what a crash cut off, and read behind what a disk damaged. All
numbers are big-endian. `docs/capture.md` describes every byte. Sans-IO: bytes in, entries out, and back.

>>> record = Record(1, HOST, "in", 5, 7, 3, b"\\x83j\\x00")
>>> reader = CaptureReader()
>>> reader.feed(FILE_HEADER + encoded(record)[:-1])
>>> list(reader), reader.pending_bytes
([], 54)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final, Literal, TypeAlias
from zlib import crc32

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_WORKER_FRAME_BYTES
from erlbridge.wire.vocabulary import MESSAGES

MAGIC: Final = b"\x8fecap\r\n\x1a"
"""No frame's length and no text: its first byte is above every limit of a frame, and a transfer that changes ends of
lines breaks it."""

VERSION: Final = 1
FILE_HEADER: Final = MAGIC + VERSION.to_bytes(4) + bytes(4)
"""The magic, the version of the format and four bytes that are kept for later."""

MARKER: Final = b"\xf5rec"
"""How every record begins. The first byte stands in no UTF-8 text."""

RECORD_HEADER_BYTES: Final = 52
HOST: Final = 0
"""The wire between host and node; every other number is that of a worker."""

Direction: TypeAlias = Literal["in", "out"]
"""As the node sees it: `in` it has read, `out` it has sent."""

HEADER: Final = Struct(">4sBBHIQqqIII")
CHECKSUM: Final = Struct(">I")
FRAME: Final = 1
_NOTE: Final = 2
OUT: Final = 1
_REDACTED: Final = 2
_MAX_NOTE_BYTES: Final = 64 * 1024
_MOST_NESTED: Final = 8
"""Damaged records within each other that are looked into, and so how often a byte is summed in vain at most. One lies
within another where a crash has cut that off, or where a frame holds a capture."""
_TOO_NESTED: Final = f"records without their checksums, more than {_MOST_NESTED} within each other: not looked into"


class CaptureError(ValueError):
    """Bytes that are no capture, or one of a later version."""


@dataclass(frozen=True, slots=True)
class Record:
    """One frame.

    Attributes:
        number: From 1 since this node began to capture, over all files; a gap where frames were lost.
        wire: `HOST`, or the number of a worker.
        direction: As the node sees it.
        monotonic_ns: Of the node's own clock that never goes back.
        wall_ns: Since 1970.
        size: The frame's bytes on the wire, without its length.
        frame: What was kept of them: fewer when it was long.
        offset: Where the record begins in its file.
        redacted: Whether bytes of it were written over.
    """

    number: int
    wire: int
    direction: Direction
    monotonic_ns: int
    wall_ns: int
    size: int
    frame: bytes
    offset: int = 0
    redacted: bool = False

    @property
    def cut(self) -> bool:
        """Whether only the frame's beginning was kept."""
        return len(self.frame) < self.size

    @property
    def wire_name(self) -> str:
        """The name of its wire: `host`, or `worker 3`."""
        return wire_name(self.wire)


@dataclass(frozen=True, slots=True)
class Note:
    """What a capture says of itself: `opened` begins each file, `lost` tells of frames that were not kept (`frames`,
    `bytes`), `closed` of its end (`reason`). `number` is that of the next frame."""

    number: int
    name: str
    facts: Mapping[str, object]
    monotonic_ns: int
    wall_ns: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a capture that are no record."""

    offset: int
    size: int
    problem: str


Entry: TypeAlias = Record | Note | Damage


def wire_name(wire: int) -> str:
    """The name of a wire by its number: `host` for 0, else `worker 3`."""
    return "host" if wire == HOST else f"worker {wire}"


def likely_direction(frame: bytes) -> Direction:
    """The direction of a frame between host and node, where nothing but the frame is known: what begins with the name
    of a message is the node's.

    >>> [likely_direction(term_to_binary((Atom(name), 1, None))) for name in ("ok", "predict")]
    ['out', 'in']
    """
    return "out" if frame.startswith(_NODES_OWN) else "in"


_NODES_OWN: Final = tuple(
    head + term_to_binary(Atom(name))[1:]
    for name in MESSAGES
    for head in (b"\x83h\2", b"\x83h\3", b"\x83h\4", b"\x83h\5")
)

# -- writing ---------------------------------------------------------------------------------------------------------


def frame_header(  # noqa: PLR0917 - once for each frame, where names cost
    wire: int,
    direction: Direction,
    number: int,
    monotonic_ns: int,
    wall_ns: int,
    size: int,
    kept: bytes,
    redacted: bool,
) -> bytes:
    """What stands in front of a frame's bytes."""
    flags = (OUT if direction == "out" else 0) | (_REDACTED if redacted else 0)
    head = HEADER.pack(MARKER, FRAME, flags, 0, wire, number, monotonic_ns, wall_ns, size, len(kept), crc32(kept))
    return head + CHECKSUM.pack(crc32(head))


def encoded(entry: Record | Note) -> bytes:
    """An entry as the bytes of a file: its header with the checksums, and its frame or note."""
    match entry:
        case Record():
            return (
                frame_header(
                    entry.wire,
                    entry.direction,
                    entry.number,
                    entry.monotonic_ns,
                    entry.wall_ns,
                    entry.size,
                    entry.frame,
                    entry.redacted,
                )
                + entry.frame
            )
        case Note():
            facts = {Atom(name): fact.encode() if isinstance(fact, str) else fact for name, fact in entry.facts.items()}
            body = term_to_binary((Atom(entry.name), facts))
            head = HEADER.pack(
                MARKER,
                _NOTE,
                0,
                0,
                0,
                entry.number,
                entry.monotonic_ns,
                entry.wall_ns,
                len(body),
                len(body),
                crc32(body),
            )
            return head + crc32(head).to_bytes(4) + body


# -- reading ---------------------------------------------------------------------------------------------------------


class CaptureReader:
    """Turns the bytes of a file, cut anywhere, into entries. What is damaged is one `Damage`, and reading goes on at
    the next whole record.

    Args:
        headless: Takes what does not begin as a capture for one whose first bytes are damaged.

    Raises `CaptureError` while iterated when the bytes are no capture at all, or one of a later version.
    """

    def __init__(self, *, headless: bool = False) -> None:
        self.offset = 0
        """Of the first byte that no entry has been made of."""
        self._buffer = bytearray()
        self._begun = headless
        self._damaged_from: int | None = None
        self._problem = ""
        self._claimed: list[int] = []
        """Where damaged records end that have begun before here, by what they say of themselves."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a record that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> None:
        """Takes the next bytes of the file, cut anywhere; iterating gives the entries that are whole."""
        self._buffer += data

    def __iter__(self) -> Iterator[Entry]:
        """The entries that are whole."""
        if not self._begun and not self._begin():
            return
        while len(self._buffer) >= RECORD_HEADER_BYTES:
            found = self._next()
            if found is None:
                return
            yield from found

    def finish(self) -> Iterator[Entry]:
        """What is left when no more bytes come: a record that was cut off."""
        yield from self
        while self._buffer and self._begun:
            # What a crash has cut off may have others behind it, which are not as long as it was to be.
            self._pass_over("the file ends inside a record", min(len(self._buffer), RECORD_HEADER_BYTES))
            yield from self
        yield from self._damage()

    def _begin(self) -> bool:
        head = bytes(self._buffer[: len(FILE_HEADER)])
        if head[: len(MAGIC)] != MAGIC[: len(head)]:
            raise CaptureError("no capture: it does not begin as one")
        if len(head) < len(FILE_HEADER):
            return False
        if (version := int.from_bytes(head[8:12])) != VERSION:
            raise CaptureError(f"a capture of version {version}; this erlbridge reads version {VERSION}")
        self._begun = True
        self._drop(len(FILE_HEADER))
        return True

    def _next(self) -> list[Entry] | None:
        """The next entries, none when bytes were passed over; None when more bytes are needed."""
        head = bytes(self._buffer[:RECORD_HEADER_BYTES])
        if head[:4] != MARKER or crc32(head[:-4]) != int.from_bytes(head[-4:]):
            return self._pass_over("no record begins here" if head[:4] != MARKER else "a record's header is damaged", 1)
        _, kind, flags, _, wire, number, monotonic_ns, wall_ns, size, length, checksum = HEADER.unpack_from(head)
        if length > MAX_WORKER_FRAME_BYTES:
            return self._pass_over(f"a record of {length} bytes, limit {MAX_WORKER_FRAME_BYTES}", 1)
        end = RECORD_HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view, view[RECORD_HEADER_BYTES:end] as there:
            body = bytes(there) if crc32(there) == checksum else None
        if body is None:
            return self._look_into(end)
        entries: list[Entry] = [*self._damage()]
        offset = self.offset
        self._drop(end)
        if kind == FRAME:
            direction: Direction = "out" if flags & OUT else "in"
            redacted = bool(flags & _REDACTED)
            entries.append(Record(number, wire, direction, monotonic_ns, wall_ns, size, body, offset, redacted))
        elif kind == _NOTE:
            entries.append(_note(body, number, monotonic_ns, wall_ns, offset))
        return entries  # what is neither comes from a later version, which says something that need not be known

    def _look_into(self, end: int) -> list[Entry]:
        """Goes on inside a record that does not have its checksum, or behind it when it is too deep in others: looked
        into however deep, a file of nothing but such headers would have each byte summed once for each of them."""
        self._claimed = [claimed for claimed in self._claimed if claimed > self.offset]
        if len(self._claimed) < _MOST_NESTED:
            self._claimed.append(self.offset + end)
            problem = f"the {end - RECORD_HEADER_BYTES} bytes of a record do not have its checksum"
            return self._pass_over(problem, RECORD_HEADER_BYTES)
        told: list[Entry] = [] if self._problem == _TOO_NESTED else [*self._damage()]
        self._spoil(_TOO_NESTED)
        self._drop(end)
        return told

    def _pass_over(self, problem: str, at_least: int) -> list[Entry]:
        self._spoil(problem)
        found = self._buffer.find(MARKER, at_least)
        # The marker may have begun at the very end of what is there.
        self._drop(max(at_least, len(self._buffer) - len(MARKER) + 1) if found < 0 else found)
        return []

    def _spoil(self, problem: str) -> None:
        if self._damaged_from is None:
            self._damaged_from, self._problem = self.offset, problem

    def _damage(self) -> Iterator[Damage]:
        if self._damaged_from is not None:
            yield Damage(self._damaged_from, self.offset - self._damaged_from, self._problem)
            self._damaged_from = None

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self.offset += count


def _note(body: bytes, number: int, monotonic_ns: int, wall_ns: int, offset: int) -> Note | Damage:
    try:
        match binary_to_term(body, max_bytes=_MAX_NOTE_BYTES):
            case (Atom() as name, dict() as entries):
                facts = {str(key): fact.decode() if isinstance(fact, bytes) else fact for key, fact in entries.items()}
                return Note(number, str(name), facts, monotonic_ns, wall_ns, offset)
    except (DecodeError, UnicodeDecodeError):
        pass
    return Damage(offset, RECORD_HEADER_BYTES + len(body), "a note that says nothing")
