"""Outcomes of jobs in the table `results`, by kind and name: whole or absent, bounded by age, number and bytes.

A small one stands in its row; a large one is a blob of its kind, and its row says so. What is not what was written is
set aside beside the blobs as `.damaged`, and named. What the bytes mean is decided in `core.results`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from erlbridge.core.results import Stored, pack, unpack
from erlbridge.limits import MAX_OUTGOING_BYTES
from erlbridge.store.blobs import Blob, Blobs
from erlbridge.store.engine import Engine, Row, Statements

INLINE_BYTES: Final = 64 * 1024
"""The longest outcome in a row: beyond, a file of its own is no slower, and leaves the index small."""
ROOM: Final = "results"
"""Where blobs of all kinds lie."""
_SUFFIXES: Final = {"result": ".result", "cache": ".cached"}
KINDS: Final = tuple(_SUFFIXES)
_MOST_BYTES: Final = MAX_OUTGOING_BYTES + 4096
"""Of a blob that is read: what is longer is no outcome. Not this node's own bound: another may keep longer ones."""
_SLACK: Final = 64
_BATCH: Final = 256
_OF_NAME: Final = "kind = ? AND name = ?"

KeptBlob: TypeAlias = tuple[str, str, Blob]
"""An outcome that lies in a blob: its kind, its name, the blob."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is kept: nothing older than `age_s` (0: nothing at all), and about so many outcomes and bytes at most."""

    age_s: float
    count: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """An outcome that is stored, and when it was, in nanoseconds since 1970."""

    stored: Stored
    stored_at_ns: int


