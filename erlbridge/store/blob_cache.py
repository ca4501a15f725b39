"""Copies on this machine's disk of blobs that lie elsewhere: what was read once is not fetched again. Costs no caller
anything: what cannot be read here, or is not what was written, is fetched.

    <64 digits>    SHA-256 of what follows and of the version, 32 bytes · the blob's bytes
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from erlbridge.store.files import read_regular, write_whole

_SUM_BYTES: Final = 32
_LARGEST_PART: Final = 4
"""No blob takes more than such a part of the room."""
_SLACK: Final = 16
"""The bound is kept to within such a part of it."""


class BlobCache:
    """Copies under one directory, shared safely by all nodes of this machine; those used longest ago go first.

    Args:
        directory: Where they lie.
        limit_bytes: What they may take, about.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._new_bytes = limit_bytes
        """Written since the directory was looked at; at first, enough to look at it."""

    def get(self, kind: str, name: str, version: str) -> bytes | None:
        """The bytes of a blob in this version, None when they are not here."""
        path = self._path(kind, name)
        with contextlib.suppress(OSError):
            found = read_regular(path)
            if found is not None and found[:_SUM_BYTES] == _sum(version, memoryview(found)[_SUM_BYTES:]):
                os.utime(path)
                return found[_SUM_BYTES:]
        return None

    def put(self, kind: str, name: str, version: str, content: bytes) -> None:
        """Keeps the bytes of a blob's version, in the place of another one's."""
        if len(content) * _LARGEST_PART > self._limit_bytes:
            return
        with contextlib.suppress(OSError):
            write_whole(self._path(kind, name), _sum(version, content) + content, durable=False)
            self._new_bytes += len(content)
            if self._new_bytes * _SLACK >= self._limit_bytes:
                self._new_bytes = 0
                self._prune()

    def drop(self, kind: str, name: str) -> None:
        """Forgets a blob."""
        with contextlib.suppress(OSError):
            self._path(kind, name).unlink()

    def _path(self, kind: str, name: str) -> Path:
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        return self.directory / hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()

    def _prune(self) -> None:
        """Drops what is too much, with what a killed node has left half written."""
        total = 0
        with os.scandir(self.directory) as entries:
            found = []
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another node was faster
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
        for _, size, path in sorted(found, reverse=True):
            total += size
            if total > self._limit_bytes:
                Path(path).unlink(missing_ok=True)


def _sum(version: str, content: bytes | memoryview) -> bytes:
    import hashlib  # noqa: PLC0415 - as above

    summed = hashlib.sha256(version.encode())
    summed.update(b"\0")
    summed.update(content)
    return summed.digest()
