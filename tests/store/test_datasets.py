"""Datasets on the disk: written by hand, found with an index that is right, whatever happened to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from pathlib import Path

import pytest
from streams import framed, name_of, rows

from erlbridge.codec import term_to_binary
from erlbridge.core.datasets import Dataset
from erlbridge.errors import NotFound, ValidationError
from erlbridge.store.dataset_index import INDEX, RECORD, RECORDS_AT, Indexer, is_sound
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.datasets import STREAM, DatasetStore
from erlbridge.store.store import open_store
from erlbridge.store.verify import verify


def written(store: DatasetStore, count: int = 30, size: int = 40) -> Dataset:
    with DatasetWriter(store) as writer:
        for row in rows(count, size):
            writer.add(row)
        return writer.finish()


def index_of(found: Dataset) -> Path:
    return Path(os.fsdecode(found.path)).parent / INDEX


@pytest.mark.parametrize("cut", [1, 3, 4, 7, 50, 100, 10_000])
def test_an_index_is_the_same_however_the_stream_is_cut(cut: int) -> None:
    terms = [framed([row]) for size in (10, 60, 300) for row in rows(4, size)]
    stream = b"".join(terms)
    indexer = Indexer()
    records = b"".join(indexer.feed(stream[at : at + cut]) for at in range(0, len(stream), cut))
    at, expected = 0, b""
    for term in terms:
        expected += RECORD.pack(at, zlib.crc32(term))
        at += len(term)
    assert records == expected


def test_a_dataset_that_is_written_here_is_the_one_that_would_be_sent(tmp_path: Path) -> None:
    store = open_store(tmp_path, str).datasets
    found = written(store)
    stream = framed({str(key).encode(): value for key, value in sorted(row.items(), key=str)} for row in rows(30))
    with DatasetWriter(store) as writer:
        for row in rows(30):
            writer.add({str(key): bytes(value).decode() for key, value in row.items()})
        again = writer.finish()
    assert again.name == name_of(stream)
    assert (found.examples, again.size_bytes) == (30, len(stream))
    assert is_sound(index_of(again), again.name.removeprefix("sha256:"), 30)


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with DatasetWriter(open_store(tmp_path, str).datasets) as writer:
        writer.add({"a": "b"})
    with (
        DatasetWriter(open_store(tmp_path, str).datasets) as writer,
        pytest.raises(ValidationError, match="at least one"),
    ):
        writer.finish()
    assert list((tmp_path / "datasets").iterdir()) == []


def test_a_dataset_that_is_there_already_is_written_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, str).datasets
    before = index_of(written(store)).stat().st_ino
    assert index_of(written(store)).stat().st_ino == before
    assert len(list((tmp_path / "datasets").iterdir())) == 1


def test_an_index_that_is_missing_or_damaged_is_made_again(tmp_path: Path) -> None:
    store = open_store(tmp_path, str).datasets
    found = written(store)
    index = index_of(found)
    right = index.read_bytes()
    for wrong in (b"", right[:-1], right[:RECORDS_AT] + b"\x01" + right[RECORDS_AT + 1 :], b"\0" * len(right)):
        index.write_bytes(wrong)
        assert store.ready(found.name) == found
        assert index.read_bytes() == right
    index.unlink()
    store.ready(found.name)
    assert index.read_bytes() == right
    assert len(list((tmp_path / "datasets").iterdir())) == 1, "nothing is left over"


def test_a_stream_that_is_damaged_shows_when_its_index_is_made(tmp_path: Path) -> None:
    store = open_store(tmp_path, str).datasets
    found = written(store)
    index_of(found).unlink()
    stream = Path(os.fsdecode(found.path))
    stream.write_bytes(stream.read_bytes()[:-1] + b"!")
    with pytest.raises(NotFound, match="damaged"):
        store.ready(found.name)
    assert [path.suffix for path in (tmp_path / "datasets").iterdir()] == [".damaged"]
    assert stream.name == STREAM


@pytest.mark.parametrize("noted", [-1, 0, 29, 31, 10**30])
def test_a_number_of_examples_that_is_not_that_of_the_stream_is_damage(tmp_path: Path, noted: int) -> None:
    """Or its index is never right, and whoever asks is told for ever to ask again."""
    store = open_store(tmp_path, str)
    found = written(store.datasets)
    about = index_of(found).with_name("about")
    for look in (lambda: [store.datasets.ready(found.name)], lambda: list(verify(store))):
        about.write_bytes(term_to_binary((1, noted, found.size_bytes)))
        with contextlib.suppress(NotFound):
            look()
        assert [path.suffix for path in (tmp_path / "datasets").iterdir()] == [".damaged"]
        assert written(store.datasets) == found, "it can be sent again"
        shutil.rmtree(tmp_path / "datasets" / f"{found.name[7:]}.damaged")
    store.close()
