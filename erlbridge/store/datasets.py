"""Datasets on disk, each a directory named by the hash of its stream. Knows bytes and names, not what they mean.

    datasets/<64 digits>/stream    the examples, each a 4-byte length and a term; its SHA-256 is the name
    datasets/<64 digits>/about     {1, examples, bytes}, a term
    datasets/<64 digits>/index     where each example stands, and its sum; made of the stream where it is missing

A directory appears whole, by a rename, and what is in it never changes.
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
from erlbridge.store.dataset_index import INDEX, is_sound, write_index
from erlbridge.store.files import ASIDE, sync_directory
from erlbridge.store.index import Entry
from erlbridge.store.register import Register
from erlbridge.wire.transfer import LEAST_FRAMED_BYTES
from erlbridge.wire.vocabulary import atom

_FORMAT: Final = 1
STREAM: Final = "stream"
"""The stream's name in its directory."""

_ABOUT: Final = "about"
_READ_BYTES: Final = 1024 * 1024
_TRIES: Final = 3


class DatasetStore:
    """Content-addressed datasets under one directory, shared safely by any number of nodes on this machine.

    What the disk refuses is an `OSError`.

    Args:
        directory: Where they lie.
        register: Where it is noted when each was stored and last used.
    """

    def __init__(self, directory: Path, register: Register) -> None:
        self.directory = directory
        self.register = register

    def find(self, name: str) -> Dataset:
        """A dataset; its bytes are checked when they are read. Raises `NotFound`; one of which a part is missing is set
        aside under another name."""
        found = self.look(name)
        self.register.used(name, found.size_bytes)
        return found

    def has(self, name: str) -> bool:
        """Whether something of a name is there, be it damaged."""
        return os.path.lexists(self._place(name))

    def look(self, name: str) -> Dataset:
        """The same, which does not count as using it."""
        place = self._place(name)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, DecodeError):
            match binary_to_term((place / _ABOUT).read_bytes()):
                case (kind, int() as examples, int() as size) if kind == _FORMAT:
                    if (place / STREAM).stat().st_size == size and 0 < examples <= size // LEAST_FRAMED_BYTES:
                        return Dataset(name, examples, size, os.fsencode(place.absolute() / STREAM))
        raise damaged(name) if self.set_aside(name) else not_found(name)

    def describe(self, name: str) -> Dataset:
        """The same, for whoever asks how large it is: bytes that lie elsewhere stay there."""
        return self.look(name)

    def ready(self, name: str) -> Dataset:
        """The same, with an index that is right: one that is missing or damaged is made again, for which the whole
        stream is read, and set aside when it is not what its name says. So a transfer need not wait for an index."""
        found = self.find(name)
        return found if self.index(found) else self.find(name)

    def index(self, found: Dataset) -> bool:
        """Makes a dataset's index again where it is missing or damaged, and gives whether it was right. Raises
        `NotFound` for a dataset whose stream is not what its name says, or has not so many examples as is noted: it is
        set aside."""
        name = found.name
        place, digits = self._place(name), name.removeprefix(PREFIX)
        if is_sound(place / INDEX, digits, found.examples):
            return True
        aside = Path(_temporary(self.directory))
        try:
            written = write_index(aside / INDEX, _pieces(place / STREAM))
            if written != digits or not is_sound(aside / INDEX, digits, found.examples):
                self.set_aside(name)
                raise damaged(name)
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, which `find` says
                (aside / INDEX).rename(place / INDEX)
        except FileNotFoundError:  # deleted in front of that
            raise not_found(name) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return False

    def check(self, name: str, read: Callable[[int], None] = lambda _: None) -> Dataset:
        """A dataset of which every byte is right; `read` is told how many were read. Raises `NotFound`; what is not
        right is set aside."""
        return self._checked(self.look(name), read)

    def examine(self, name: str, read: Callable[[int], None]) -> None:
        """The same, where it is kept, with its index: that shows whether it has as many examples as is noted."""
        self.index(self.check(name, read))

    def _checked(self, found: Dataset, read: Callable[[int], None]) -> Dataset:
        name = found.name
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        summed = hashlib.sha256()
        try:
            for piece in _pieces(found.path):
                summed.update(piece)
                read(len(piece))
        except FileNotFoundError:  # deleted meanwhile
            raise not_found(name) from None
        if PREFIX + summed.hexdigest() != name:
            self.set_aside(name)
            raise damaged(name)
        return found

    def read(self, found: Dataset, offset: int, limit: int) -> bytes:
        """A part of a dataset's stream, not checked against its name."""
        with open(found.path, "rb", buffering=0) as stream:
            return os.pread(stream.fileno(), limit, offset)

    def adopt(self, stream: Path, name: str, examples: int, index: Path | None = None) -> None:
        """Takes a finished stream over, by a rename; it must be on this disk, and be what the name says. So must its
        index, when there is one: else it is made when the dataset is used first."""
        size = stream.stat().st_size
        if self._holds(name):
            stream.unlink()
            if index is not None:
                index.unlink()
            self.register.stored(name, size)
            return
        aside = self._taking_over(stream)
        aside.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            stream.rename(aside / STREAM)
            if index is not None:
                index.rename(aside / INDEX)
            self.settle(aside, name, examples, size)
        except BaseException:
            self.give_back(stream)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def give_back(self, stream: Path) -> None:
        """Puts a stream back that was being taken over when the disk refused, or the node was killed."""
        with contextlib.suppress(FileNotFoundError):
            (self._taking_over(stream) / STREAM).rename(stream)

    def _taking_over(self, stream: Path) -> Path:
        """Where a stream is between its place and that of the dataset. Only who has its transfer open goes there."""
        return self.directory / f"{ASIDE}{stream.stem}"

    def begin(self) -> Path:
        """A directory beside the datasets for one that is being written. What is forgotten there is swept."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(_temporary(self.directory))

    def discard(self, aside: Path) -> None:
        """Removes such a directory, and what is left in it."""
        shutil.rmtree(aside, ignore_errors=True)

    def settle(self, aside: Path, name: str, examples: int, size: int) -> None:
        """Makes a dataset of such a directory, in which the stream lies, and perhaps its index, both on the disk. Where
        the same dataset is already, it stays, and so does the directory."""
        place = self._place(name)
        with open(aside / _ABOUT, "wb") as file:
            file.write(term_to_binary((_FORMAT, examples, size)))
            file.flush()
            os.fsync(file.fileno())
        sync_directory(aside)
        for _ in range(_TRIES):
            try:
                aside.rename(place)
                break
            except OSError:  # something is there: another node was faster, or it is damaged
                if self._holds(name):
                    break
        else:
            aside.rename(place)  # says why not
        sync_directory(self.directory)
        self.register.stored(name, size)

    def set_aside(self, name: str) -> bool:
        """Renames a damaged dataset, in the place of one that was damaged before; gives whether there was one."""
        place = self._place(name)
        aside = place.with_suffix(".damaged")
        if os.path.lexists(place):
            shutil.rmtree(aside, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                place.rename(aside)
                self.register.damaged(name, aside.name)
                return True
        return False

    def delete(self, name: str) -> None:
        """Forgets a dataset, whole, its note first; jobs that have it open read it to its end. Raises `NotFound`."""
        aside = self.begin()
        self.register.dropped(name)
        try:
            self._place(name).rename(aside)
        except FileNotFoundError:
            raise not_found(name) from None
        except OSError:
            self.register.is_behind = True  # it lies there still
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        sync_directory(self.directory)

    def newest(self, limit: int, after: tuple[int, str] | None = None) -> list[Entry]:
        """The newest, or those that come behind a place in that list: time and name."""
        return self.register.newest(self.found, limit, after)

    def examples(self, entry: Entry) -> int | None:
        """How many a dataset in a list has; None when it turns out to be gone."""
        try:
            return self.look(entry.name).examples
        except NotFound:
            self.register.dropped(entry.name)
            return None

    def found(self) -> Iterator[Entry]:
        """What lies there, with or without a note: by names and sizes, nothing is read."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                if not is_dataset_name(name := PREFIX + entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    stream = os.stat(Path(entry.path) / STREAM, follow_symlinks=False)
                    yield Entry(name, stream.st_size, stream.st_mtime_ns, stream.st_mtime_ns)

    def drop_index(self, name: str) -> None:
        """Removes an index that a reader found damaged; `ready` makes it again."""
        (self._place(name) / INDEX).unlink(missing_ok=True)

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
        """Whether it is in this directory and every byte is right; what is not right is set aside."""
        try:
            self._checked(DatasetStore.look(self, name), lambda _: None)
        except NotFound:
            return False
        return True

    def _place(self, name: str) -> Path:
        # The name has been matched against its pattern on arrival, so it cannot leave the directory.
        return self.directory / name.removeprefix(PREFIX)


def _pieces(path: Path | bytes) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(_READ_BYTES):
            yield piece


def not_found(name: str) -> NotFound:
    """What is said of a dataset that is not there."""
    return NotFound(f"no dataset {name} is stored here; send it first, as a transfer", context={"dataset": name})


def damaged(name: str) -> NotFound:
    """What is said of a dataset that was set aside."""
    return NotFound(
        f"the dataset {name} is damaged on disk and set aside; send it again",
        context={"dataset": name, "reason": atom("damaged")},
    )


def _temporary(directory: Path) -> str:
    import tempfile  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return tempfile.mkdtemp(dir=directory, prefix=ASIDE)
