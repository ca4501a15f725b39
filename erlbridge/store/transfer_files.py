"""The files of one transfer while it comes in: what came, chunk by chunk, and the plain stream that it makes.

    NAME.part      the plain stream so far
    NAME.chunks    records, each its length, its CRC-32 and its bytes: first what this is, then one for each chunk

The record of a compressed chunk is the chunk as it came: the state of such a stream can be had again only from its
beginning, so who goes on with it reads them all and writes the plain stream anew. The record of a plain chunk says how
long the stream was behind it and what its SHA-256 was, and the bytes are written once, into the stream; who goes on
reads that, up to where it agrees. Either way it goes on behind the last record that is whole. A record is written when
its chunk's bytes are, so that a process that is killed between the two has acknowledged neither.

Whoever has the files open holds a lock, which the kernel takes back however its process ends. Blocks on the disk.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.errors import DecodeError, TransferError
from erlbridge.limits import MAX_CHUNK_BYTES
from erlbridge.store.beside import Beside, write_all
from erlbridge.store.files import lock_file
from erlbridge.wire.inflation import COMPRESSIONS
from erlbridge.wire.transfer import Incoming, refused

CHUNKS: Final = ".chunks"
PART: Final = ".part"

_FORMAT: Final = 2
_RECORD: Final = struct.Struct(">II")
_REACHED: Final = struct.Struct(">Q32s")
"""Of a plain chunk: the stream's length and SHA-256 behind it."""
_MOST_RECORD_BYTES: Final = MAX_CHUNK_BYTES + 1024
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_PUSH_BYTES: Final = 16 * 1024 * 1024
"""How much of the stream the system is to begin to write at once: so the last chunk waits for little of it."""
_RESERVED_BYTES: Final = 32 * 1024 * 1024
"""How much room a long stream's file is given at once."""


