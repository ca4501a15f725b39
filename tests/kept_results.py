"""Stored results as tests reach them: kept in a directory's index, made older, damaged where they lie."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from erlbridge.store.engine import INDEX_FILE


@contextlib.contextmanager
def rows(data: Path) -> Iterator[sqlite3.Connection]:
    """The index of a data directory, beside whoever else uses it."""
    with contextlib.closing(sqlite3.connect(data / INDEX_FILE, isolation_level=None)) as connection:
        yield connection


def names(data: Path, kind: str = "result") -> set[str]:
    with rows(data) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM results WHERE kind = ?", (kind,))}


def body(data: Path, name: str, kind: str = "result") -> bytes:
    """What stands in a row, or in the blob that it stands for."""
    with rows(data) as connection:
        found = connection.execute("SELECT body FROM results WHERE kind = ? AND name = ?", (kind, name)).fetchone()[0]
    return found or blob(data, name, kind).read_bytes()


def blob(data: Path, name: str, kind: str = "result") -> Path:
    return data / "results" / f"{name}.{'result' if kind == 'result' else 'cached'}"


def overwrite(data: Path, name: str, content: bytes, kind: str = "result") -> None:
    """Somebody else writes what is not there to be written."""
    with rows(data) as connection:
        found = connection.execute("SELECT body FROM results WHERE kind = ? AND name = ?", (kind, name)).fetchone()[0]
        if found is None:
            blob(data, name, kind).write_bytes(content)
        else:
            connection.execute("UPDATE results SET body = ? WHERE kind = ? AND name = ?", (content, kind, name))


def aged(data: Path, name: str, seconds: float, kind: str = "result") -> None:
    by = int(seconds * 1e9)
    statement = "UPDATE results SET stored_at = stored_at - ?, used_at = used_at - ? WHERE kind = ? AND name = ?"
    with rows(data) as connection:
        connection.execute(statement, (by, by, kind, name))
