"""Where a term ends, found without building it, in data that is whole or still coming, compressed or not.

What passes here may still be refused by `binary_to_term` (see `skip`), never the other way round. The loop over the
bytes, `Scan`, is that of the twin in use.
"""

from __future__ import annotations

import zlib

from erlbridge.codec import IMPLEMENTATION
from erlbridge.codec.tags import COMPRESSED, LOCAL_EXT, VERSION_MAGIC
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_DEPTH, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from erlbridge.codec.sizes import Data

if IMPLEMENTATION == "compiled":
    from erlbridge.codec._compiled import Scan
else:
    from erlbridge.codec._pure import Scan  # type: ignore[assignment] # a class of the same calls, not the same class

__all__ = ["Inflation", "Scan", "WholeScan", "moved", "skip"]

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
        TypeError: `data` is not bytes-like, or has gaps.
        ValueError: `offset` is negative.

    Source: External Term Format.

    >>> skip(bytes.fromhex("8368026101610283"))
    7
    """
    if offset < 0:
        raise ValueError(f"offset {offset}, expected 0 or more")
    if isinstance(data, memoryview):
        data = data.cast("B")
    elif not isinstance(data, bytes | bytearray):
        raise TypeError(f"skip takes bytes, not {type(data).__name__}")
    scan: Scan | WholeScan
    if data[offset : offset + 1] == b"\x83":
        scan = WholeScan(offset, max_depth=max_depth, max_bytes=max_bytes)
    else:
        scan = Scan(offset, max_depth=max_depth)
    if not scan.advance(data):
        raise DecodeError("input ends inside a term", len(data))
    return scan.pos


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
