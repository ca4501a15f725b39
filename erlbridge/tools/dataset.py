"""`erlbridge dataset …`: files become datasets of the data directory, and these are listed, shown, written and deleted.

It works beside running nodes: a dataset appears whole or not at all, and the next request finds it.
"""

from __future__ import annotations

import contextlib
import json as json_text
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from erlbridge.codec import binary_to_term
from erlbridge.core.datasets import PREFIX, Dataset
from erlbridge.errors import NotFound, TransferError, ValidationError
from erlbridge.limits import TRANSFER_KEPT_S
from erlbridge.node.config import NodeConfig
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.engine import IndexRefused
from erlbridge.store.store import Store
from erlbridge.tools.importing.run import Tally, ended_by_signals, import_rows
from erlbridge.tools.importing.shape import Shape
from erlbridge.tools.importing.sources import Source
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.opening import opened, written
from erlbridge.tools.progress import progress
from erlbridge.tools.wording import moment, size
from erlbridge.wire.transfer import refused
from erlbridge.worker.datasets import StoredRows

_COUNT_BYTES: Final = 256 * 1024 * 1024
"""What an import may write before what is there is counted again."""
_LEAST_DIGITS: Final = 4
"""Of a name that is not given whole."""
_MOST_LISTED: Final = 10_000_000


def import_files(config: NodeConfig, sources: Sequence[Source], shape: Shape, skip_bad: int, *, json: bool) -> int:
    """Makes one dataset of the files, prints its name, and gives 0; whatever keeps it from that leaves nothing behind.

    Raises `ValidationError` with the place of what is wrong, `TransferError` beyond the quota, `OSError`.
    """
    with opened(config) as store:
        dataset, tally = take_in(config, store, sources, shape, skip_bad)
    if json:
        print(line(_described(dataset) | {"skipped": tally.skipped}))
        return 0
    print(dataset.name)
    skipped = f", {tally.skipped} rows skipped" if tally.skipped else ""
    sys.stderr.write(f"{dataset.examples} examples, {size(dataset.size_bytes)}{skipped}\n")
    return 0


def take_in(
    config: NodeConfig, store: Store, sources: Sequence[Source], shape: Shape, skip_bad: int = 0
) -> tuple[Dataset, Tally]:
    """The dataset that the files make, stored, and what was read. Raises as `import_files`."""
    store.datasets.sweep(TRANSFER_KEPT_S)
    with ended_by_signals(), DatasetWriter(store.datasets) as writer:
        tally = import_rows(sources, shape, _Bounded(writer, store, config.dataset_quota_bytes), skip_bad)
        if not tally.examples:
            names = ", ".join(source.name for source in sources)
            raise ValidationError("expected at least one example, got none", names)
        return writer.finish(), tally


def list_all(config: NodeConfig, *, json: bool) -> int:
    """Prints every dataset with its size and when it was stored and last used, the newest first."""
    with opened(config) as store:
        entries = list(store.datasets.found())
        known = {}
        if entries:
            with contextlib.suppress(IndexRefused):  # the files say when they were stored
                known = {entry.name: entry for entry in store.datasets.register.index.newest(_MOST_LISTED)}
        entries = [known.get(entry.name, entry) for entry in entries]
        for entry in sorted(entries, key=lambda entry: (-entry.stored_at_ns, entry.name)):
            examples = store.datasets.examples(entry)
            if examples is None:
                continue  # deleted in between, or set aside
            stored_at, used_at = entry.stored_at_ns // 10**9, entry.used_at_ns // 10**9
            if json:
                about = {"dataset": entry.name, "examples": examples, "bytes": entry.size_bytes}
                print(line({**about, "stored_at": stored_at, "used_at": used_at}))
            else:
                what = f"{examples:>10} examples  {size(entry.size_bytes):>10}"
                print(f"{entry.name}  {what}  stored {moment(entry.stored_at_ns)}  used {moment(entry.used_at_ns)}")
    return 0


def show(config: NodeConfig, name: str, count: int, *, json: bool) -> int:
    """Prints what is known of a dataset, and its first examples. Raises `NotFound`."""
    with opened(config) as store, _reading(store.datasets, name) as (dataset, terms):
        first = [as_json(term, f"[{index}]", lenient=True) for index, term in enumerate(islice(terms, count))]
    if json:
        print(line(_described(dataset) | {"first": first}))
        return 0
    print(f"{dataset.name}: {dataset.examples} examples, {size(dataset.size_bytes)}")
    for example in first:
        print(json_text.dumps(example, ensure_ascii=False, indent=2))
    return 0


