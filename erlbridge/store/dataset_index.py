"""The index of a dataset: where in its stream each example begins, and the sum of its bytes.

    magic · SHA-256 of the dataset's digits and the records, 32 bytes
    a record for each example: its offset, 8 bytes, and the CRC-32 of its length and its term, 4 bytes, big-endian

It is made of the stream and can be made again at any time, so it stands in no sum of the dataset's own. With it one
example is read, and known to be right, without any other. Knows bytes and where they lie, not what they mean.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

INDEX: Final = "index"
"""The index's name beside the stream."""

RECORD: Final = struct.Struct(">QI")
_MAGIC: Final = b"erlbridge index 1\n"
_SUM_BYTES: Final = 32
RECORDS_AT: Final = len(_MAGIC) + _SUM_BYTES
"""Where the first record stands."""

_LENGTH: Final = struct.Struct(">I")
_READ_BYTES: Final = 1024 * 1024


class Indexer:
    """Makes the records of a stream that comes in pieces, cut anywhere. What the stream is has been checked by others.

    >>> indexer = Indexer()
    >>> stream = bytes.fromhex("00000006 837400000000" * 2)
    >>> records = indexer.feed(stream[:12]) + indexer.feed(stream[12:])
    >>> records == RECORD.pack(0, zlib.crc32(stream[:10])) + RECORD.pack(10, zlib.crc32(stream[10:]))
    True
    """

    def __init__(self) -> None:
        self._start = 0
        """Where the example begins that is not whole yet."""
        self._head = b""
        """Its length as far as it came."""
        self._left = 0
        """What of it is still to come, once its length is known."""
        self._crc = 0

    def feed(self, piece: bytes) -> bytes:
        """Takes the next bytes, and gives the records of the examples that end in them."""
        data = self._head + piece if self._head else piece
        self._head = b""
        records = bytearray()
        start, at, end = self._start, 0, len(data)
        with memoryview(data) as view:
            if self._left:
                at = min(self._left, end)
                self._crc = zlib.crc32(view[:at], self._crc)
                self._left -= at
                if self._left:
                    return b""
                records += RECORD.pack(start, self._crc)
                start = self._stop
            while at + _LENGTH.size <= end:
                size = _LENGTH.size + _LENGTH.unpack_from(view, at)[0]
                crc = zlib.crc32(view[at : at + size])
                if at + size > end:
                    self._crc, self._left, self._stop = crc, at + size - end, start + size
                    at = end
                    break
                records += RECORD.pack(start, crc)
                at += size
                start += size
            self._start = start
            self._head = bytes(view[at:])
        return bytes(records)

    _stop = 0
    """Where that example ends."""


class IndexFile:
    """An index that is being written, at a path where nothing is. It is one only after `finish`.

    Every method may raise `OSError`.
    """

    def __init__(self, path: Path) -> None:
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        self._indexer = Indexer()
        self._sum = hashlib.sha256()
        self._file = open(path, "wb", buffering=_READ_BYTES)  # noqa: SIM115 - `finish` or `close` closes it
        self._file.write(bytes(RECORDS_AT))

    def feed(self, piece: bytes) -> None:
        """The stream goes on with these bytes."""
        if records := self._indexer.feed(piece):
            self._sum.update(records)
            self._file.write(records)

    def finish(self, digits: str) -> None:
        """The stream has ended, and this is its SHA-256: has the index on the disk."""
        with self._file:
            self._sum.update(digits.encode())
            self._file.seek(0)
            self._file.write(_MAGIC + self._sum.digest())
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Lets go of a file that will be no index."""
        self._file.close()


def is_sound(path: Path, digits: str, examples: int) -> bool:
    """Whether the index at a path is whole and that of this dataset. Reads all of it; raises `OSError`, but not for
    one that is not there."""
    import hashlib  # noqa: PLC0415 - as above

    summed = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != RECORDS_AT + RECORD.size * examples:
                return False
            head = file.read(RECORDS_AT)
            while piece := file.read(_READ_BYTES):
                summed.update(piece)
    except (FileNotFoundError, IsADirectoryError):
        return False
    summed.update(digits.encode())
    return head == _MAGIC + summed.digest()


def write_index(path: Path, pieces: Iterable[bytes]) -> str:
    """Writes the index of a stream, and gives the stream's SHA-256 as hexadecimal digits. Raises `OSError`."""
    import hashlib  # noqa: PLC0415 - as above

    summed = hashlib.sha256()
    index = IndexFile(path)
    try:
        for piece in pieces:
            summed.update(piece)
            index.feed(piece)
        digits = summed.hexdigest()
        index.finish(digits)
    finally:
        index.close()
    return digits
