"""Reads the examples of a dataset where they lie: found by the index, which is mapped, and checked one by one."""

from __future__ import annotations

import mmap
import os
import zlib
from pathlib import Path
from typing import Final

from erlbridge.core.datasets import PREFIX, Dataset
from erlbridge.errors import BridgeError, NotFound, StorageFailed
from erlbridge.limits import MAX_EXAMPLE_BYTES
from erlbridge.store.dataset_index import INDEX, RECORD, RECORDS_AT, is_sound
from erlbridge.wire.vocabulary import atom

_HEADER_BYTES: Final = 4
_LOOKUPS: Final = 256
"""After so many the index's pages are let go: each may have brought 64 KiB with it, which count as this process's."""


class StoredRows:
    """`core.datasets.Rows` of a dataset's files, which stay readable until `close`, also when they are deleted.

    The stream is not mapped: a file that was cut short would be the end of the process instead of an error.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lookups = 0
        path = Path(os.fsdecode(dataset.path))
        self._index_path = path.with_name(INDEX)
        try:
            self._stream = open(path, "rb", buffering=0)  # noqa: SIM115 - `close` closes it
        except FileNotFoundError:
            raise NotFound(
                f"the dataset {dataset.name} was deleted while the job waited; send it again",
                context={"dataset": dataset.name},
            ) from None
        except OSError as error:
            raise self._refused(error) from None
        try:
            with open(self._index_path, "rb", buffering=0) as index:
                if os.fstat(index.fileno()).st_size != RECORDS_AT + RECORD.size * dataset.examples:
                    raise self._damaged()
                self._index = mmap.mmap(index.fileno(), 0, prot=mmap.PROT_READ)
        except BaseException as error:
            self._stream.close()
            if isinstance(error, FileNotFoundError):
                raise self._damaged() from None
            if isinstance(error, OSError):
                raise self._refused(error) from None
            raise

    def term(self, place: int) -> bytes:
        """The bytes of an example's term. Raises `NotFound` and `StorageFailed`, as `Rows` says."""
        self._lookups += 1
        if self._lookups % _LOOKUPS == 0:
            self._index.madvise(mmap.MADV_DONTNEED)
        at = RECORDS_AT + RECORD.size * place
        start, crc = RECORD.unpack_from(self._index, at)
        last = place == self._dataset.examples - 1
        stop = self._dataset.size_bytes if last else RECORD.unpack_from(self._index, at + RECORD.size)[0]
        if stop > self._dataset.size_bytes or not _HEADER_BYTES < stop - start <= _HEADER_BYTES + MAX_EXAMPLE_BYTES:
            raise self._damaged(place)
        try:
            found = os.pread(self._stream.fileno(), stop - start, start)
        except OSError as error:
            raise self._refused(error) from None
        if len(found) != stop - start or zlib.crc32(found) != crc:
            raise self._damaged(place)
        return found[_HEADER_BYTES:]

    def close(self) -> None:
        """Lets go of the files. Who asks after this, on a thread that a job has left behind, gets a `ValueError`."""
        self._stream.close()
        self._index.close()

    def _damaged(self, place: int | None = None) -> BridgeError:
        """What is wrong: the index, which the node makes again, or else the stream, which it sets aside."""
        name = self._dataset.name
        context = {"dataset": name, "reason": atom("damaged")}
        try:
            sound = is_sound(self._index_path, name.removeprefix(PREFIX), self._dataset.examples)
        except OSError as error:
            return self._refused(error)
        if not sound:
            return StorageFailed(f"the index of {name} is damaged on disk; ask again: it is made anew", context=context)
        return NotFound(
            f"the dataset {name} is damaged on disk (example {place} is not what was sent) and set aside; "
            "send it again",
            context=context,
        )

    def _refused(self, error: OSError) -> StorageFailed:
        text = f"{self._dataset.name} was not read: {error.strerror or error}; see to its directory and ask again"
        return StorageFailed(text, context={"reason": atom("disk_refused")})
