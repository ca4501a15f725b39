"""A small database in a file that costs no job: where the file refuses, one in this process's memory stands in.

Knows refusals and what to do meanwhile; the file is `sqlite_file`'s.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from erlbridge.core.backoff import delay_s
from erlbridge.store.sqlite_file import MEMORY, SqliteFile, alone, connect, is_busy

Result = TypeVar("Result")

_BUSY_S: Final = 0.5
"""How long to wait for another process's transaction; each takes less than a millisecond. The job waits with it, also
past its deadline, so whoever holds a lock for longer is not waited for again soon."""

_LONGEST_REFUSAL_S: Final = 15.0
"""How long a file that refused is left alone at most, before it is asked again whether it takes what comes."""


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
        self._file = None if path is None else SqliteFile(path, self._make_tables, _BUSY_S, _say)
        self._memory: sqlite3.Connection | None = None
        self._refusals = 0
        self._read_from = 0.0
        self._write_from = 0.0

    def read(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """What `work` finds; `otherwise` when nothing can be read now."""
        with self._lock:
            if self._memory is not None and (found := self._in_memory(work, otherwise)) != otherwise:
                return found  # written while the file refused
            if self._file is not None and self._clock() >= self._read_from:
                try:
                    return self._file.run(work)
                except (sqlite3.Error, OSError) as error:
                    self._refuse(self._file, error, reading=True)
            return self._in_memory(work, otherwise)

    def write(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """What `work` gives, its changes made all or none, and alone among all processes; `otherwise` when they cannot
        be made now."""
        with self._lock:
            if self._file is not None and self._clock() >= self._write_from:
                try:
                    result = self._file.transaction(work)
                except (sqlite3.Error, OSError) as error:
                    self._refuse(self._file, error, reading=False)
                else:
                    self._recover()
                    return result
            return self._in_memory(lambda connection: alone(connection, work), otherwise)

    def close(self) -> None:
        """Lets go of the file; the next use opens it again."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self._close()

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.executescript(self._schema)

    # -- while it refuses

    def _refuse(self, file: SqliteFile, error: Exception, *, reading: bool) -> None:
        """The file is left alone for a while; for writing only, if it was open and nobody kept it locked."""
        if not self._refusals:
            _say(f"{self.path} cannot be used, this worker keeps its own in memory for now: {error}")
        self._refusals += 1
        until = self._clock() + delay_s(self._refusals, first_s=1.0, most_s=_LONGEST_REFUSAL_S)
        self._write_from = until
        if reading or not file.is_open or is_busy(error):
            file.close()
            self._read_from = until

    def _recover(self) -> None:
        if self._refusals:
            _say(f"{self.path} is used again")
            self._refusals = 0
            self._read_from = self._write_from = 0.0
            self._close_memory()

    def _in_memory(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        try:
            if self._memory is None:
                self._memory = connect(MEMORY, self._make_tables, _BUSY_S)
            return work(self._memory)
        except sqlite3.Error:
            return otherwise

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._close_memory()

    def _close_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _say(line: str) -> None:
    print(f"erlbridge: {line}", file=sys.stderr, flush=True)  # noqa: T201 - a worker's standard error is the host's log
