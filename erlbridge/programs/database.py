"""A small database in a file that all workers of the machine may use at once; nothing that it holds is trusted.

SQLite gives what the users of this module need: many processes, whole transactions whatever is killed, one file. Knows
files, locks and damage; knows no table but by its schema.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from erlbridge.core.backoff import delay_s

Result = TypeVar("Result")

_BUSY_S: Final = 1.0
"""How long to wait for another process's transaction; each takes less than a millisecond. The job waits with it, also
past its deadline, so whoever holds a lock for longer is not waited for again soon."""

_LONGEST_REFUSAL_S: Final = 15.0
"""How long a file that refused is left alone at most, before it is asked again whether it takes what comes."""

_DAMAGED: Final = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    # The statements are ours and never change: where one is wrong, the tables are not those that we made.
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT,
}
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PRIMARY_CODE: Final = 0xFF
_SIDE_FILES: Final = ("", "-wal", "-shm")
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",  # readers do not wait for a writer
    "PRAGMA synchronous = NORMAL",  # no fsync for each write: a crash of the machine may lose the newest rows, no more
    "PRAGMA journal_size_limit = 4194304",
    "PRAGMA trusted_schema = OFF",  # somebody else may have written the file
    "PRAGMA cell_size_check = ON",
)


class Database:
    """Tables under a path, made when first used.

    What is kept here must cost no job: a file that is damaged is set aside, and while one refuses (a full disk, one
    that may not be written, somebody's lock) a database in this process's memory stands in, for writing alone where
    the file can still be read. The log says when that begins and when it is over.

    Args:
        path: The file; None keeps everything in memory.
        schema: Statements that make the tables, each with `IF NOT EXISTS`.
        clock: Seconds that only go up.
    """

    def __init__(self, path: Path | None, schema: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._schema = schema
        self._clock = clock
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._memory: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._refusals = 0
        self._read_from = 0.0
        self._write_from = 0.0

    def read(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """What `work` finds; `otherwise` when nothing can be read now."""
        with self._lock:
            if self._memory is not None and (found := self._in_memory(work, otherwise)) != otherwise:
                return found  # written while the file refused
            if self.path is not None and self._clock() >= self._read_from:
                try:
                    return self._mended(work)
                except (sqlite3.Error, OSError) as error:
                    self._refuse(error, reading=True)
            return self._in_memory(work, otherwise)

    def write(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """What `work` gives, its changes made all or none, and alone among all processes; `otherwise` when they cannot
        be made now."""

        def alone(connection: sqlite3.Connection) -> Result:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        with self._lock:
            if self.path is not None and self._clock() >= self._write_from:
                try:
                    result = self._mended(alone)
                except (sqlite3.Error, OSError) as error:
                    self._refuse(error, reading=False)
                else:
                    self._recover()
                    return result
            return self._in_memory(alone, otherwise)

    def close(self) -> None:
        """Lets go of the file; the next use opens it again."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self._close()

    # -- the file

    def _mended(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """What `work` gives on the file, which is replaced once if it turns out to be damaged."""
        try:
            return work(self._file or self._open())
        except (sqlite3.Error, OSError) as error:
            if not self._is_damage(error):
                raise
            self._set_aside(error)
            return work(self._open())

    def _open(self) -> sqlite3.Connection:
        assert self.path is not None  # noqa: S101 - asked for by the callers
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made here, not by SQLite: for its owner only, and never through a link or into a pipe.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self.path} is no file")
            os.fchmod(descriptor, 0o600)
            self._opened = found.st_dev, found.st_ino
        finally:
            os.close(descriptor)
        self._file = self._connect(str(self.path))
        return self._file

    def _connect(self, where: str) -> sqlite3.Connection:
        # The lock above keeps two threads from one connection.
        connection = sqlite3.connect(where, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_damage(self, error: Exception) -> bool:
        return _code(error) in _DAMAGED or self._irregular()

    def _irregular(self) -> bool:
        """Whether something that is no file, such as a directory, stands where one of the files should be."""
        return any(_exists_irregular(path) for path in self._files())

    def _files(self) -> list[Path]:
        path = self.path
        return [] if path is None else [path.with_name(path.name + end) for end in _SIDE_FILES]

    def _set_aside(self, error: Exception) -> None:
        self._close()
        assert self.path is not None  # noqa: S101 - as above
        try:
            found = self.path.lstat()
            if stat.S_ISREG(found.st_mode) and self._opened not in (None, (found.st_dev, found.st_ino)):
                return  # another process was first: what is there now is new
            aside = self.path.with_suffix(".damaged")
            _say(f"{self.path.name} is damaged and is set aside as {aside.name}: {error}")
            for path, end in zip(self._files(), _SIDE_FILES, strict=True):
                if os.path.lexists(path):
                    path.rename(aside.with_name(aside.name + end))
        except OSError as failure:
            _say(f"{self.path.name} is damaged and cannot be set aside: {failure}")

    # -- while it refuses

    def _refuse(self, error: Exception, *, reading: bool) -> None:
        """The file is left alone for a while; for writing only, if it was open and nobody kept it locked."""
        assert self.path is not None  # noqa: S101 - as above
        if not self._refusals:
            _say(f"{self.path} cannot be used, this worker keeps its own in memory for now: {error}")
        self._refusals += 1
        until = self._clock() + delay_s(self._refusals, first_s=1.0, most_s=_LONGEST_REFUSAL_S)
        self._write_from = until
        if reading or self._file is None or _code(error) in _BUSY:
            self._close_file()
            self._read_from = until

    def _recover(self) -> None:
        if self._refusals and self.path is not None:
            _say(f"{self.path} is used again")
            self._refusals = 0
            self._read_from = self._write_from = 0.0
            self._close_memory()

    def _in_memory(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        try:
            if self._memory is None:
                self._memory = self._connect(":memory:")
            return work(self._memory)
        except sqlite3.Error:
            return otherwise

    def _close(self) -> None:
        self._close_file()
        self._close_memory()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _close_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _code(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY_CODE


def _exists_irregular(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _say(line: str) -> None:
    print(f"erlbridge: {line}", file=sys.stderr, flush=True)  # noqa: T201 - a worker's standard error is the host's log
