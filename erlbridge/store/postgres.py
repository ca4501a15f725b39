"""A store's index in PostgreSQL, for nodes on several machines. The one door to psycopg.

Transactions are SERIALIZABLE, so that they mean what they mean on the file, where writers are alone; those that came
into each other's way are done again. Settings go with each transaction, not with the connection, so that a pooler
between node and server changes nothing. Knows statements and transactions; knows no table but that of its version.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from erlbridge.core.addresses import Address, parse_address, redacted
from erlbridge.core.backoff import delay_s
from erlbridge.store.engine import IndexRefused, Row, Statements, Value
from erlbridge.store.schema import MIGRATIONS, VERSION

if TYPE_CHECKING:
    from psycopg import Connection, Error

Result = TypeVar("Result")

_CONNECT_S: Final = 3
"""How long a server may take to let a node in. Somebody waits meanwhile, so one that is away is away soon."""

_STATEMENT_S: Final = 5
"""How long a statement may take, a lock of another node included; each takes milliseconds."""

_TRANSACTION_S: Final = 10.0
"""How long a transaction may take with all its tries, by our own clock: a server that was stopped says nothing."""

_LONGEST_REFUSAL_S: Final = 5.0
"""How long a server that is away is left alone at most before it is asked again; meanwhile it refuses at once."""

_CONNECTING: Final[Mapping[str, Any]] = {
    "connect_timeout": _CONNECT_S,
    "application_name": "erlbridge",
    "tcp_user_timeout": _STATEMENT_S * 1000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""What the address may say otherwise."""

_MIGRATING: Final = 0x65726C6272696467
"""The advisory lock of whoever makes the tables newer."""

_TIMEOUTS: Final = (
    f"SET LOCAL statement_timeout = '{_STATEMENT_S}s'; SET LOCAL lock_timeout = '{_STATEMENT_S}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{_STATEMENT_S}s'; "
    # Many rows of few pages: a scan of all of them would come into the way of every other transaction.
    "SET LOCAL enable_seqscan = off"
)
_BEGIN: Final = f"BEGIN ISOLATION LEVEL SERIALIZABLE; {_TIMEOUTS}"
_BEGIN_READING: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {_TIMEOUTS}"


class PostgresEngine:
    """An index in a database that nodes of any machines share. One connection, opened when first used.

    Args:
        address: `postgresql://…`, as libpq reads it. A password is better kept in `PGPASSFILE` or `PGPASSWORD`.
        renewed: Called when tables were made for the first time, by the node that made them.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        address: str,
        renewed: Callable[[Statements], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conninfo = address
        self._address = parse_address(address) or Address("postgresql", "postgresql://…", (address,))
        self._renewed = renewed
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._refusals = 0
        self._away_until = 0.0

    def read(self, work: Callable[[Statements], Result]) -> Result:
        return self._run(_BEGIN_READING, work)

    def write(self, work: Callable[[Statements], Result]) -> Result:
        return self._run(_BEGIN, work)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _run(self, begin: str, work: Callable[[Statements], Result]) -> Result:
        psycopg = _psycopg()
        with self._lock:
            try:
                return self._with_tries(begin, work)
            except psycopg.Error as error:
                raise self._refused(error) from None

    def _with_tries(self, begin: str, work: Callable[[Statements], Result]) -> Result:
        """A transaction that others came into the way of is done again, and so is one on a connection that turned out
        to be cut: a server that was started anew has cut all of them."""
        psycopg = _psycopg()
        deadline = self._clock() + _TRANSACTION_S
        attempt = 0
        while True:
            attempt += 1
            was_open = self._connection is not None
            connection = self._connection or self._open()
            try:
                with _fuse(connection, deadline - self._clock()):
                    return _transaction(connection, begin, work)
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                # No two of them wait equally long, or they would meet again.
                pause_s = delay_s(attempt, first_s=0.002, most_s=0.2) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                if self._clock() + pause_s > deadline:
                    raise
                time.sleep(pause_s)
            except psycopg.OperationalError as error:
                if not _is_cut(connection, error):
                    raise
                self._close()
                if not was_open or self._clock() > deadline:
                    raise

    # -- the connection

    def _open(self) -> Connection:
        if self._clock() < self._away_until:
            raise IndexRefused(f"{self._address.shown} did not answer a moment ago")
        psycopg = _psycopg()
        given = psycopg.conninfo.conninfo_to_dict(self._conninfo)
        connection: Connection = psycopg.connect(
            **{**_CONNECTING, **given},
            autocommit=True,  # transactions begin and end in statements of ours, with their settings
            prepare_threshold=None,  # what is prepared stays with one of a pooler's connections
        )
        try:
            _read_whole_numbers(connection)
            if _version(connection) != VERSION:
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._refusals = 0
        return connection

    def _migrate(self, connection: Connection) -> None:
        """Makes the tables newer, one node at a time; to read what an index is rebuilt from may take its time."""
        statements = _Postgres(connection)
        connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{_STATEMENT_S}s'")
        try:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
            version = _version(connection)
            if version > VERSION:
                where = self._address.shown
                raise IndexRefused(
                    f"{where} has version {version}, this erlbridge reads up to {VERSION}; use a newer one"
                )
            for statement in (statement for migration in MIGRATIONS[version:] for statement in migration):
                # Names are compared as bytes: a language's order changes with the server's libraries.
                statements.run(statement.format(bytes="BYTEA", integer="BIGINT", text='TEXT COLLATE "C"'))
            if version == 0:
                connection.execute("CREATE TABLE erlbridge_schema (version INTEGER NOT NULL)")
                connection.execute("INSERT INTO erlbridge_schema (version) VALUES (%s)", (VERSION,))
                self._renewed(statements)
            else:
                connection.execute("UPDATE erlbridge_schema SET version = %s", (VERSION,))
            connection.execute("COMMIT")
        finally:
            _end(connection)

    def _refused(self, error: Error) -> IndexRefused:
        if self._connection is None:
            self._refusals += 1
            self._away_until = self._clock() + delay_s(self._refusals, first_s=0.5, most_s=_LONGEST_REFUSAL_S)
        said = redacted(str(error), self._address) or type(error).__name__
        return IndexRefused(f"{self._address.shown}: {' '.join(said.split())}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Postgres:
    """`Statements` of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        return self._connection.execute(_translated(statement), parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[Value] = ()) -> int:
        return self._connection.execute(_translated(statement), parameters).rowcount

    def now_ns(self) -> int:
        found = self.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        return int(found[0][0]) * 1000


