"""A worker's reading of stored examples: what is wrong with a file is said of that file, and never taken for data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from erlbridge.codec import binary_to_term
from erlbridge.core.datasets import Dataset
from erlbridge.errors import BridgeError, NotFound, StorageFailed
from erlbridge.store.dataset_index import INDEX, RECORD, RECORDS_AT
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.store import open_store
from erlbridge.wire.vocabulary import atom
from erlbridge.worker.datasets import StoredRows

EXAMPLES = 600
"""More than the lookups between which the index's pages are let go."""


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Dataset]:
    store = open_store(tmp_path, str)
    with DatasetWriter(store.datasets) as writer:
        for number in range(EXAMPLES):
            writer.add({"n": number, "text": "x" * (number % 50)})
        yield writer.finish()
    store.close()


def files(found: Dataset) -> tuple[Path, Path]:
    stream = Path(os.fsdecode(found.path))
    return stream, stream.with_name(INDEX)


def number(rows: StoredRows, place: int) -> object:
    term: Any = binary_to_term(rows.term(place))
    return term[b"n"]


def test_any_thread_reads_any_example_in_any_order(stored: Dataset) -> None:
    with closing(StoredRows(stored)) as rows, ThreadPoolExecutor(4) as threads:
        places = [place * 7 % EXAMPLES for place in range(EXAMPLES)]
        assert list(threads.map(lambda place: number(rows, place), places)) == places


def test_what_is_open_is_read_to_its_end_when_it_is_deleted(stored: Dataset) -> None:
    with closing(StoredRows(stored)) as rows:
        for path in files(stored):
            path.unlink()
        assert [number(rows, place) for place in (0, EXAMPLES - 1)] == [0, EXAMPLES - 1]
    with pytest.raises(NotFound) as refusal:
        StoredRows(stored)
    assert "reason" not in refusal.value.context, "deleted is not damaged"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, spoil, Path.unlink])
def test_a_damaged_index_is_told_from_a_damaged_stream(stored: Dataset, damage: Callable[[Path], None]) -> None:
    damage(files(stored)[1])
    with pytest.raises(StorageFailed, match="ask again") as refusal, closing(StoredRows(stored)) as rows:
        rows.term(EXAMPLES - 1)
    assert refusal.value.context["reason"] == atom("damaged")


@pytest.mark.parametrize("damage", [cut, spoil])
def test_the_example_that_is_damaged_is_named_and_the_others_are_read(
    stored: Dataset, damage: Callable[[Path], None]
) -> None:
    damage(files(stored)[0])
    with closing(StoredRows(stored)) as rows:
        assert number(rows, EXAMPLES - 2) == EXAMPLES - 2
        with pytest.raises(NotFound, match=f"example {EXAMPLES - 1} "):
            rows.term(EXAMPLES - 1)


@pytest.mark.parametrize("made_up", [(2**60, 2**60), (2**64 - 100, 2**64 - 50), (100, 90), (0, 2**63)])
def test_a_place_that_an_index_makes_up_costs_no_memory(stored: Dataset, made_up: tuple[int, int]) -> None:
    index = files(stored)[1]
    data = bytearray(index.read_bytes())
    for record, offset in enumerate(made_up, 1):
        RECORD.pack_into(data, RECORDS_AT + RECORD.size * record, offset, 0)
    index.write_bytes(data)
    with closing(StoredRows(stored)) as rows:
        for place in (1, 2):
            with pytest.raises(BridgeError, match="made anew"):
                rows.term(place)


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(stored: Dataset) -> None:
    stream, _ = files(stored)
    stream.unlink()
    stream.mkdir()
    with pytest.raises(StorageFailed) as refusal:
        StoredRows(stored)
    assert refusal.value.context == {"reason": atom("disk_refused")}
