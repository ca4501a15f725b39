"""Datasets that nodes of several machines share: kept as blobs, with a copy here of each that is in use, since workers
map its file into their memory.

    datasets/<64 digits>.stream    the examples
    datasets/<64 digits>.about     {1, examples, bytes}; written last, so a dataset without one is none
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.datasets import PREFIX, Dataset, is_dataset_name
from erlbridge.errors import DecodeError, NotFound
from erlbridge.store.blobs import Blob
from erlbridge.store.datasets import STREAM, DatasetStore, damaged, not_found
from erlbridge.store.index import Entry
from erlbridge.store.register import Register
from erlbridge.store.remote_blobs import RemoteBlobs

_KIND: Final = "datasets"
_STREAM: Final = ".stream"
_ABOUT: Final = ".about"
_FORMAT: Final = 1
_MOST_ABOUT_BYTES: Final = 1024
_READ_BYTES: Final = 1024 * 1024
_IN_USE_S: Final = 3600.0
"""A copy that was asked for within this time may be that of a job that waits for its worker; it stays."""


class SharedDatasets(DatasetStore):
    """Datasets elsewhere, and their copies under one directory.

    Args:
        directory: Of the copies.
        register: Of all nodes.
        blobs: Where the datasets lie.
        room_bytes: What copies may take; those used longest ago go first.
    """

    def __init__(self, directory: Path, register: Register, blobs: RemoteBlobs, room_bytes: int) -> None:
        super().__init__(directory, register)
        self._blobs = blobs
        self._room_bytes = room_bytes

    def look(self, name: str) -> Dataset:
        """A dataset's copy, fetched where there is none. One that was deleted elsewhere is gone here too; while nobody
        can be asked, a copy serves: its name says what it holds."""
        refused: OSError | None = None
        try:
            if not self._blobs.has(_KIND, _digits(name) + _ABOUT):
                self._drop_copy(name)
        except OSError as error:
            refused = error
        try:
            found = super().look(name)
        except NotFound:
            if refused is not None:
                raise refused from None
            self._fetch(name)
            found = super().look(name)
        with contextlib.suppress(OSError):
            os.utime(self._place(name))
        return found

    def examine(self, name: str, read: Callable[[int], None]) -> None:
        """Reads it where all machines have it from, and the copy where one is here, which alone says nothing of it."""
        digits = _digits(name)
        about = self._blobs.get(_KIND, digits + _ABOUT, _MOST_ABOUT_BYTES)
        summed = self._blobs.sha256(_KIND, digits + _STREAM, read)
        if about is None or summed is None:
            raise not_found(name)
        if summed != digits or _read_about(about)[1] < 0:
            raise self._condemned(name)
        if DatasetStore.has(self, name):
            self.check(name)

    def has(self, name: str) -> bool:
        return self._blobs.has(_KIND, _digits(name) + _ABOUT)

    def describe(self, name: str) -> Dataset:
        about = self._blobs.get(_KIND, _digits(name) + _ABOUT, _MOST_ABOUT_BYTES)
        examples, size = _read_about(about or b"")
        if size < 0:  # gone or damaged, which is for `look` to say
            return self.look(name)
        return Dataset(name, examples, size, os.fsencode(self._place(name).absolute() / STREAM))

    def adopt(self, stream: Path, name: str, examples: int, index: Path | None = None) -> None:
        """Takes a finished stream over; while it cannot be kept elsewhere it stays, and this may be tried again."""
        self._upload(stream, name, examples)
        super().adopt(stream, name, examples, index)

    def settle(self, aside: Path, name: str, examples: int, size: int) -> None:
        self._upload(aside / STREAM, name, examples)
        self._make_room(size)
        super().settle(aside, name, examples, size)

    def delete(self, name: str) -> None:
        self.register.dropped(name)  # before what it stands for, as everywhere
        there = [self._blobs.delete(_KIND, _digits(name) + end) for end in (_ABOUT, _STREAM)]
        try:
            super().delete(name)
        except NotFound:
            if not any(there):
                raise

    def examples(self, entry: Entry) -> int | None:
        about = entry.about
        if not about:
            found = self._blobs.get(_KIND, _digits(entry.name) + _ABOUT, _MOST_ABOUT_BYTES)
            if found is None:
                return None
            about = found
            self.register.described(entry.name, about)
        examples, _ = _read_about(about)
        return examples if examples >= 0 else None

    def found(self) -> Iterator[Entry]:
        blobs = {blob.name: blob for blob in self._blobs.all(_KIND)}
        for file, blob in blobs.items():
            digits, dot, _ = file.partition(_STREAM)
            if dot and is_dataset_name(PREFIX + digits) and digits + _ABOUT in blobs:
                yield Entry(PREFIX + digits, blob.size_bytes, blob.modified_at_ns, blob.modified_at_ns)

    def unfinished(self) -> Iterator[Blob]:
        """Streams that nodes which were killed have put there, of which nobody has said that they are whole."""
        blobs = {blob.name: blob for blob in self._blobs.all(_KIND)}
        for file, blob in blobs.items():
            if file.endswith(_STREAM) and file.removesuffix(_STREAM) + _ABOUT not in blobs:
                yield blob

    def _upload(self, stream: Path, name: str, examples: int) -> None:
        digits = _digits(name)
        if not self._blobs.has(_KIND, digits + _ABOUT):
            self._blobs.upload(_KIND, digits + _STREAM, stream)
            about = (_FORMAT, examples, stream.stat().st_size)
            self._blobs.put(_KIND, digits + _ABOUT, term_to_binary(about))

    def _fetch(self, name: str) -> None:
        """Makes a copy, every byte of which is right; what is not right elsewhere is set aside there."""
        digits = _digits(name)
        about = self._blobs.get(_KIND, digits + _ABOUT, _MOST_ABOUT_BYTES)
        if about is None:
            return
        examples, size = _read_about(about)
        self._make_room(size)
        aside = self.begin()
        try:
            if not self._blobs.download(_KIND, digits + _STREAM, aside / STREAM):
                return
            if size < 0 or _sha256(aside / STREAM) != digits or (aside / STREAM).stat().st_size != size:
                raise self._condemned(name)
            super().settle(aside, name, examples, size)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _condemned(self, name: str) -> NotFound:
        """Sets aside what is not right elsewhere, and gives what is said of it."""
        for end in (_ABOUT, _STREAM):
            self._blobs.set_aside(_KIND, _digits(name) + end)
        self.register.damaged(name, f"{_digits(name)}.damaged")
        return damaged(name)

    # -- copies

    def _make_room(self, size: int) -> None:
        copies = sorted(self._copies())
        total = size + sum(copy[1] for copy in copies)
        for used_at, taken, name in copies:
            if total <= self._room_bytes or used_at > time.time() - _IN_USE_S:
                break
            self._drop_copy(name)
            total -= taken

    def _copies(self) -> Iterator[tuple[float, int, str]]:
        """When each was last used, what it takes, and its name."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another node was faster
                    if is_dataset_name(PREFIX + entry.name):
                        taken = sum(file.stat().st_size for file in os.scandir(entry.path))
                        yield entry.stat().st_mtime, taken, PREFIX + entry.name

    def _drop_copy(self, name: str) -> None:
        aside = self.begin()
        try:
            with contextlib.suppress(FileNotFoundError):
                self._place(name).rename(aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _digits(name: str) -> str:
    return name.removeprefix(PREFIX)


def _read_about(about: bytes) -> tuple[int, int]:
    """Examples and bytes; what does not say that has less than none of both."""
    with contextlib.suppress(DecodeError):
        match binary_to_term(about):
            case (kind, int() as examples, int() as size) if kind == _FORMAT and examples >= 0 and size >= 0:
                return examples, size
    return -1, -1


def _sha256(path: Path) -> str:
    import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