class Kept:
    """The outcomes of one kind, for all nodes of a store. Every method may raise `OSError`; any thread may call.

    Args:
        kind: `result` or `cache`.
        say: Told, in a line, of what is damaged.
    """

    def __init__(self, engine: Engine, blobs: Blobs, kind: str, bounds: Bounds, say: Callable[[str], None]) -> None:
        self.kind = kind
        self.bounds = bounds
        self._engine = engine
        self._blobs = blobs
        self._say = say
        self._new_count = 0
        self._new_bytes = 0

    def put(self, name: str, content: bytes) -> None:
        """Keeps what `packed` gave, in the place of an outcome of the same name."""
        inline = len(content) <= INLINE_BYTES
        if not inline:
            # A power cut may take it, and it can be had again: its sum tells.
            self._blobs.put(ROOM, self._file(name), content, durable=False)
        had_blob = self._engine.write(
            lambda statements: _put(statements, self.kind, name, len(content), content if inline else None)
        )
        if inline and had_blob:
            self._blobs.delete(ROOM, self._file(name))
        self._keep_within(len(content))

    def packed(self, name: str, stored: Stored) -> bytes:
        """An outcome's bytes as they are kept under a name."""
        return pack(self._sealed(name), stored)

    def get(self, name: str) -> Found | None:
        """The outcome of a name; None when there is none, or none that is whole and young enough."""
        row = self._engine.read(lambda statements: _get(statements, self.kind, name))
        if row is None or not self.bounds.age_s or row.age_ns > self.bounds.age_s * 1e9:
            return None
        content = row.body
        if content is None:
            content = self._blobs.get(ROOM, self._file(name), _MOST_BYTES)
        if content is None:
            self._drop_row(name, row)  # the blob is gone
            return None
        stored = unpack(self._sealed(name), content) or self._set_aside(name, row, content)
        return None if stored is None else Found(stored, row.stored_at_ns)

    def used(self, name: str) -> None:
        """Notes that an outcome was asked for, so that others go before it; at most once a minute."""
        statement = f"UPDATE results SET used_at = ? WHERE {_OF_NAME} AND used_at < ?"  # noqa: S608 - names of ours alone

        def note(statements: Statements) -> None:
            now_ns = statements.now_ns()
            statements.run(statement, (now_ns, self.kind, name, now_ns - 60 * 10**9))

        self._engine.write(note)

    def drop(self, name: str) -> None:
        """Forgets an outcome."""
        self._engine.write(lambda statements: self._delete(statements, [(name,)]))
        self._blobs.delete(ROOM, self._file(name))

    def clear(self) -> tuple[int, int]:
        """Forgets all; gives how many there were, and their bytes."""

        def empty(statements: Statements) -> tuple[tuple[int, int], list[Row]]:
            totals = _totals(statements, self.kind)
            large = statements.rows("SELECT name FROM results WHERE kind = ? AND body IS NULL", (self.kind,))
            statements.run("DELETE FROM results WHERE kind = ?", (self.kind,))
            return totals, large

        totals, large = self._engine.write(empty)
        for (name,) in large:
            self._blobs.delete(ROOM, self._file(name))
        return totals

    def totals(self) -> tuple[int, int]:
        """How many outcomes there are, and their bytes."""
        return self._engine.read(lambda statements: _totals(statements, self.kind))

    def prune(self) -> None:
        """Drops what is too old or too much, the longest unused first."""
        self._new_count = self._new_bytes = 0
        while cut := self._engine.write(self._cut):
            for name, _, is_blob in cut:
                if is_blob:
                    # Thousands may go, and requests wait behind them: what a power cut brings back goes the next time.
                    self._blobs.delete(ROOM, self._file(name), durable=False)

    # -- what is damaged

    def _set_aside(self, name: str, row: _Kept, content: bytes) -> Stored | None:
        """Moves damaged bytes out of the way. Another node may have stored the outcome again in the very moment: then
        that is given."""
        file = self._file(name)
        damaged: str | None = f"{name}.damaged"
        try:
            if row.body is None:
                damaged = self._blobs.set_aside(ROOM, file)
                if damaged is None:
                    return None  # another node was faster
                again = self._blobs.get(ROOM, damaged, _MOST_BYTES)
                if again is not None and (stored := unpack(self._sealed(name), again)):
                    self._blobs.put(ROOM, file, again, durable=False)
                    return stored
            else:
                self._blobs.put(ROOM, f"{name}.damaged", content, durable=False)
            self._drop_row(name, row)
        except OSError as error:
            self._say(f"the stored result {file} is damaged, and cannot be set aside: {error}")
            return None
        self._say(f"the stored result {file} was damaged, and is set aside as {damaged}")
        return None

    def _drop_row(self, name: str, row: _Kept) -> None:
        statement = f"DELETE FROM results WHERE {_OF_NAME} AND stored_at = ?"  # noqa: S608 - as above
        self._engine.write(lambda statements: statements.run(statement, (self.kind, name, row.stored_at_ns)))

    def _sealed(self, name: str) -> str:
        """What an outcome's sum covers beside its bytes: one that was moved to another name or kind is as damaged as
        one that was cut."""
        return name if self.kind == "result" else f"{self.kind}/{name}"

    def _file(self, name: str) -> str:
        return name + _SUFFIXES[self.kind]

    # -- bounds

    def _keep_within(self, new_bytes: int) -> None:
        """Looks at all of them now and then only: bounds are kept to within a part of `_SLACK`."""
        self._new_count += 1
        self._new_bytes += new_bytes
        if self._new_count * _SLACK >= self.bounds.count or self._new_bytes * _SLACK >= self.bounds.total_bytes:
            self.prune()

    def _cut(self, statements: Statements) -> list[Row]:
        """Drops some rows that are too old or too much, and gives them: a server far away does no more within the time
        that a transaction has."""
        oldest_ns = statements.now_ns() - int(self.bounds.age_s * 1e9)
        dropped = statements.rows(
            "SELECT name, size, body IS NULL FROM results WHERE kind = ? AND stored_at < ? LIMIT ?",
            (self.kind, oldest_ns, _BATCH),
        )
        count, total = (0, 0) if dropped else _totals(statements, self.kind)
        if count > self.bounds.count or total > self.bounds.total_bytes:
            for row in statements.rows(
                "SELECT name, size, body IS NULL FROM results WHERE kind = ? ORDER BY used_at, name LIMIT ?",
                (self.kind, _BATCH),
            ):
                if count <= self.bounds.count and total <= self.bounds.total_bytes:
                    break
                dropped.append(row)
                count, total = count - 1, total - row[1]
        self._delete(statements, dropped)
        return dropped

    def _delete(self, statements: Statements, rows: list[Row]) -> None:
        for name, *_ in rows:
            statements.run(f"DELETE FROM results WHERE {_OF_NAME}", (self.kind, name))  # noqa: S608 - as above


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row. `body` None is a blob."""

    stored_at_ns: int
    age_ns: int
    body: bytes | None


def kept_blobs(blobs: Blobs) -> list[KeptBlob]:
    """The outcomes of all kinds that lie in blobs."""
    kinds = {suffix: kind for kind, suffix in _SUFFIXES.items()}
    split = ((blob, *blob.name.rpartition(".")) for blob in blobs.all(ROOM))
    return [(kind, name, blob) for blob, name, dot, suffix in split if (kind := kinds.get(dot + suffix)) is not None]


def reindex_kept(statements: Statements, found: Iterable[KeptBlob]) -> None:
    """Adds rows for blobs, for an index that was lost: what stood in rows is gone with it, and what this bridge wrote
    before it had an index is found again."""
    for kind, name, blob in found:
        statements.run(
            "INSERT INTO results (kind, name, size, stored_at, used_at, body) VALUES (?, ?, ?, ?, ?, NULL) "
            "ON CONFLICT (kind, name) DO NOTHING",
            (kind, name, blob.size_bytes, blob.modified_at_ns, blob.modified_at_ns),
        )


def make_up_kept(engine: Engine, blobs: Blobs) -> None:
    """The same, for those that have no row. They are listed before a transaction begins, which has no time for that,
    nor for all of them at once."""
    noted = "SELECT kind, name FROM results WHERE body IS NULL"
    found = kept_blobs(blobs)
    known = set(engine.read(lambda statements: statements.rows(noted)))
    missing = [one for one in found if one[:2] not in known]
    for begin in range(0, len(missing), _BATCH):
        engine.write(partial(reindex_kept, found=missing[begin : begin + _BATCH]))


def _put(statements: Statements, kind: str, name: str, size: int, body: bytes | None) -> bool:
    """Writes a row; gives whether one whose body is a blob has stood there."""
    had_blob = statements.rows(f"SELECT 1 FROM results WHERE {_OF_NAME} AND body IS NULL", (kind, name))  # noqa: S608
    now_ns = statements.now_ns()
    statements.run(
        "INSERT INTO results (kind, name, size, stored_at, used_at, body) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kind, name) DO UPDATE SET size = excluded.size, stored_at = excluded.stored_at, "
        "used_at = excluded.used_at, body = excluded.body",
        (kind, name, size, now_ns, now_ns, body),
    )
    return bool(had_blob)


def _get(statements: Statements, kind: str, name: str) -> _Kept | None:
    rows = statements.rows(f"SELECT stored_at, body FROM results WHERE {_OF_NAME}", (kind, name))  # noqa: S608
    if not rows:
        return None
    stored_at, body = rows[0]
    # SQLite keeps anything in any column, whoever writes it there: no time is long ago, and what is no bytes, damaged.
    stored_at_ns = stored_at if isinstance(stored_at, int) else 0
    content = bytes(body) if isinstance(body, bytes | memoryview) else None if body is None else b""
    return _Kept(stored_at_ns, statements.now_ns() - stored_at_ns, content)


def _totals(statements: Statements, kind: str) -> tuple[int, int]:
    statement = "SELECT count(*), coalesce(sum(size), 0) FROM results WHERE kind = ?"
    count, size = statements.rows(statement, (kind,))[0]
    return int(count), int(size)
