"""Where a term ends, found without building it, in data that is whole or still coming.

A `Scan` keeps its own stack and goes on where it stopped, so that all its steps together are linear in the bytes. Of
what a term holds it knows nothing but tags, sizes and counts: what passes here may still be refused by
`binary_to_term` (see `skip`), never the other way round.
"""

from __future__ import annotations

import zlib
from struct import error as struct_error

from erlbridge.codec.sizes import CONTAINERS, FIXED, count_row, end_of_rare, open_container, read_u16, read_u32
from erlbridge.codec.tags import (
    COMPRESSED,
    LIST_EXT,
    LOCAL_EXT,
    NIL_EXT,
    STRING_EXT,
    VERSION_MAGIC,
)
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_DEPTH, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from erlbridge.codec.sizes import Data

_PIECE = 1 << 14  # compressed bytes given to zlib at once: what it leaves of them is copied
_UNPACKED = 1 << 18  # most bytes unpacked at once


def skip(
    data: bytes | bytearray | memoryview,
    offset: int = 0,
    *,
    max_depth: int = MAX_DEPTH,
    max_bytes: int = MAX_TERM_BYTES,
) -> int:
    """The position after the term that begins at `offset`.

    Nothing is built and nothing copied; a compressed term is unpacked to find its end, and what it unpacks to is
    dropped. Looked at are tags, sizes, counts, the depth of nesting and, of a compressed term, size and checksum. Not
    looked at are: text of atoms and old floats, NaN, keys of maps, what is wrong with an identifier or a fun, and the
    inside of a compressed term. Whatever is refused here `binary_to_term` refuses too, at this offset or before it.

    Args:
        data: Bytes that hold the term; more may follow it.
        offset: Where the term's version byte stands, or the tag of a term inside another.
        max_depth: How deep containers may nest.
        max_bytes: Most bytes that a compressed term may unpack to.

    Raises:
        DecodeError: The data end inside the term, or hold an unknown tag, or exceed a limit. LOCAL_EXT is refused, as
            its length is not in the format.
        ValueError: `offset` is negative.

    Source: External Term Format.

    >>> skip(bytes.fromhex("8368026101610283"))
    7
    """
    if offset < 0:
        raise ValueError(f"offset {offset}, expected 0 or more")
    if isinstance(data, memoryview) and data.format != "B":
        data = data.cast("B")
    scan: Scan | WholeScan
    if data[offset : offset + 1] == b"\x83":
        scan = WholeScan(offset, max_depth=max_depth, max_bytes=max_bytes)
    else:
        scan = Scan(offset, max_depth=max_depth)
    if not scan.advance(data):
        raise DecodeError("input ends inside a term", len(data))
    return scan.pos


class Scan:
    """Finds the end of one term without version byte, step by step.

    `advance` goes as far as the data allow and says whether `pos` is the end. Later calls give the same data, with more
    at their end; if bytes were taken off the front, `pos` must be reduced by as many.
    """

    __slots__ = ("_in_list", "_max_depth", "_room", "_stack", "left", "pos")

    def __init__(self, pos: int, *, max_depth: int = MAX_DEPTH, depth: int = 0) -> None:
        self.pos = pos
        self.left = 1
        """Values still due in the innermost container; each takes a byte at least."""
        self._in_list = False
        self._stack: list[int] = []  # of every outer container twice the values left, and one more for a list
        self._max_depth = max_depth
        self._room = max_depth - depth  # of a part, `depth` says how deep it stands in its term

    def restart(self, pos: int) -> None:
        """Makes it one of the term at `pos`, as deep as the last."""
        self.pos = pos
        self.left = 1
        self._in_list = False
        self._stack.clear()

    def advance(self, data: Data) -> bool:
        pos = self.pos
        left = self.left
        in_list = self._in_list
        stack = self._stack
        u32 = read_u32
        fixed = FIXED
        fresh = True  # whether a row of numbers may begin here: a container's first value, or where this call begins
        try:
            while True:
                if fresh and left > 3:
                    step = fixed[data[pos]]
                    if step and data[pos + step] == data[pos]:
                        count = count_row(data, pos, left)
                        pos += step * count
                        left -= count
                while left:
                    tag = data[pos]
                    if tag == 109:  # BINARY_EXT
                        pos += 5 + u32(data, pos + 1)[0]
                    elif tag == 119:  # SMALL_ATOM_UTF8_EXT
                        pos += 2 + data[pos + 1]
                    elif fixed[tag]:
                        pos += fixed[tag]
                    elif tag == 110:  # SMALL_BIG_EXT
                        pos += 3 + data[pos + 1]
                    elif tag in CONTAINERS:
                        if len(stack) >= self._room:
                            raise DecodeError(f"term nested deeper than {self._max_depth}", pos)
                        if tag == 116:  # MAP_EXT
                            count, start = u32(data, pos + 1)[0] * 2, pos + 5
                        else:
                            count, start = open_container(data, pos, tag)
                        stack.append((left - 1) * 2 + in_list)
                        left = count
                        in_list = tag == LIST_EXT
                        pos = start
                        fresh = True
                        break
                    else:
                        pos = end_of_rare(data, pos)
                    left -= 1
                else:
                    fresh = False
                    if in_list:
                        tag = data[pos]
                        if tag == LIST_EXT:  # a list as tail goes on in this one
                            (left,) = u32(data, pos + 1)
                            pos += 5
                            fresh = True
                            continue
                        if tag == NIL_EXT:
                            pos += 1
                        elif tag == STRING_EXT:
                            pos += 3 + read_u16(data, pos + 1)[0]
                        else:
                            left = 1
                        in_list = False
                        if left:
                            continue
                    if not stack:
                        return pos <= len(data)
                    outer = stack.pop()
                    left = outer >> 1
                    in_list = outer & 1 == 1
        except (IndexError, struct_error):
            return False
        finally:
            self.pos = pos
            self.left = left
            self._in_list = in_list


