"""The files of a capture: appended to, and rotated by size.

A capture is `bridge.ecap` in a directory and, older, `bridge.0000001.ecap` and so on. A second node that is told the
same name at the same time writes `bridge-2.ecap`; a lock file says which is taken. Only their owner reads them, no
link is followed, and a file that is something else is left as it is. Knows files and bytes, not what these say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

from erlbridge.store.files import append_whole, lock_file
from erlbridge.wire.capture import FILE_HEADER

_MOST_CAPTURES: Final = 64
_SET_ASIDE: Final = re.compile(r"(?P<stem>.+)\.(?P<number>[0-9]{7,15})\Z", re.DOTALL)


def older_files(path: Path) -> list[Path]:
    """The files of a capture that were set aside, from the oldest to the newest; `path` is the one that is written.

    Raises `OSError` when the directory cannot be read.
    """
    found: list[tuple[int, Path]] = []
    for beside in path.parent.iterdir():
        name = _SET_ASIDE.match(beside.stem)
        if name and name["stem"] == path.stem and beside.suffix == path.suffix:
            found.append((int(name["number"]), beside))
    return [beside for _, beside in sorted(found)]


class CaptureFiles:
    """A capture that this process alone appends to, at `path`, which is `wanted` or near it. Every method may raise
    `OSError`.

    Args:
        path: Of the file. Its directory is made when it is not there.
        max_bytes: A file that would grow beyond it is followed by a new one.
        keep: How many are kept, the current one included.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self.wanted = self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._lock: tuple[int, Path] | None = None
        self._file: int | None = None
        self._size = 0

    def open(self) -> None:
        """Goes on with the capture that is there, or begins one."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_name()
        try:
            self._begin(0)
        except BaseException:
            self.close()
            raise

    def fits(self, size: int) -> bool:
        """Whether so many bytes more belong into the current file; into an empty one any do."""
        return self._size + size <= self._max_bytes or self._size <= len(FILE_HEADER)

    def append(self, content: bytes | bytearray | memoryview) -> None:
        """Writes at the end. What a full disk took of it is cut off again."""
        if self._file is None:
            raise OSError(errno.EBADF, "it is not open")
        append_whole(self._file, content, self._size)  # readers pass over what cannot be cut off
        self._size += len(content)

    def rotate(self) -> None:
        """Sets the current file aside under the next number, begins a new one, and forgets the oldest."""
        older = older_files(self.path)
        last = _SET_ASIDE.match(older[-1].stem) if older else None
        number = int(last["number"]) + 1 if last else 1
        aside = self.path.with_name(f"{self.path.stem}.{number:07}{self.path.suffix}")
        self.path.rename(aside)
        self._release_file()
        self._begin(os.O_EXCL)
        for path in [*older, aside][: max(0, len(older) + 2 - self._keep)]:
            with contextlib.suppress(OSError):  # one file too many is no reason to end the capture
                path.unlink()

    def close(self) -> None:
        """Gives the descriptors back."""
        self._release_file()
        if self._lock is not None:
            (descriptor, path), self._lock = self._lock, None
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)

    def _take_name(self) -> None:
        """The first name that no other node writes to, locked for this one."""
        wanted = self.wanted
        for number in range(1, _MOST_CAPTURES + 1):
            path = wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            lock = path.with_name(f".{path.name}.lock")
            with contextlib.suppress(BlockingIOError):
                self._lock = (lock_file(lock, os.O_CREAT), lock)
                self.path = path
                return
        raise OSError(errno.EBUSY, f"{_MOST_CAPTURES} nodes write captures of this name already", str(wanted))

    def _begin(self, flags: int) -> None:
        flags |= os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = file = os.open(self.path, flags, 0o600)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(self.path))
        self._size = found.st_size
        head = os.pread(file, len(FILE_HEADER), 0)
        if head != FILE_HEADER[: len(head)]:
            raise OSError(errno.EEXIST, "it is there and no capture of this version; give another name", str(self.path))
        if len(head) < len(FILE_HEADER):  # empty, or a crash has cut it off within its first bytes
            self.append(FILE_HEADER[len(head) :])

    def _release_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)
