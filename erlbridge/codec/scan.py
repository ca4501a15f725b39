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
    from erlbridge.codec._compiled import Scan, count_maps
else:  # a class of the same calls, not the same class
    from erlbridge.codec._pure import Scan, count_maps  # type: ignore[assignment]

__all__ = ["Inflation", "Scan", "begin", "count_maps", "moved", "skip"]

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
    scan: Scan | Inflation | None
    if data[offset : offset + 1] == b"\x83":
        scan = begin(data, offset, max_depth=max_depth, max_bytes=max_bytes)
    else:
        scan = Scan(offset, max_depth=max_depth)
    if scan is None or not scan.advance(data):
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


def begin(
    data: Data, start: int, *, max_depth: int, max_bytes: int, kept: list[bytes] | None = None
) -> Scan | Inflation | None:
    """What finds the end of the term whose version byte is at `start`; None until the first bytes are there that tell.

    What a compressed term unpacks to is put into `kept`, if that is a list.
    """
    size = len(data) - start
    if size > 0 and data[start] != VERSION_MAGIC:
        raise DecodeError(f"no version byte {VERSION_MAGIC}", start)
    if size < 2:
        return None
    tag = data[start + 1]
    if tag == LOCAL_EXT:
        raise DecodeError("LOCAL_EXT, whose length is not in the format, among other data", start + 1)
    if tag != COMPRESSED:
        return Scan(start + 1, max_depth=max_depth)
    if size < 6:
        return None
    claimed = int.from_bytes(data[start + 2 : start + 6], "big")
    if not 0 < claimed <= max_bytes:
        raise DecodeError(f"compressed term of {claimed} bytes, limit {max_bytes}", start + 2)
    return Inflation(start + 6, claimed, kept)


def moved(error: DecodeError, by: int) -> DecodeError:
    """The same error for data of which these began `by` bytes later."""
    bare = error.message.removesuffix(f" at offset {error.offset}")
    return DecodeError(bare, error.offset + by)
