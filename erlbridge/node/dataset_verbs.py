"""What the node says of the datasets that it keeps: lists and deletes them. What blocks here is the disk thread's.

Knows the store and the answers' shapes; no example is read.
"""

from __future__ import annotations

from erlbridge.core.paging import Cursor, Page
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.index import Entry
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys


def list_datasets(store: DatasetStore, wanted: Page) -> Term:
    """One page of the stored datasets, newest first. `next` is what to send as `after` for the one behind it."""
    found = store.newest(wanted.limit + 1, wanted.after)
    page = found[: wanted.limit]
    return atom_keys(
        {
            "status": atom("success"),
            "datasets": [summary for entry in page if (summary := _summary(store, entry)) is not None],
            "next": str(Cursor(page[-1].stored_at_ns, page[-1].name)) if len(found) > len(page) else None,
        }
    )


def delete_dataset(store: DatasetStore, name: str) -> Term:
    """Forgets a dataset; jobs that read it go on."""
    store.delete(name)
    return atom_keys({"status": atom("success"), "dataset": name})


def _summary(store: DatasetStore, entry: Entry) -> Term:
    """A dataset in the list, None when it was deleted meanwhile or is damaged, which sets it aside."""
    examples = store.examples(entry)
    if examples is None:
        return None
    return atom_keys(
        {
            "dataset": entry.name,
            "examples": examples,
            "bytes": entry.size_bytes,
            "stored_at_ms": entry.stored_at_ns // 1_000_000,
            "used_at_ms": entry.used_at_ns // 1_000_000,
        }
    )
