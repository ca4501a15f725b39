"""`erlbridge dataset …`: files become datasets of the data directory, and these are listed, shown, written and deleted.

It works beside running nodes: a dataset appears whole or not at all, and the next request finds it.
"""

from __future__ import annotations

import contextlib
import json as json_text
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from erlbridge.codec import binary_to_term
from erlbridge.core.datasets import PREFIX, Dataset
from erlbridge.errors import NotFound, TransferError, ValidationError
from erlbridge.limits import TRANSFER_KEPT_S
from erlbridge.node.config import NodeConfig
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.datasets import DatasetStore
from erlbridge.store.engine import IndexRefused
from erlbridge.store.files import ASIDE
from erlbridge.store.store import open_store
from erlbridge.tools.importing.run import ended_by_signals, import_rows
from erlbridge.tools.importing.shape import Shape
from erlbridge.tools.importing.sources import Source
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.progress import progress
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
    with _opened(config) as store:
        store.sweep(TRANSFER_KEPT_S)
        with ended_by_signals(), DatasetWriter(store) as writer:
            tally = import_rows(sources, shape, _Bounded(writer, config), skip_bad)
            if not tally.examples:
                names = ", ".join(source.name for source in sources)
                raise ValidationError("expected at least one example, got none", names)
            dataset = writer.finish()
    if json:
        print(line(_described(dataset) | {"skipped": tally.skipped}))
        return 0
    print(dataset.name)
    skipped = f", {tally.skipped} rows skipped" if tally.skipped else ""
    sys.stderr.write(f"{dataset.examples} examples, {_size(dataset.size_bytes)}{skipped}\n")
    return 0


def list_all(config: NodeConfig, *, json: bool) -> int:
    """Prints every dataset with its size and when it was stored and last used, the newest first."""
    with _opened(config) as store:
        entries = list(store.found())
        known = {}
        if entries:
            with contextlib.suppress(IndexRefused):  # the files say when they were stored
                known = {entry.name: entry for entry in store.register.index.newest(_MOST_LISTED)}
        entries = [known.get(entry.name, entry) for entry in entries]
        for entry in sorted(entries, key=lambda entry: (-entry.stored_at_ns, entry.name)):
            try:
                dataset = store.look(entry.name)
            except NotFound:
                continue  # deleted in between, or set aside
            stored_at, used_at = entry.stored_at_ns // 10**9, entry.used_at_ns // 10**9
            if json:
                print(line(_described(dataset) | {"stored_at": stored_at, "used_at": used_at}))
            else:
                size = f"{dataset.examples:>10} examples  {_size(dataset.size_bytes):>10}"
                print(f"{dataset.name}  {size}  stored {_day(stored_at)}  used {_day(used_at)}")
    return 0


def show(config: NodeConfig, name: str, count: int, *, json: bool) -> int:
    """Prints what is known of a dataset, and its first examples. Raises `NotFound`."""
    with _opened(config) as store, _reading(store, name) as (dataset, terms):
        first = [as_json(term, f"[{index}]", lenient=True) for index, term in enumerate(islice(terms, count))]
    if json:
        print(line(_described(dataset) | {"first": first}))
        return 0
    print(f"{dataset.name}: {dataset.examples} examples, {_size(dataset.size_bytes)}")
    for example in first:
        print(json_text.dumps(example, ensure_ascii=False, indent=2))
    return 0


def export(config: NodeConfig, name: str, output: Path | None) -> int:
    """Writes a dataset as JSON lines, to a file that is whole or absent, or to standard output.

    Raises `NotFound`, also for one that is damaged, and `ValidationError` for an example that JSON has no form for.
    """
    with (
        _opened(config) as store,
        _reading(store, name) as (dataset, terms),
        progress("export", dataset.examples, " examples") as bar,
        ended_by_signals(),
        contextlib.nullcontext(sys.stdout) if output is None else _whole_file(output) as file,
    ):
        for index, term in enumerate(terms):
            if not isinstance(term, Mapping):
                raise ValidationError("expected a map", f"{dataset.name}[{index}]")
            file.write(line(as_json(term, f"{dataset.name}[{index}]")) + "\n")
            bar.reached(index + 1)
    return 0


def delete(config: NodeConfig, names: Sequence[str]) -> int:
    """Deletes datasets, or none when one of the names is not there. Raises `NotFound`.

    A job that reads one of them has it open, and reads on.
    """
    with _opened(config) as store:
        for dataset in [store.look(_named(store, name)) for name in dict.fromkeys(names)]:
            store.delete(dataset.name)
            print(f"deleted {dataset.name}, {dataset.examples} examples, {_size(dataset.size_bytes)}")
    return 0


# -- what is stored


@contextlib.contextmanager
def _opened(config: NodeConfig) -> Iterator[DatasetStore]:
    store = open_store(config.data, lambda said: print(f"erlbridge: {said}", file=sys.stderr), config.places)
    try:
        yield store.datasets
    finally:
        store.close()


@contextlib.contextmanager
def _reading(store: DatasetStore, name: str) -> Iterator[tuple[Dataset, Iterator[object]]]:
    """A dataset and its examples, each checked when it is read. Raises `NotFound`; one that is damaged is set aside."""
    dataset = store.ready(_named(store, name))
    rows = StoredRows(dataset)
    try:
        yield dataset, (binary_to_term(rows.term(place)) for place in range(dataset.examples))
    except NotFound:
        store.check(dataset.name)
        raise
    finally:
        rows.close()


def _named(store: DatasetStore, name: str) -> str:
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


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _day(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))


# -- the quota


class _Bounded:
    """A writer held to `dataset_quota_bytes`, which transfers and datasets share."""

    def __init__(self, writer: DatasetWriter, config: NodeConfig) -> None:
        self._writer = writer
        self._quota_bytes = config.dataset_quota_bytes
        self._directories = (config.data / "datasets", config.data / "transfers")
        self._room_bytes = 0

    def add_term(self, term: bytes) -> None:
        """Adds an example. Raises `TransferError` when it is one too many."""
        self._room_bytes -= len(term)
        if self._room_bytes < 0:
            self._count(len(term))
        self._writer.add_term(term)

    def _count(self, size: int) -> None:
        left = self._quota_bytes - size - sum(map(_bytes_below, self._directories))
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


def _bytes_below(directory: Path) -> int:
    """What the files of a directory take, and those of its directories. What goes meanwhile counts nothing."""
    total = 0
    for place, _, files in os.walk(directory):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, file)).st_size
    return total


# -- writing


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    """A file that takes its place when the block has ended well."""
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=ASIDE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(aside).rename(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
