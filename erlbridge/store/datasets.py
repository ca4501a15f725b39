"""Datasets on disk, each a directory named by the hash of its stream. Knows bytes and names, not what they mean.

    datasets/<64 digits>/stream    the examples, each a 4-byte length and a term; its SHA-256 is the name
    datasets/<64 digits>/about     {1, examples, bytes}, a term

A directory appears whole, by a rename, and what is in it never changes; later files beside these two may.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.datasets import PREFIX, Dataset, is_dataset_name
from erlbridge.errors import DecodeError, NotFound
from erlbridge.store.files import ASIDE
from erlbridge.store.index import Entry
from erlbridge.store.register import Register

_FORMAT: Final = 1
_STREAM: Final = "stream"
_ABOUT: Final = "about"
_READ_BYTES: Final = 1024 * 1024
_TRIES: Final = 3


class DatasetStore:
    """Content-addressed datasets under one directory, shared safely by any number of nodes on this machine.

    What the disk refuses is an `OSError`.

    Args:
        directory: Where they lie.
        register: Where it is noted when each was stored and last used; None where nobody asks.
    """

    def __init__(self, directory: Path, register: Register | None = None) -> None:
        self.directory = directory
        self.register = register

    def find(self, name: str) -> Dataset:
        """A dataset; its bytes are checked when they are read. Raises `NotFound`; one of which a part is missing is set
        aside under another name."""
        place = self._place(name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, DecodeError):
            match binary_to_term((place / _ABOUT).read_bytes()):
                case (kind, int() as examples, int() as size) if kind == _FORMAT:
                    if (place / _STREAM).stat().st_size == size:
                        if self.register is not None:
                            self.register.used(name, size)
                        return Dataset(name, examples, size, os.fsencode(place.absolute() / _STREAM))
        self.set_aside(name)
        raise NotFound(f"no dataset {name} is stored here; send it first, as a transfer", context={"dataset": name})

    def read(self, found: Dataset, offset: int, limit: int) -> bytes:
        """A part of a dataset's stream, not checked against its name."""
        with open(found.path, "rb", buffering=0) as stream:
            return os.pread(stream.fileno(), limit, offset)

    def adopt(self, stream: Path, name: str, examples: int) -> None:
        """Takes a finished stream over, by a rename; it must be on this disk, and be what the name says."""
        place = self._place(name)
        if self._holds(name):  # which notes that it is used
            stream.unlink()
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = Path(_temporary(self.directory))
        try:
            about = (_FORMAT, examples, stream.stat().st_size)
            stream.rename(aside / _STREAM)
            with open(aside / _ABOUT, "wb") as file:
                file.write(term_to_binary(about))
                file.flush()
                os.fsync(file.fileno())
            sync(aside)
            for _ in range(_TRIES):
                try:
                    aside.rename(place)
                    break
                except OSError:  # something is there: another node was faster, or it is damaged
                    if self._holds(name):
                        break
            else:
                aside.rename(place)  # says why not
            sync(self.directory)
            if self.register is not None:
                self.register.stored(name, about[2])
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def set_aside(self, name: str) -> None:
        """Renames a damaged dataset, in the place of one that was damaged before; what is not there stays so."""
        place = self._place(name)
        damaged = place.with_suffix(".damaged")
        if os.path.lexists(place):
            shutil.rmtree(damaged, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                place.rename(damaged)
        if self.register is not None:
            self.register.dropped(name)

    def found(self) -> Iterator[Entry]:
        """What lies there, with or without a note: by names and sizes, nothing is read."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                if not is_dataset_name(name := PREFIX + entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    stream = os.stat(Path(entry.path) / _STREAM, follow_symlinks=False)
                    yield Entry(name, stream.st_size, stream.st_mtime_ns, stream.st_mtime_ns)

    def sweep(self, older_than_s: float) -> None:
        """Removes what a node that was killed has left of datasets that it was taking over."""
        oldest = time.time() - older_than_s
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another node was faster
                    if entry.name.startswith(ASIDE) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                        shutil.rmtree(entry.path, ignore_errors=True)

    def sizes(self) -> Iterator[int]:
        """What each file takes, in bytes."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError), os.scandir(entry.path) as files:
                    yield from (file.stat(follow_symlinks=False).st_size for file in files)

    def _holds(self, name: str) -> bool:
        """Whether it is there and every byte is right; what is not right is set aside."""
        try:
            found = self.find(name)
        except NotFound:
            return False
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        summed = hashlib.sha256()
        with open(found.path, "rb", buffering=0) as stream:
            while piece := stream.read(_READ_BYTES):
                summed.update(piece)
        if PREFIX + summed.hexdigest() == name:
            return True
        self.set_aside(name)
        return False

    def _place(self, name: str) -> Path:
        # The name has been matched against its pattern on arrival, so it cannot leave the directory.
        return self.directory / name.removeprefix(PREFIX)


def _temporary(directory: Path) -> str:
    import tempfile  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return tempfile.mkdtemp(dir=directory, prefix=ASIDE)


def sync(directory: Path) -> None:
    """Has a directory's names on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
