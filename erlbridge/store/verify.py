"""Whether a store is what was put into it: every byte is read. What is not right is set aside, as when it is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from erlbridge.errors import NotFound
from erlbridge.limits import MAX_OUTGOING_BYTES
from erlbridge.store.contents import Contents
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.engine import SqliteEngine
from erlbridge.store.kept import KINDS, Bounds, Kept, make_up_kept
from erlbridge.store.store import Store
from erlbridge.wire.vocabulary import atom

DAMAGED: Final = "damaged"
UNREAD: Final = "unread"
UNNOTED: Final = "unnoted"
LOST: Final = "lost"
_UNBOUNDED: Final = Bounds(age_s=1e12, count=2**62, total_bytes=MAX_OUTGOING_BYTES)


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was checked.

    Attributes:
        kind: `program`, `model`, `dataset`, `report` (by its program's name), or `result` and `cache`, whose names are
            hashes.
        fault: None; `damaged`, and set aside now; `unread`, since the disk refused: it stays. Or one of the index
            alone: `unnoted`, which was missing there, and `lost`, which was nowhere else.
        what: More about that.
    """

    kind: str
    name: str
    size_bytes: int
    fault: str | None = None
    what: str = ""


def total_bytes(store: Store) -> int:
    """About what `verify` reads."""
    statement = "SELECT coalesce(sum(size), 0) FROM results"
    ((outcomes,),) = store.engine.read(lambda statements: statements.rows(statement))
    reports = sum(blob.size_bytes for _, blob in store.reports.all())
    return sum(entry.size_bytes for shelf in store.shelves for entry in shelf.found()) + reports + int(outcomes)


def verify(store: Store, read: Callable[[int], None] = lambda _: None) -> Iterator[Checked]:
    """Checks everything, one thing each time it is asked for the next; `read` is told how many bytes were read.

    Safe beside nodes that use the store. An index that is damaged is set aside and made anew; what it lacks is noted,
    and what it has too much forgotten. Raises `OSError` when the index refuses.
    """
    if isinstance(store.engine, SqliteEngine):
        store.engine.check()
    for shelf in store.shelves:
        kind = shelf.register.index.kind
        noted = shelf.register.index.names()
        seen: set[str] = set()
        for entry in shelf.found():
            seen.add(entry.name)
            try:
                _check(shelf, entry.name, read)
            except NotFound as missing:
                if missing.context.get("reason") == atom("damaged"):  # else it was deleted meanwhile
                    yield Checked(kind, entry.name, entry.size_bytes, DAMAGED, missing.message)
            except OSError as refused:
                yield Checked(kind, entry.name, entry.size_bytes, UNREAD, refused.strerror or str(refused))
            else:
                fault = None if entry.name in noted else UNNOTED
                yield Checked(kind, entry.name, entry.size_bytes, fault, "" if fault is None else "is noted now")
        # A deletion takes the note first: what has one still, and lay nowhere before, was not deleted.
        lacking = (noted - seen) & shelf.register.index.names()
        shelf.register.make_up(shelf.found())
        for name in sorted(lacking):
            if shelf.register.index.get(name) is None:
                yield Checked(kind, name, 0, LOST, "its file is gone; the index has forgotten it")
    yield from _reports(store, read)
    make_up_kept(store.engine, store.blobs)
    for kind in KINDS:
        yield from _outcomes(store, kind, read)


def _reports(store: Store, read: Callable[[int], None]) -> Iterator[Checked]:
    for program_id, blob in store.reports.all():
        try:
            read(len(store.reports.get(program_id)))
        except NotFound as missing:
            if missing.context.get("reason") == atom("damaged"):
                yield Checked("report", program_id, blob.size_bytes, DAMAGED, missing.message)
        except OSError as refused:
            yield Checked("report", program_id, blob.size_bytes, UNREAD, refused.strerror or str(refused))
        else:
            yield Checked("report", program_id, blob.size_bytes)


def _outcomes(store: Store, kind: str, read: Callable[[int], None]) -> Iterator[Checked]:
    """Results and what a cache holds, be they too old: who reads one that is damaged says so in a line."""
    said: list[str] = []
    kept = Kept(store.engine, store.blobs, kind, _UNBOUNDED, said.append)
    statement = "SELECT name, size FROM results WHERE kind = ?"
    for name, size in store.engine.read(lambda statements: statements.rows(statement, (kind,))):
        try:
            whole = kept.get(name) is not None
        except OSError as refused:
            yield Checked(kind, name, size, UNREAD, refused.strerror or str(refused))
            continue
        read(size)
        if said:
            yield Checked(kind, name, size, DAMAGED, said.pop())
        elif whole:
            yield Checked(kind, name, size)
        # else it has gone meanwhile, or its file has: nobody is served it, and it can be had again


def _check(shelf: Contents | DatasetStore, name: str, read: Callable[[int], None]) -> None:
    if isinstance(shelf, Contents):
        read(len(shelf.check(name)))
    else:
        shelf.examine(name, read)
