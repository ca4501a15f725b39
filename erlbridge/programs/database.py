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
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

Result = TypeVar("Result")

_BUSY_S: Final = 5.0
"""How long to wait for another process's transaction; each takes less than a millisecond."""

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE: Final = 0xFF
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",  # readers do not wait for a writer
    "PRAGMA synchronous = NORMAL",  # no fsync for each write: a crash of the machine may lose the newest rows, no more
    "PRAGMA journal_size_limit = 4194304",
    "PRAGMA trusted_schema = OFF",  # somebody else may have written the file
    "PRAGMA cell_size_check = ON",
)


class Database:
    """Tables under a path, made when first used. A file that is damaged is set aside; one that cannot be opened is
    replaced by a database in this process's memory, with a line in the log: what is kept here must cost no job.

    Args:
        path: The file; None keeps everything in memory.
        schema: Statements that make the tables, each with `IF NOT EXISTS`.
    """

    def __init__(self, path: Path | None, schema: str) -> None:
        self.path = path
        self._schema = schema
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def read(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """What `work` finds; `otherwise` when the database cannot be read now."""
        with self._lock:
            return self._try(work, otherwise)

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
            return self._try(alone, otherwise)

    def close(self) -> None:
        """Lets go of the file; the next use opens it again."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self._close()

    def _try(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        for last in (False, True):
            try:
                return work(self._connection or self._open())
            except sqlite3.Error as error:
                damaged = (getattr(error, "sqlite_errorcode", 0) or 0) & _PRIMARY_CODE in _DAMAGED
                if damaged and not last:
                    self._set_aside(error)
                elif self._connection is None or damaged:
                    self._stay_in_memory(error)
                else:
                    return otherwise  # busy or full: this once
            except OSError as error:
                self._stay_in_memory(error)
        return otherwise

    def _open(self) -> sqlite3.Connection:
        where = ":memory:"
        if self.path is not None:
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
            where = str(self.path)
        # The lock above keeps two threads from one connection.
        connection = sqlite3.connect(where, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _set_aside(self, error: Exception) -> None:
        self._close()
        if self.path is None:
            return
        try:
            found = self.path.stat()
            if (found.st_dev, found.st_ino) != self._opened:
                return  # another process was first: what is there now is new
            aside = self.path.with_suffix(".damaged")
            _say(f"{self.path.name} is damaged and was set aside as {aside.name}: {error}")
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as failure:
            _say(f"{self.path.name} is damaged and cannot be set aside: {failure}")

    def _stay_in_memory(self, error: Exception) -> None:
        self._close()
        if self.path is not None:
            _say(f"{self.path} cannot be used, this worker keeps its own in memory: {error}")
            self.path = None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _say(line: str) -> None:
    print(f"erlbridge: {line}", file=sys.stderr, flush=True)  # noqa: T201 - a worker's standard error is the host's log
