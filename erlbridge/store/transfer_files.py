"""The files of one transfer while it comes in: what came, chunk by chunk, and the plain stream that it makes.

    NAME.chunks    records, each its length, its CRC-32 and its bytes: first what this is, then each chunk as it came
    NAME.part      the plain stream so far

The chunks are what counts. The state of a zlib stream can be had again only from its beginning, so who goes on with a
transfer reads them all, writes the plain stream anew and begins behind the last record that is whole. Whoever has the
files open holds a lock, which the kernel takes back however its process ends. Blocks on the disk.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.errors import DecodeError, TransferError
from erlbridge.limits import MAX_CHUNK_BYTES
from erlbridge.wire.transfer import COMPRESSIONS, Incoming, refused

CHUNKS: Final = ".chunks"
PART: Final = ".part"

_FORMAT: Final = 1
_RECORD: Final = struct.Struct(">II")
_MOST_RECORD_BYTES: Final = MAX_CHUNK_BYTES + 1024
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class TransferFiles:
    """A transfer that this process alone adds to. Every method may raise `OSError`.

    Attributes:
        incoming: How far it has come.
    """

    def __init__(self, base: Path, chunks: int, incoming: Incoming) -> None:
        self.incoming = incoming
        self._base = base
        self._chunks = chunks
        self._size = 0
        """Of the records that are acknowledged."""
        self._part = os.open(self.part, _FILE | os.O_TRUNC, 0o600)

    @property
    def part(self) -> Path:
        """The file that holds the plain stream."""
        return self._base.with_suffix(PART)

    @classmethod
    def begin(cls, base: Path, compression: str) -> Self:
        """A new transfer, whatever was there. `base` is the files' path without its suffix."""
        chunks = _locked(base.with_suffix(CHUNKS), os.O_CREAT)
        assert chunks is not None  # noqa: S101 - it was made
        try:
            os.ftruncate(chunks, 0)
            found = cls(base, chunks, Incoming(compression))
        except BaseException:
            os.close(chunks)
            raise
        found.add(term_to_binary((_FORMAT, COMPRESSIONS.index(compression))))
        found.keep()
        return found

    @classmethod
    def resume(cls, base: Path) -> Self | None:
        """The transfer whose files are there, as far as its records are whole; None when nothing of one is.

        Raises `TransferError` when another process has it.
        """
        chunks = _locked(base.with_suffix(CHUNKS))
        if chunks is None:
            return None
        found: Self | None = None
        try:
            records = _records(chunks)
            if (compression := _compression(next(records, b""))) is not None:
                found = cls(base, chunks, Incoming(compression))
                found.keep()
                for record in records:
                    for piece in found.incoming.take(record):
                        found.write(piece)
                    found.keep()
                found.cut()
                return found
        except TransferError:
            pass  # damaged in a way that no sum shows: it begins anew
        except BaseException:
            _close(found, chunks)
            raise
        _close(found, chunks)
        return None

    def add(self, record: bytes) -> None:
        """Adds a record; `keep` or `cut` decides about it."""
        _write(self._chunks, _RECORD.pack(len(record), zlib.crc32(record)) + record)

    def write(self, piece: bytes) -> None:
        """Goes on with the plain stream."""
        _write(self._part, piece)

    def keep(self) -> None:
        """What was read or added by now counts."""
        self._size = os.lseek(self._chunks, 0, os.SEEK_CUR)

    def cut(self) -> None:
        """What was added since then does not."""
        os.ftruncate(self._chunks, self._size)
        os.lseek(self._chunks, self._size, os.SEEK_SET)

    def sync(self) -> None:
        """Has the plain stream on the disk."""
        os.fsync(self._part)

    def remove(self) -> None:
        """Removes the files, and lets go of them."""
        self.part.unlink(missing_ok=True)
        self._base.with_suffix(CHUNKS).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets go of the files; what is in them stays."""
        os.close(self._part)
        os.close(self._chunks)


def _compression(record: bytes) -> str | None:
    """What a first record says; None when it was cut off, or is not ours: then nothing was acknowledged."""
    try:
        term = binary_to_term(record)
    except DecodeError:
        return None
    match term:
        case (kind, int() as index) if kind == _FORMAT and 0 <= index < len(COMPRESSIONS):
            return COMPRESSIONS[index]
        case _:
            return None


def _close(found: TransferFiles | None, chunks: int) -> None:
    if found is None:
        os.close(chunks)
    else:
        found.close()


def _records(chunks: int) -> Iterator[bytes]:
    """The records that are whole, from the first on. Leaves the file behind the one that was given last."""
    at = 0
    while len(header := os.pread(chunks, _RECORD.size, at)) == _RECORD.size:
        length, crc = _RECORD.unpack(header)
        if not 0 < length <= _MOST_RECORD_BYTES:  # zeros are what a power cut leaves, and their sum is right
            return
        record = os.pread(chunks, length, at + _RECORD.size)
        if len(record) < length or zlib.crc32(record) != crc:
            return
        at += _RECORD.size + length
        os.lseek(chunks, at, os.SEEK_SET)
        yield record


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _locked(path: Path, flags: int = 0) -> int | None:
    """A descriptor of the file that holds its lock; None when there is no such file.

    Raises `TransferError` when another process has it.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass  # who had it has removed it
        except BlockingIOError:
            os.close(descriptor)
            raise refused(
                "busy",
                "another node that shares this data directory has this transfer open; send its chunks to that one, or "
                "go on when that node has ended",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
