"""A database in a file that many processes of this machine may use at once; nothing that it holds is trusted.

SQLite gives what is needed: whole transactions whatever is killed, one file. Knows files, locks and damage; knows no
table but by its schema.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

Result = TypeVar("Result")

MEMORY: Final = ":memory:"
"""Where a database is that ends with its process."""

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
_MAKING_S: Final = 5.0
"""How long a process that has not had the file yet waits while others make it, which includes what a slow disk takes to
sync. SQLite itself does not wait there: of two that turn a new file to WAL at once, one is refused at once."""

_AGAIN_S: Final = 0.005
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",  # readers do not wait for a writer
    "PRAGMA synchronous = NORMAL",  # no fsync for each write: a crash of the machine may lose the newest rows, no more
    "PRAGMA journal_size_limit = 4194304",
    "PRAGMA trusted_schema = OFF",  # somebody else may have written the file
    "PRAGMA cell_size_check = ON",
)


class SqliteFile:
    """The one connection of this process to a file, opened when first used. Not for two threads at once.

    Args:
        path: The file; made with its directory, for its owner only.
        prepare: Called with a connection that was just opened; makes the tables where they are missing.
        busy_s: How long to wait for another process's transaction.
        say: Told, in a line, of a file that was set aside.

    Raises `sqlite3.Error` and `OSError` for what the file refuses.
    """

    def __init__(
        self,
        path: Path,
        prepare: Callable[[sqlite3.Connection], None],
        busy_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.path = path
        self._prepare = prepare
        self._busy_s = busy_s
        self._say = say
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._was_open = False

    @property
    def is_open(self) -> bool:
        """Whether the file was opened, and could be."""
        return self._connection is not None

    def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """What `work` gives on the file. One that turns out to be damaged is set aside, and `work` done once more, on a
        new one."""
        try:
            return work(self._connection or self._open())
        except (sqlite3.Error, OSError) as error:
            if not self._is_damage(error):
                raise
        self.close()
        try:
            # SQLite calls a single read that the disk refused a damaged file (SQLITE_IOERR_CORRUPTFS): what is damaged
            # is so at the second look too.
            return work(self._open())
        except (sqlite3.Error, OSError) as error:
            if not self._is_damage(error):
                raise
            self._set_aside(error)
            return work(self._open())

    def transaction(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """The same, its changes made all or none, and alone among all processes."""
        return self.run(lambda connection: alone(connection, work))

    def close(self) -> None:
        """Lets go of the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
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
        until = time.monotonic() + (0.0 if self._was_open else _MAKING_S)
        while self._connection is None:
            try:
                self._connection = connect(str(self.path), self._prepare, self._busy_s)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() >= until:
                    raise
                time.sleep(_AGAIN_S)
        self._was_open = True
        return self._connection

    def _is_damage(self, error: Exception) -> bool:
        return _code(error) in _DAMAGED or any(_exists_irregular(path) for path in self._files())

    def _files(self) -> list[Path]:
        return [self.path.with_name(self.path.name + end) for end in _SIDE_FILES]

    def _set_aside(self, error: Exception) -> None:
        self.close()
        try:
            found = self.path.lstat()
            if stat.S_ISREG(found.st_mode) and self._opened not in (None, (found.st_dev, found.st_ino)):
                return  # another process was first: what is there now is new
            aside = self.path.with_suffix(".damaged")
            self._say(f"{self.path.name} is damaged and is set aside as {aside.name}: {error}")
            for path, end in zip(self._files(), _SIDE_FILES, strict=True):
                if os.path.lexists(path):
                    path.rename(aside.with_name(aside.name + end))
        except OSError as failure:
            self._say(f"{self.path.name} is damaged and cannot be set aside: {failure}")


def connect(where: str, prepare: Callable[[sqlite3.Connection], None], busy_s: float) -> sqlite3.Connection:
    """A connection as this bridge uses them; whoever has it sees to it that no two threads use it at once."""
    connection = sqlite3.connect(where, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def alone(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Result]) -> Result:
    """What `work` gives, in one transaction that no other process writes in."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def is_busy(error: Exception) -> bool:
    """Whether another process kept the file locked for too long."""
    return _code(error) in _BUSY


def _code(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY_CODE


def _exists_irregular(path: Path) -> bool:
    """Whether something that is no file, such as a directory, stands there."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