class TransferFiles:
    """A transfer that this process alone adds to. Every method may raise `OSError`.

    Attributes:
        incoming: How far it has come.
    """

    def __init__(self, base: Path, chunks: int, incoming: Incoming, beside: Beside) -> None:
        self.incoming = incoming
        self._beside = beside
        self._base = base
        self._chunks = chunks
        self._size = 0
        """Of the records that are acknowledged."""
        self._pushed = 0
        """How much of the stream is on its way to the disk."""
        self._reserved = 0
        """How long the stream's file is made before it is that long."""
        self._is_plain = incoming.compression == "none"
        self._part = os.open(self.part, _FILE if self._is_plain else _FILE | os.O_TRUNC, 0o600)

    @property
    def part(self) -> Path:
        """The file that holds the plain stream."""
        return self._base.with_suffix(PART)

    @classmethod
    def begin(
        cls,
        base: Path,
        beside: Beside,
        compression: str,
        total_bytes: int | None = None,
        most_bytes: int | None = None,
    ) -> Self:
        """A new transfer in any's place. `base` is the files' path without its suffix, `beside` writes plain chunks,
        the rest is `Incoming`'s."""
        incoming = Incoming(compression, total_bytes, most_bytes)
        chunks = _locked(base.with_suffix(CHUNKS), os.O_CREAT)
        assert chunks is not None  # noqa: S101 - it was made
        try:
            os.ftruncate(chunks, 0)
            found = cls(base, chunks, incoming, beside)
        except BaseException:
            os.close(chunks)
            raise
        try:
            os.ftruncate(found._part, 0)
            found._add(term_to_binary((_FORMAT, COMPRESSIONS.index(compression), total_bytes)))
            found._keep()
        except BaseException:
            found.close()  # or the lock stays, and the next chunk is refused as another node's
            raise
        return found

    @classmethod
    def resume(cls, base: Path, beside: Beside, most_bytes: int | None = None) -> Self | None:
        """The transfer whose files are there, as far as its records are whole; None when nothing of one is.

        Raises `TransferError` when another process has it.
        """
        chunks = _locked(base.with_suffix(CHUNKS))
        if chunks is None:
            return None
        found: Self | None = None
        try:
            while True:
                records = _records(chunks)
                if (about := _about(next(records, b""))) is None:
                    break
                compression, total_bytes = about
                found = cls(base, chunks, Incoming(compression, total_bytes, most_bytes), beside)
                found._keep()
                if found._read(records):
                    found.cut()
                    return found
                found.cut()  # in front of the chunk whose bytes are others; what was summed has to be summed again
                os.close(found._part)
                found = None
        except TransferError:
            pass  # damaged in a way that no sum shows: it begins anew
        except BaseException:
            _close(found, chunks)
            raise
        _close(found, chunks)
        return None

    def take(self, data: bytes, spend: Callable[[int], None], *, is_final: bool = False) -> None:
        """Takes the next chunk; a final one is not recorded, since with it the transfer is over, or it is sent again.

        `spend` is called before so many bytes are written. Raises `TransferError` as `Incoming.take` does, after which
        the files are of no use any more.
        """
        if self._is_plain:
            spend(len(data))
            self._take_plain(data)
        else:
            if not is_final:
                spend(len(data))
                self._add(data)
            for piece in self.incoming.take(data):
                spend(len(piece))
                self._write(piece)
        if not is_final:
            if self._is_plain:
                self._add(_REACHED.pack(self.incoming.plain_bytes, self.incoming.sum_so_far()))
            self._keep()

    def cut(self) -> None:
        """What was added since the last chunk that is whole does not count."""
        os.ftruncate(self._chunks, self._size)
        os.lseek(self._chunks, self._size, os.SEEK_SET)

    def sync(self) -> None:
        """Has the plain stream on the disk, and no more than that in its file."""
        os.ftruncate(self._part, self.incoming.plain_bytes)
        os.fsync(self._part)

    def remove(self) -> None:
        """Removes the files, and lets go of them."""
        try:
            self.part.unlink(missing_ok=True)
            self._base.with_suffix(CHUNKS).unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of the files; what is in them stays."""
        os.close(self._part)
        os.close(self._chunks)

    def _read(self, records: Iterator[bytes]) -> bool:
        """Goes through what was acknowledged, and keeps what is whole. Gives False where bytes of the stream are others
        than were summed: what is kept then ends in front of them."""
        incoming = self.incoming
        for record in records:
            if not self._is_plain:
                for piece in incoming.take(record):
                    self._write(piece)
            elif (data := self._recorded(record)) is None:
                return False
            else:
                for _piece in incoming.take(data):
                    pass
                if incoming.sum_so_far() != record[-32:]:
                    return False
            self._keep()
        if self._is_plain:
            os.ftruncate(self._part, incoming.plain_bytes)
            os.lseek(self._part, incoming.plain_bytes, os.SEEK_SET)
        return True

    def _recorded(self, record: bytes) -> bytes | None:
        """The chunk that a record of a plain one speaks of; None when it is not there."""
        if len(record) != _REACHED.size:
            return None
        behind, _sum = _REACHED.unpack(record)
        start = self.incoming.plain_bytes
        if not start < behind <= start + MAX_CHUNK_BYTES:
            return None
        data = os.pread(self._part, behind - start, start)
        return data if len(data) == behind - start else None

    def _add(self, record: bytes) -> None:
        write_all(self._chunks, _RECORD.pack(len(record), zlib.crc32(record)))
        write_all(self._chunks, record)

    def _take_plain(self, data: bytes) -> None:
        """A chunk that is a part of the stream as it is: summed while it is written."""
        start = self.incoming.plain_bytes
        self._reserve(start + len(data))
        with self._beside.writing(self._part, data, start):
            for _piece in self.incoming.take(data):
                pass
        self._push(self.incoming.plain_bytes)

    def _write(self, piece: bytes) -> None:
        behind = self.incoming.plain_bytes
        self._reserve(behind)
        write_all(self._part, piece)
        self._push(behind)

    def _push(self, behind: int) -> None:
        """Has the system begin to write what is in its cache of a long stream."""
        if behind - self._pushed >= _PUSH_BYTES:
            # Linux begins to write what is dirty there, and waits for none of it; pages that are dirty stay.
            os.posix_fadvise(self._part, self._pushed, behind - self._pushed, os.POSIX_FADV_DONTNEED)
            self._pushed = behind

    def _reserve(self, end: int) -> None:
        """Makes the file of a long stream longer than it has to be yet, which makes writing cheaper; what cannot be had
        is no loss."""
        if not end > self._reserved >= 0 or end < _RESERVED_BYTES:
            return
        try:
            os.posix_fallocate(self._part, end, _RESERVED_BYTES)
            self._reserved = end + _RESERVED_BYTES
        except OSError:
            self._reserved = -1

    def _keep(self) -> None:
        """What was read or added by now counts."""
        self._size = os.lseek(self._chunks, 0, os.SEEK_CUR)


def _about(record: bytes) -> tuple[str, int | None] | None:
    """What a first record says, compression and size; None when it was cut off, or is not ours: then nothing was
    acknowledged."""
    try:
        term = binary_to_term(record)
    except DecodeError:
        return None
    match term:
        case (kind, int() as index, int() | None as size) if kind == _FORMAT and 0 <= index < len(COMPRESSIONS):
            return COMPRESSIONS[index], size
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


def _locked(path: Path, flags: int = 0) -> int | None:
    """A descriptor of the file that holds its lock; None when there is no such file.

    Raises `TransferError` when another process has it.
    """
    try:
        return lock_file(path, flags)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        raise refused(
            "busy",
            "another node that shares this data directory has this transfer open; send its chunks to that one, or "
            "go on when that node has ended",
        ) from None
