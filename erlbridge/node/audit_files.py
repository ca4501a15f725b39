"""The files of the audit log: one chain of lines, opened where it ended, appended to, and rotated.

A chain is `audit.jsonl` in a directory and, older, `audit.0000001.jsonl` and so on. A second node on the same directory
at the same time writes the chain `audit-2`; a lock file says which is taken, and the kernel gives it back when its node
ends, however it ends. What is written is never changed: behind a line that a crash cut off a new file begins, whose
first line tells of the cut. Knows files; what lines hold is `core.audit`'s.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from erlbridge.core.audit import FORMAT, ORIGIN, Chain, Record, digest
from erlbridge.core.audit_check import MAX_LINE_BYTES, End, ending
from erlbridge.store.files import append_whole

_MOST_CHAINS: Final = 64
_NAME: Final = re.compile(r"(audit(?:-[0-9]{1,9})?)(?:\.([0-9]{7,15}))?\.jsonl\Z")
_CURRENT: Final = 10**15
"""Sorts the file that is written behind those that were."""


def chains(directory: Path) -> dict[str, list[Path]]:
    """The chains of a directory by name, each with its files from the oldest to the newest.

    Raises `OSError` when the directory cannot be read.
    """
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in directory.iterdir():
        if name := _NAME.match(path.name):
            found.setdefault(name[1], []).append((int(name[2] or _CURRENT), path))
    return {name: [path for _, path in sorted(files)] for name, files in sorted(found.items())}


class AuditFiles:
    """A chain that this process alone appends to. Every method may raise `OSError`.

    Args:
        directory: Made when it is not there.
        max_bytes: A file that would grow beyond it is followed by a new one.
        keep: How many of the chain's files are kept, the current one included.
        stamp: What every line holds besides its record.
    """

    def __init__(self, directory: Path, max_bytes: int, keep: int, stamp: Record) -> None:
        self.chain = Chain()
        self._directory = directory
        self._max_bytes = max_bytes
        self._keep = keep
        self._stamp = stamp
        self._name: str | None = None
        self._lock = -1
        self._file: int | None = None
        self._size = 0
        self._renamed = False

    @property
    def is_open(self) -> bool:
        """Whether lines can be put."""
        return self._file is not None

    def open(self) -> None:
        """Goes on with the chain where it ends: what this process knows of it, else what the directory holds."""
        if self._name is None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._name = self._free_name()
        self._file = _opened(self._path, os.O_CREAT)
        try:
            self._size = os.fstat(self._file).st_size
            end = self._end(self._file)
            if self.chain == Chain():
                self.chain = Chain(end.sequence or 0, end.head)
            if self._size == 0:
                self._begin(end.torn)
            elif end != End(self.chain.sequence, self.chain.head):
                self._rotate(end.torn)
        except BaseException:
            self.close()
            raise

    def put(self, items: deque[tuple[int, Record]]) -> None:
        """Appends a line for each item, its time in nanoseconds since 1970 and its record; takes written items away.

        One write for all that fit into the file: each gives the interpreter to the loop, and has to wait to have it
        back. What a full disk took of them is cut off again.
        """
        rotated = False
        while items:
            content, count, chain = b"", 0, self.chain
            for time_ns, record in items:
                line, after = chain.line(record | self._stamp, time_ns)
                if self._size + len(content) + len(line) >= self._max_bytes and not (rotated and count == 0):
                    break
                content, count, chain = content + line + b"\n", count + 1, after
            if count:
                self._append(content, chain)
                for _ in range(count):
                    items.popleft()
            if rotated := bool(items):
                self._rotate(b"")

    def sync(self) -> None:
        """Has what was put on the disk. A file that somebody moved away is left where it is, for a new one."""
        if self._file is None:
            return
        os.fsync(self._file)
        if self._renamed:
            self._sync_directory()
        try:
            still_there = os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            still_there = False
        if not still_there:
            self.close()

    def close(self) -> None:
        """Gives the descriptor back; the chain stays this process's own."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    # -- within a file

    def _append(self, content: bytes, after: Chain) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "it is not open")
        append_whole(self._file, content, self._size)  # what cannot be cut off is found when the file is opened again
        self._size += len(content)
        self.chain = after

    def _begin(self, torn: bytes) -> None:
        """The line that every file begins with."""
        record: Record = {"event": "opened", "format": FORMAT}
        if torn:
            record |= {"torn_bytes": len(torn), "torn_sha256": digest(torn)}
        line, after = self.chain.line(record | self._stamp, time.time_ns())
        self._append(line + b"\n", after)
        self._renamed = True

    # -- from file to file

    @property
    def _path(self) -> Path:
        return self._directory / f"{self._name}.jsonl"

    def _free_name(self) -> str:
        """The first chain that no other node writes, locked for this one."""
        for number in range(1, _MOST_CHAINS + 1):
            name = "audit" if number == 1 else f"audit-{number}"
            lock = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            except OSError:
                os.close(lock)
                raise
            else:
                self._lock = lock  # held until this process ends
                return name
        raise OSError(errno.EBUSY, f"{_MOST_CHAINS} nodes write their audit logs into {self._directory} already")

    def _older(self) -> list[Path]:
        return [path for path in chains(self._directory).get(self._path.stem, []) if path != self._path]

    def _end(self, file: int) -> End:
        """Where the chain on the disk ends."""
        found = _tail(file)
        for path in reversed(self._older()):
            if found.head != ORIGIN:
                break
            older = _opened(path)
            try:
                before = _tail(older)
            finally:
                os.close(older)
            found = End(before.sequence, before.head, found.torn or before.torn)
        return found

    def _rotate(self, torn: bytes) -> None:
        """Sets the current file aside under the next number, begins a new one, and forgets the oldest."""
        if self._file is not None:
            os.fsync(self._file)
        older = self._older()
        last = _NAME.match(older[-1].name) if older else None
        number = int(last[2]) + 1 if last else 1
        aside = self._path.with_name(f"{self._name}.{number:07}.jsonl")
        self._path.rename(aside)
        self.close()
        self._file, self._size = _opened(self._path, os.O_CREAT | os.O_EXCL), 0
        self._begin(torn)
        for path in [*older, aside][: max(0, len(older) + 2 - self._keep)]:
            with contextlib.suppress(OSError):  # one file too many is no reason to lose a line
                path.unlink()

    def _sync_directory(self) -> None:
        self._renamed = False
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_lines(file: int) -> Iterator[bytes]:
    """The lines of an open file with their newlines, none longer than is read; takes the descriptor over."""
    with os.fdopen(file, "rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES):
            yield line


def opened_to_read(path: Path) -> int:
    """Raises `OSError` when there is no such file that can be read; a pipe or a directory is none."""
    return _regular(os.open(path, os.O_RDONLY | os.O_NONBLOCK), path)


def _opened(path: Path, flags: int = 0) -> int:
    flags |= os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW
    return _regular(os.open(path, flags, 0o600), path)


def _regular(file: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def _tail(file: int) -> End:
    """Where an open file ends, by its last bytes."""
    size = os.fstat(file).st_size
    start = max(0, size - 2 * MAX_LINE_BYTES)
    return ending(os.pread(file, size - start, start), whole=start == 0)
