"""Whether a store is what was put into it: every byte is read. What is not right is set aside, as when it is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from erlbridge.errors import NotFound
from erlbridge.store.contents import Contents
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.engine import SqliteEngine
from erlbridge.store.store import Store
from erlbridge.wire.vocabulary import atom

DAMAGED: Final = "damaged"
UNREAD: Final = "unread"
UNNOTED: Final = "unnoted"
LOST: Final = "lost"


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was checked.

    Attributes:
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
    return sum(entry.size_bytes for shelf in store.shelves for entry in shelf.found())


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
        shelf.register.make_up(shelf.found())
        for name in sorted(noted - seen):
            if shelf.register.index.get(name) is None:
                yield Checked(kind, name, 0, LOST, "its file is gone; the index has forgotten it")


def _check(shelf: Contents | DatasetStore, name: str, read: Callable[[int], None]) -> None:
    if isinstance(shelf, Contents):
        read(len(shelf.check(name)))
    else:
        shelf.check(name, read)
