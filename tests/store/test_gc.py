"""What a store lets go of: what nobody uses, what was set aside or left half written; and what never goes by itself."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from erlbridge.codec import term_to_binary
from erlbridge.errors import NotFound
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.gc import Policy, Removed, collect
from erlbridge.store.store import Store, open_store

DAY_S = 86_400.0
MONTH = Policy(datasets_s=30 * DAY_S)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path, str)


def program(store: Store, content: bytes) -> str:
    name = "program:" + hashlib.sha256(content).hexdigest()
    store.programs.put(name, content)
    return name


def dataset(store: Store, question: str) -> str:
    with DatasetWriter(store.datasets) as writer:
        writer.add({"question": question})
        return writer.finish().name


def gone(store: Store, policy: Policy, after_days: float, *, only_look: bool = False) -> list[tuple[str, str]]:
    def clock() -> int:
        return time.time_ns() + int(after_days * DAY_S * 1e9)

    return [(one.kind, one.name) for one in collect(store, policy, only_look=only_look, clock=clock)]


def test_datasets_go_when_nobody_has_used_them_for_long_and_programs_never_by_themselves(store: Store) -> None:
    kept, unused = program(store, b"a program"), dataset(store, "one")
    assert gone(store, MONTH, 29) == []
    assert gone(store, MONTH, 31, only_look=True) == [("dataset", unused)]
    assert store.datasets.look(unused).examples == 1
    assert gone(store, MONTH, 31) == [("dataset", unused)]
    with pytest.raises(NotFound):
        store.datasets.look(unused)
    assert not list(store.datasets.directory.iterdir())
    assert gone(store, MONTH, 10_000) == []
    assert gone(store, Policy(None, programs_s=90 * DAY_S), 91) == [("program", kept)]
    assert store.programs.newest(1) == []


def test_a_dataset_that_is_used_stays(store: Store) -> None:
    used, unused = dataset(store, "used"), dataset(store, "unused")
    store.datasets.register.index.used(used, time.time_ns() + int(20 * DAY_S * 1e9))
    assert gone(store, MONTH, 31) == [("dataset", unused)]
    assert gone(store, Policy(None), 10_000) == []
    assert store.datasets.look(used).name == used


def test_a_dataset_that_is_used_in_the_very_moment_stays(store: Store) -> None:
    names = sorted([dataset(store, "one"), dataset(store, "two")])
    index = store.datasets.register.index
    going = collect(store, MONTH, clock=lambda: time.time_ns() + int(31 * DAY_S * 1e9))
    first = next(going).name
    (other,) = set(names) - {first}
    index.used(other, time.time_ns() + int(31 * DAY_S * 1e9))
    assert list(going) == []
    assert store.datasets.look(other).name == other


def test_a_dataset_that_a_job_has_open_is_read_to_its_end(store: Store) -> None:
    found = store.datasets.look(dataset(store, "open"))
    with open(found.path, "rb") as stream:
        assert gone(store, MONTH, 31) == [("dataset", found.name)]
        assert hashlib.sha256(stream.read()).hexdigest() == found.name.removeprefix("sha256:")


def test_what_was_set_aside_and_half_written_goes_after_a_day(store: Store, tmp_path: Path) -> None:
    name = program(store, b"content")
    path = tmp_path / "programs" / f"{name.removeprefix('program:')}.etf"
    path.write_bytes(b"damaged")
    with pytest.raises(NotFound):
        store.programs.get(name)
    (tmp_path / "programs" / ".new-half").write_bytes(b"half")
    (tmp_path / "store.damaged-wal").touch()
    aside = store.datasets.begin()
    (aside / "stream").write_bytes(b"growing")
    os.utime(aside, (0, 0))  # its own time does not say when what is in it grew
    expected = [
        ("damaged", "store.damaged-wal"),
        ("unfinished", "programs/.new-half"),
        ("damaged", f"programs/{path.stem}.damaged"),
        ("unfinished", f"datasets/{aside.name}"),
    ]
    assert gone(store, MONTH, 0.9) == []
    assert gone(store, MONTH, 1.1, only_look=True) == expected
    assert gone(store, MONTH, 1.1) == expected
    assert gone(store, MONTH, 1.1) == []


def test_abandoned_transfers_go_after_a_day(store: Store, tmp_path: Path) -> None:
    transfers = tmp_path / "transfers"
    transfers.mkdir()
    for name, age_days in (("a" * 64, 2), ("b" * 64, 0.5)):
        path = transfers / f"{name}.over"
        path.write_bytes(term_to_binary((b"", 1, 1)))
        os.utime(path, (time.time() - age_days * DAY_S,) * 2)
    assert list(collect(store, MONTH)) == [Removed("transfer", f"transfers/{'a' * 64}.over", path.stat().st_size)]
    assert [entry.name for entry in transfers.iterdir()] == [f"{'b' * 64}.over"]


def test_the_index_is_made_right_by_what_lies_there(store: Store, tmp_path: Path) -> None:
    there, lost = program(store, b"there"), program(store, b"lost")
    (tmp_path / "programs" / f"{lost.removeprefix('program:')}.etf").unlink()
    store.programs.register.index.drop(there)
    assert gone(store, MONTH, 1) == []
    assert [entry.name for entry in store.programs.newest(5)] == [there]


def test_an_empty_directory_has_nothing_to_lose(tmp_path: Path) -> None:
    assert gone(open_store(tmp_path / "new", str), MONTH, 100) == []