def _transaction(connection: Connection, begin: str, work: Callable[[Statements], Result]) -> Result:
    connection.execute(begin.encode())
    try:
        result = work(_Postgres(connection))
        _commit(connection)
        return result
    finally:
        _end(connection)


def _commit(connection: Connection) -> None:
    psycopg = _psycopg()
    try:
        connection.execute("COMMIT")
    except psycopg.OperationalError as error:
        if _is_cut(connection, error):
            # Not done again by us: it may have been done.
            raise IndexRefused("the connection was cut while it committed; whether it did is not known") from None
        raise


def _end(connection: Connection) -> None:
    """Takes back what was not committed; a connection that was cut has nothing to take back."""
    psycopg = _psycopg()
    if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def _is_cut(connection: Connection, error: Error) -> bool:
    psycopg = _psycopg()
    return connection.closed or isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown)


@contextmanager
def _fuse(connection: Connection, after_s: float) -> Iterator[None]:
    """Cuts a connection that is in use for longer. A server that was stopped, or behind a wall that swallows packets,
    never answers, and its own timeouts do not end that."""
    # A descriptor of its own: the connection may close its one, and the number become that of another file.
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        timer = threading.Timer(after_s, _cut, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _cut(line: socket.socket) -> None:
    with suppress(OSError):  # it was cut already
        line.shutdown(socket.SHUT_RDWR)


def _version(connection: Connection) -> int:
    """Which tables are there; 0 when there are none."""
    # Asked of the catalogue's rows: by its name, a session may hold it for absent that another has just made it.
    there = "SELECT 1 FROM pg_tables WHERE tablename = 'erlbridge_schema' AND schemaname = ANY (current_schemas(false))"
    if not connection.execute(there).fetchall():
        return 0
    return int(connection.execute("SELECT version FROM erlbridge_schema").fetchall()[0][0])


@lru_cache(maxsize=256)
def _translated(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


def _read_whole_numbers(connection: Connection) -> None:
    """A sum of integers is a `numeric` to PostgreSQL; here it is an integer as well."""
    from psycopg.types.numeric import IntLoader  # noqa: PLC0415 - as in `_psycopg`

    connection.adapters.register_loader("numeric", IntLoader)


def _psycopg() -> ModuleType:
    try:
        import psycopg  # noqa: PLC0415 - 60 ms and 10 MB, for those whose index is in PostgreSQL
    except ImportError as error:
        raise IndexRefused(f"psycopg is missing ({error}); install erlbridge[postgres], or unset store_index") from None
    return psycopg
