"""What a store has, by kind and name: when each was stored and last used, how large it is. Knows rows, no blob.

Blobs are the truth and rows are what is known of them: a row without its blob is dropped when it is met, and a blob
without a row is found by its name all the same, and gets its row from `reindex`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from erlbridge.store.engine import Engine, Row, Statements, Value

_COLUMNS: Final = "name, size, stored_at, used_at, about"
_INSERT: Final = f"INSERT INTO entries (kind, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, name)"  # noqa: S608 - names of ours alone


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is stored. Times are nanoseconds since 1970; `about` is a term of its kind's own."""

    name: str
    size_bytes: int
    stored_at_ns: int
    used_at_ns: int
    about: bytes = b""


class Index:
    """The entries of one kind. Every method may raise `IndexRefused`, an `OSError`."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self.kind = kind
        self._engine = engine

    def put(self, entry: Entry) -> None:
        """Adds an entry, or takes its place; when it was stored first stays."""
        self._engine.write(lambda statements: _put(statements, self.kind, entry))

    def get(self, name: str) -> Entry | None:
        """The entry of a name, None when there is none."""
        statement = f"SELECT {_COLUMNS} FROM entries WHERE kind = ? AND name = ?"  # noqa: S608 - names of ours alone
        rows = self._engine.read(lambda statements: statements.rows(statement, (self.kind, name)))
        return _entry(rows[0]) if rows else None

    def used(self, name: str, at_ns: int) -> None:
        """Notes that a name was used then."""
        statement = "UPDATE entries SET used_at = ? WHERE kind = ? AND name = ? AND used_at < ?"
        self._engine.write(lambda statements: statements.run(statement, (at_ns, self.kind, name, at_ns)))

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Adds entries of what lies there without a row, in one transaction; rows that are there stay as they are."""
        kept = list(entries)
        if kept:
            self._engine.write(lambda statements: reindex(statements, self.kind, kept))

    def describe(self, name: str, about: bytes) -> None:
        """Notes what an entry is, where there is one."""
        statement = "UPDATE entries SET about = ? WHERE kind = ? AND name = ?"
        self._engine.write(lambda statements: statements.run(statement, (about, self.kind, name)))

    def aged(self, name: str, stored_at_ns: int) -> None:
        """Notes that an entry was stored then, when that is before what is noted."""
        statement = "UPDATE entries SET stored_at = ? WHERE kind = ? AND name = ? AND stored_at > ?"
        self._engine.write(lambda statements: statements.run(statement, (stored_at_ns, self.kind, name, stored_at_ns)))

    def drop(self, name: str, unused_since_ns: int | None = None) -> bool:
        """Forgets an entry, or only one that was not used since then; gives whether there was one."""
        unused = "" if unused_since_ns is None else "AND used_at < ?"
        since = () if unused_since_ns is None else (unused_since_ns,)
        statement = f"DELETE FROM entries WHERE kind = ? AND name = ? {unused}"  # noqa: S608 - as above
        return self._engine.write(lambda statements: statements.run(statement, (self.kind, name, *since))) > 0

    def names(self) -> set[str]:
        """The name of every entry."""
        statement = "SELECT name FROM entries WHERE kind = ?"
        return {name for (name,) in self._engine.read(lambda statements: statements.rows(statement, (self.kind,)))}

    def newest(self, limit: int, after: tuple[int, str] | None = None) -> list[Entry]:
        """The newest entries, by time and name, or those that come behind such a place."""
        behind = "" if after is None else "AND stored_at <= ? AND (stored_at < ? OR name > ?)"
        place = () if after is None else (after[0], after[0], after[1])
        statement = (
            f"SELECT {_COLUMNS} FROM entries WHERE kind = ? {behind} "  # noqa: S608 - as above
            "ORDER BY stored_at DESC, name LIMIT ?"
        )
        rows = self._engine.read(lambda statements: statements.rows(statement, (self.kind, *place, limit)))
        return [_entry(row) for row in rows]

    def unused_since(self, at_ns: int, limit: int) -> list[Entry]:
        """Entries that were not used since then, the longest unused first."""
        statement = (
            f"SELECT {_COLUMNS} FROM entries WHERE kind = ? AND used_at < ? "  # noqa: S608 - as above
            "ORDER BY used_at, name LIMIT ?"
        )
        rows = self._engine.read(lambda statements: statements.rows(statement, (self.kind, at_ns, limit)))
        return [_entry(row) for row in rows]

    def totals(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        statement = "SELECT count(*), coalesce(sum(size), 0) FROM entries WHERE kind = ?"
        count, size = self._engine.read(lambda statements: statements.rows(statement, (self.kind,)))[0]
        return int(count), int(size)


def reindex(statements: Statements, kind: str, entries: Iterable[Entry]) -> None:
    """Adds entries of what lies there without a row."""
    for entry in entries:
        statements.run(f"{_INSERT} DO NOTHING", _values(kind, entry))


def _put(statements: Statements, kind: str, entry: Entry) -> None:
    changes = "size = excluded.size, used_at = excluded.used_at, about = excluded.about"
    statements.run(f"{_INSERT} DO UPDATE SET {changes}", _values(kind, entry))


def _values(kind: str, entry: Entry) -> tuple[Value, ...]:
    return kind, entry.name, entry.size_bytes, entry.stored_at_ns, entry.used_at_ns, entry.about


def _entry(row: Row) -> Entry:
    name, size, stored_at, used_at, about = row
    return Entry(name, size, stored_at, used_at, bytes(about))