def export(config: NodeConfig, name: str, output: str) -> int:
    """Writes a dataset as JSON lines, as `written` says, whatever the locale.

    Raises `NotFound`, also for one that is damaged, and `ValidationError` for an example that JSON has no form for.
    """
    with (
        opened(config) as store,
        _reading(store.datasets, name) as (dataset, terms),
        progress("export", dataset.examples, " examples") as bar,
        ended_by_signals(),
        written(output) as file,
    ):
        for index, term in enumerate(terms):
            if not isinstance(term, Mapping):
                raise ValidationError("expected a map", f"{dataset.name}[{index}]")
            file.write(f"{line(as_json(term, f'{dataset.name}[{index}]'))}\n".encode())
            bar.reached(index + 1)
    return 0


def delete(config: NodeConfig, names: Sequence[str], *, json: bool = False) -> int:
    """Deletes datasets, or none when one of the names is not there. Raises `NotFound`.

    A job that reads one of them has it open, and reads on.
    """
    with opened(config) as store:
        meant = dict.fromkeys(whole_name(store.datasets, name) for name in names)
        for dataset in [store.datasets.describe(name) for name in meant]:
            store.datasets.delete(dataset.name)
            if json:
                print(line({"deleted": dataset.name, "examples": dataset.examples, "bytes": dataset.size_bytes}))
            else:
                print(f"deleted {dataset.name}, {dataset.examples} examples, {size(dataset.size_bytes)}")
    return 0


# -- what is stored


@contextlib.contextmanager
def _reading(store: DatasetStore, name: str) -> Iterator[tuple[Dataset, Iterator[object]]]:
    """A dataset and its examples, each checked when it is read. Raises `NotFound`; one that is damaged is set aside."""
    dataset = store.ready(whole_name(store, name))
    rows = StoredRows(dataset)
    try:
        yield dataset, (binary_to_term(rows.term(place)) for place in range(dataset.examples))
    except NotFound:
        store.check(dataset.name)
        raise
    finally:
        rows.close()


def whole_name(store: DatasetStore, name: str) -> str:
    """The dataset's name, which may be given by so many of its first digits that no other has the same."""
    digits = name.removeprefix(PREFIX).lower()
    if len(digits) < _LEAST_DIGITS or set(digits) - set("0123456789abcdef"):
        raise ValidationError(f"expected a dataset's name, or {_LEAST_DIGITS} or more of its first digits", repr(name))
    found = [entry.name for entry in store.found() if entry.name.startswith(PREFIX + digits)]
    if len(found) > 1:
        raise ValidationError(f"{len(found)} datasets begin so; give more digits", repr(name))
    if not found:
        raise NotFound(f"no dataset {name} is stored here; erlbridge dataset list shows those that are")
    return found[0]


def _described(dataset: Dataset) -> dict[str, object]:
    return {"dataset": dataset.name, "examples": dataset.examples, "bytes": dataset.size_bytes}


# -- the quota


class _Bounded:
    """A writer held to `dataset_quota_bytes`, which transfers and datasets share."""

    def __init__(self, writer: DatasetWriter, store: Store, quota_bytes: int) -> None:
        self._writer = writer
        self._store = store
        self._quota_bytes = quota_bytes
        self._room_bytes = 0

    def add_term(self, term: bytes) -> None:
        """Adds an example. Raises `TransferError` when it is one too many."""
        self._room_bytes -= len(term)
        if self._room_bytes < 0:
            self._count(len(term))
        self._writer.add_term(term)

    def _count(self, needed: int) -> None:
        left = self._quota_bytes - needed - sum(self._store.datasets.sizes()) - self._store.transfer_bytes()
        if left < 0:
            raise _over_quota(self._quota_bytes)
        self._room_bytes = min(left, _COUNT_BYTES)


def _over_quota(quota_bytes: int) -> TransferError:
    return refused(
        "quota",
        f"transfers and datasets may take {quota_bytes} bytes together, and this one would be more; "
        "delete some, or raise dataset_quota_bytes",
        limit=quota_bytes,
    )
