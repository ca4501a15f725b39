"""A store is read to its last byte: what is damaged is set aside and named, the index made right."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from erlbridge.errors import NotFound
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.engine import INDEX_FILE
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