class Inflation:
    """Finds the end of a compressed term, from the first byte after its header; `advance` as that of `Scan`.

    What it unpacks to is counted, and dropped unless `kept` is a list to put it in. It is refused as soon as there is a
    byte more than it claims.
    """

    __slots__ = ("_inflator", "_kept", "_size", "_unpacked", "left", "pos")

    def __init__(self, pos: int, size: int, kept: list[bytes] | None = None) -> None:
        self.pos = pos
        self.left = 1
        self._size = size
        self._unpacked = 0
        self._kept = kept
        self._inflator = zlib.decompressobj()

    def advance(self, data: Data) -> bool:
        inflator = self._inflator
        while True:
            piece = bytes(data[self.pos : self.pos + _PIECE])
            due = self._size - self._unpacked
            try:
                plain = inflator.decompress(piece, min(due + 1, _UNPACKED))
            except zlib.error as cause:
                raise DecodeError(f"compressed term does not unpack ({cause})", self.pos) from None
            self.pos += len(piece) - len(inflator.unconsumed_tail) - len(inflator.unused_data)
            self._unpacked += len(plain)
            ended = inflator.eof
            if len(plain) > due or (ended and len(plain) < due):
                raise DecodeError(f"compressed term does not unpack to the {self._size} bytes it claims", self.pos)
            if self._kept is not None:
                self._kept.append(plain)
            if ended or not (piece or plain):
                return ended


class WholeScan:
    """Finds the end of a term with its version byte, compressed or not; `advance` as that of `Scan`."""

    __slots__ = ("_inside", "_kept", "_max_bytes", "_max_depth", "_start")

    def __init__(self, start: int, *, max_depth: int, max_bytes: int, kept: list[bytes] | None = None) -> None:
        self._start = start
        self._inside: Scan | Inflation | None = None
        self._max_depth = max_depth
        self._max_bytes = max_bytes
        self._kept = kept

    @property
    def pos(self) -> int:
        return self._start if self._inside is None else self._inside.pos

    @property
    def left(self) -> int:
        """Least bytes still due after `pos`."""
        return 2 if self._inside is None else self._inside.left

    @property
    def compressed(self) -> bool:
        return type(self._inside) is Inflation

    def move(self, by: int) -> None:
        """Tells that as many bytes were taken off the front of the data."""
        self._start -= by
        if self._inside is not None:
            self._inside.pos -= by

    def advance(self, data: Data) -> bool:
        if self._inside is None:
            self._inside = self._begin(data)
            if self._inside is None:
                return False
        return self._inside.advance(data)

    def _begin(self, data: Data) -> Scan | Inflation | None:
        """What finds the end, once the first bytes are there that tell."""
        start = self._start
        head = bytes(data[start : start + 6])
        if head and head[0] != VERSION_MAGIC:
            raise DecodeError(f"no version byte {VERSION_MAGIC}", start)
        if len(head) < 2:
            return None
        if head[1] == LOCAL_EXT:
            raise DecodeError("LOCAL_EXT, whose length is not in the format, among other data", start + 1)
        if head[1] != COMPRESSED:
            return Scan(start + 1, max_depth=self._max_depth)
        if len(head) < 6:
            return None
        size = int.from_bytes(head[2:], "big")
        if not 0 < size <= self._max_bytes:
            raise DecodeError(f"compressed term of {size} bytes, limit {self._max_bytes}", start + 2)
        return Inflation(start + 6, size, self._kept)


def moved(error: DecodeError, by: int) -> DecodeError:
    """The same error for data of which these began `by` bytes later."""
    bare = error.message.removesuffix(f" at offset {error.offset}")
    return DecodeError(bare, error.offset + by)
