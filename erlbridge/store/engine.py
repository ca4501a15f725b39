"""What a store's index runs on: a database that all nodes of a store share. `SqliteEngine` is the one on this machine.

Knows statements and transactions; knows no table but that of the schema's version.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from erlbridge.store.schema import MIGRATIONS, VERSION

if TYPE_CHECKING:  # SQLite is loaded at the first use: the node's start does not wait for it
    import sqlite3

    from erlbridge.store.sqlite_file import SqliteFile

Result = TypeVar("Result")
Value: TypeAlias = str | int | bytes | None
Row: TypeAlias = tuple[Any, ...]

INDEX_FILE: Final = "store.sqlite3"
_BUSY_S: Final = 5.0
"""How long to wait for another node's transaction; each takes milliseconds."""


class IndexRefused(OSError):
    """The index cannot be used now: a full disk, somebody's lock, a server that is away. What was asked for may be
    asked for again."""


class Statements(Protocol):
    """Runs statements of one transaction. `?` stands for each parameter."""

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """What a query finds."""

    def run(self, statement: str, parameters: Sequence[Value] = ()) -> int:
        """How many rows a change has changed."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970 by the one clock of all nodes that use this engine."""


class Engine(Protocol):
    """A database. Every method may raise `IndexRefused`; any thread may call."""

    def read(self, work: Callable[[Statements], Result]) -> Result:
        """What `work` finds in one state of the tables. It may be called more than once, and changes nothing."""

    def write(self, work: Callable[[Statements], Result]) -> Result:
        """What `work` gives, its changes made all or none. It may be called more than once."""

    def close(self) -> None:
        """Lets go of it; the next use opens it again."""


class SqliteEngine:
    """An index in a file of the data directory, for all nodes of this machine.

    Args:
        directory: The data directory.
        say: Told, in a line, of a damaged file that was set aside.
        renewed: Called when tables were made anew; the next use sees what it leaves in them.
    """

    def __init__(
        self, directory: Path, say: Callable[[str], None], renewed: Callable[[Statements], None] = lambda _: None
    ) -> None:
        self._path = directory / INDEX_FILE
        self._say = say
        self._renewed = renewed
        self._lock = threading.Lock()
        self._file: SqliteFile | None = None

    def read(self, work: Callable[[Statements], Result]) -> Result:
        return self._guarded(lambda file: file.run(lambda connection: work(_Sqlite(connection))))

    def write(self, work: Callable[[Statements], Result]) -> Result:
        return self._guarded(lambda file: file.transaction(lambda connection: work(_Sqlite(connection))))

    def check(self) -> None:
        """Reads all of it. Where it is damaged it is set aside and made anew, as when that is met by the way."""
        self._guarded(lambda file: file.run(_check))

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _guarded(self, work: Callable[[SqliteFile], Result]) -> Result:
        import sqlite3  # noqa: PLC0415 - as above

        from erlbridge.store.sqlite_file import SqliteFile  # noqa: PLC0415

        with self._lock:
            if self._file is None:
                self._file = SqliteFile(self._path, self._migrate, _BUSY_S, self._say)
            try:
                return work(self._file)
            except IndexRefused:
                raise
            except OSError as error:
                raise IndexRefused(error.errno, f"{INDEX_FILE}: {error.strerror or error}") from None
            except sqlite3.Error as error:
                text = f"{INDEX_FILE}: {error}"
                full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
                raise (IndexRefused(errno.ENOSPC, text) if full else IndexRefused(text)) from None

    def _migrate(self, connection: sqlite3.Connection) -> None:
        from erlbridge.store.sqlite_file import alone  # noqa: PLC0415

        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            alone(connection, self._make_newer)

    def _make_newer(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise IndexRefused(
                f"{INDEX_FILE} has version {version}, this erlbridge reads up to {VERSION}; use a newer one"
            )
        for statement in (statement for migration in MIGRATIONS[version:] for statement in migration):
            connection.execute(statement.format(bytes="BLOB", integer="INTEGER", text="TEXT"))
        connection.execute(f"PRAGMA user_version = {VERSION}")
        if version == 0:
            self._renewed(_Sqlite(connection))


def _check(connection: sqlite3.Connection) -> None:
    import sqlite3  # noqa: PLC0415 - as above

    ((first, *_),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if first != "ok":
        error = sqlite3.DatabaseError(first)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


class _Sqlite:
    """`Statements` of a connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        return self._connection.execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Value] = ()) -> int:
        return self._connection.execute(statement, parameters).rowcount

    def now_ns(self) -> int:
        return time.time_ns()
