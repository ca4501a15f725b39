"""Files that are whole or absent: written aside and renamed; read only where a regular file stands.

Knows paths and bytes, not what they mean.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

ASIDE: Final = ".new-"
"""How the names of files begin that are being written, or were when their node was killed."""
_NO_FILE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Puts a file in its place, so that a crash leaves it whole, as it was before, or absent.

    Args:
        durable: Whether that holds for a power cut too, and the file is on the disk itself when this returns: some
            10 ms on a disk that has other work. Without, a power cut may leave less, which a checksum must find.

    What stands there and is no file is set aside as `.damaged`. Raises `OSError` when the disk refuses.
    """
    directory = path.parent
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    import tempfile  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    descriptor, aside = tempfile.mkstemp(dir=directory, prefix=ASIDE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if os.path.lexists(path) and not path.is_file():
            path.rename(path.with_suffix(".damaged"))  # a directory, for example: no file takes its place
        Path(aside).rename(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(directory)


def read_regular(path: Path, limit_bytes: int = -1) -> bytes | None:
    """A file's bytes, None when there is no such file: a pipe, a link or a directory is none. Raises `OSError` when the
    disk refuses, or no descriptor is left."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        # Python makes room for all that it is asked for, however little there is.
        return file.read(min(limit_bytes, found.st_size) if limit_bytes >= 0 else -1)


def sync_directory(directory: Path) -> None:
    """Forces to disk which files a directory holds."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_whole(file: int, content: bytes | bytearray | memoryview, size: int) -> None:
    """Writes all of it at the end of an open file of `size` bytes. When the disk refuses, what it took is cut off again
    where that can be done, and the `OSError` raised."""
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def lock_file(path: Path, flags: int = 0) -> int:
    """A descriptor of a file that holds its lock, which the kernel takes back however this process ends; `flags` may
    have the file made.

    Raises `FileNotFoundError` when there is none, `BlockingIOError` when another process has it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # who had it has removed it
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
