"""Where a store's bytes lie: whole files by kind and name. `LocalBlobs` has them in the data directory.

Knows names and bytes, not what they mean: what is read is checked by whoever knows its name's promise.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from erlbridge.store.files import ASIDE, read_regular, sync_directory, write_whole


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as its place knows it; `modified_at_ns` counts from 1970."""

    name: str
    size_bytes: int
    modified_at_ns: int


class Blobs(Protocol):
    """Blobs of all kinds. A kind is a directory's name of ours (`programs`); a name is a file's, checked by its giver.

    Every method may raise `OSError`.
    """

    def put(self, kind: str, name: str, content: bytes, *, durable: bool = True) -> None:
        """Keeps bytes, whole or not at all, in the place of what was there. See `files.write_whole`."""

    def get(self, kind: str, name: str, limit_bytes: int = -1) -> bytes | None:
        """A blob's bytes, or the first so many; None when there is none."""

    def delete(self, kind: str, name: str, *, durable: bool = True) -> bool:
        """Forgets a blob; gives whether there was one. A power cut may bring back one whose going is not `durable`."""

    def set_aside(self, kind: str, name: str) -> str | None:
        """Renames a damaged blob, in the place of one that was damaged before, and gives its new name; None when
        another node was faster."""

    def all(self, kind: str) -> Iterator[Blob]:
        """Every blob of a kind, in no order; what is being written and what was set aside is none."""

    def has(self, kind: str, name: str) -> bool:
        """Whether something lies there, be it damaged."""


class LocalBlobs:
    """Blobs under one directory, shared safely by all nodes of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, kind: str, name: str, content: bytes, *, durable: bool = True) -> None:
        write_whole(self._path(kind, name), content, durable=durable)

    def get(self, kind: str, name: str, limit_bytes: int = -1) -> bytes | None:
        return read_regular(self._path(kind, name), limit_bytes)

    def delete(self, kind: str, name: str, *, durable: bool = True) -> bool:
        path = self._path(kind, name)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        if durable:
            sync_directory(path.parent)
        return True

    def set_aside(self, kind: str, name: str) -> str | None:
        path = self._path(kind, name)
        damaged = path.with_suffix(".damaged")
        try:
            path.rename(damaged)
        except FileNotFoundError:
            return None
        return damaged.name

    def all(self, kind: str) -> Iterator[Blob]:
        try:
            directory = os.scandir(self.directory / kind)
        except FileNotFoundError:
            return
        with directory:
            for entry in directory:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # deleted meanwhile
                if stat.S_ISREG(found.st_mode) and not entry.name.startswith(ASIDE):
                    yield Blob(entry.name, found.st_size, found.st_mtime_ns)

    def has(self, kind: str, name: str) -> bool:
        return os.path.lexists(self._path(kind, name))

    def _path(self, kind: str, name: str) -> Path:
        return self.directory / kind / name
