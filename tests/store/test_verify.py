"""A store is read to its last byte: what is damaged is set aside and named, the index made right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from erlbridge.core.results import Stored
from erlbridge.errors import NotFound
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.engine import INDEX_FILE, IndexRefused
from erlbridge.store.index import Entry
from erlbridge.store.kept import KINDS, Bounds, Kept
from erlbridge.store.store import Store, open_store
from erlbridge.store.verify import total_bytes, verify


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> Store:
    """One with a program, a model and a dataset."""
    store = open_store(tmp_path, said.append)
    store.programs.put(named("program", b"a program"), b"a program")
    store.models.put(named("offline", b"a model"), b"a model")
    with DatasetWriter(store.datasets) as writer:
        writer.add({"question": "why?"})
        writer.finish()
    return store


def named(prefix: str, content: bytes) -> str:
    return f"{prefix}:{hashlib.sha256(content).hexdigest()}"


def faults(store: Store) -> dict[str, str]:
    return {one.kind: one.fault for one in verify(store) if one.fault is not None}


def test_what_is_whole_has_no_fault_and_every_byte_was_read(store: Store, said: list[str]) -> None:
    read: list[int] = []
    checked = list(verify(store, read.append))
    assert [(one.kind, one.fault) for one in checked] == [("program", None), ("model", None), ("dataset", None)]
    assert sum(read) == total_bytes(store) == sum(one.size_bytes for one in checked)
    assert said == []


def test_what_is_damaged_is_set_aside_and_named_once(store: Store, tmp_path: Path, said: list[str]) -> None:
    for path in (*tmp_path.glob("*/*.etf"), *tmp_path.glob("datasets/*/stream")):
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert faults(store) == {"program": "damaged", "model": "damaged", "dataset": "damaged"}
    assert len(said) == 3
    assert all("was damaged, and is set aside as" in line for line in said)
    assert len(list(tmp_path.glob("*/*.damaged"))) == 3
    assert [shelf.register.index.totals() for shelf in store.shelves] == [(0, 0)] * 3
    assert faults(store) == {}


def test_a_dataset_of_which_a_part_is_missing_is_damaged(store: Store, tmp_path: Path) -> None:
    (about,) = tmp_path.glob("datasets/*/about")
    about.unlink()
    assert faults(store) == {"dataset": "damaged"}


def test_the_index_forgets_what_is_lost_and_notes_what_it_did_not_know(store: Store, tmp_path: Path) -> None:
    (program,) = tmp_path.glob("programs/*")
    program.unlink()
    store.models.register.index.drop(named("offline", b"a model"))
    assert faults(store) == {"program": "lost", "model": "unnoted"}
    assert faults(store) == {}
    assert len(store.models.newest(5)) == 1


def test_an_index_that_is_damaged_inside_is_made_anew(store: Store, tmp_path: Path, said: list[str]) -> None:
    store.close()
    path = tmp_path / INDEX_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)  # no page that is read by the way
    path.write_bytes(content)
    assert faults(store) == {}
    assert [line for line in said if "store.sqlite3 is damaged" in line]
    assert len(store.programs.newest(5)) == 1


def test_verifying_uses_nothing(store: Store) -> None:
    (before,) = store.datasets.register.index.newest(5)
    store.datasets.register._clock = lambda: before.used_at_ns + 10**12  # type: ignore[method-assign]
    list(verify(store))
    assert store.datasets.register.index.newest(5) == [before]
    store.datasets.find(before.name)
    assert store.datasets.register.index.newest(5) != [before]


def test_what_is_deleted_meanwhile_is_no_fault(store: Store) -> None:
    going = verify(store)
    next(going)
    store.models.delete(named("offline", b"a model"))
    assert [one.kind for one in going if one.fault is None] == ["dataset"]
    with pytest.raises(NotFound):
        store.models.get(named("offline", b"a model"))


@pytest.mark.parametrize("size", [10, 200_000], ids=["in its row", "in a file"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_what_is_cached_are_read_too(
    store: Store, tmp_path: Path, said: list[str], kind: str, size: int
) -> None:
    kept = Kept(store.engine, store.blobs, kind, Bounds(1e9, 10, 2**30), said.append)
    for name in ("a" * 64, "b" * 64):
        kept.put(name, kept.packed(name, Stored("predict", b"same", b"x" * size)))
    assert [(one.kind, one.fault) for one in verify(store)][3:] == [(kind, None), (kind, None)]
    store.engine.write(
        lambda statements: statements.run(
            "UPDATE results SET body = ? WHERE name = ? AND body IS NOT NULL", (b"?", "a" * 64)
        )
    )
    for path in tmp_path.glob(f"results/{'a' * 64}.*"):
        path.write_bytes(b"?")
    assert faults(store) == {kind: "damaged"}
    assert faults(store) == {}
    assert kept.totals()[0] == 1


@pytest.mark.parametrize("kind", ["program", "dataset"])
def test_what_another_process_deletes_meanwhile_is_not_lost(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = store.programs if kind == "program" else store.datasets
    found = shelf.found

    def deleted_before_it_was_seen() -> Iterator[Entry]:
        monkeypatch.undo()
        other = open_store(store.data, print)
        for entry in found():
            (other.programs if kind == "program" else other.datasets).delete(entry.name)
        other.close()
        return found()

    monkeypatch.setattr(shelf, "found", deleted_before_it_was_seen)
    assert faults(store) == {}
    assert list(found()) == []


@pytest.mark.parametrize("kind", ["program", "dataset"])
def test_a_deletion_takes_the_note_first_and_goes_on_when_the_index_refuses(
    store: Store, kind: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = store.programs if kind == "program" else store.datasets
    (entry,) = shelf.found()
    index = shelf.register.index

    def refuses(_name: str) -> None:
        assert list(shelf.found()) == [entry], "the note goes first"
        raise IndexRefused("locked")

    monkeypatch.setattr(index, "drop", refuses)
    shelf.delete(entry.name)
    monkeypatch.undo()
    assert list(shelf.found()) == []
    assert shelf.newest(5) == [], "made up for"
    assert len(said) == 1
    with pytest.raises(NotFound):
        shelf.delete(entry.name)
