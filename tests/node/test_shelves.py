"""What jobs say of stored things, taken with care: workers are confined, and their words must reach no further."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from report_records import record

from erlbridge.core.events import Finished
from erlbridge.node.shelves import Shelves
from erlbridge.reports.record import MAX_STAGE, Moment, pack
from erlbridge.store.store import open_store
from erlbridge.wire.vocabulary import atom, atom_keys

NAME = "sha256:" + "a" * 64


def damaged(dataset: bytes) -> Finished:
    context = atom_keys({"dataset": dataset, "reason": atom("damaged")})
    return Finished(1, False, atom_keys({"error_type": atom("not_found"), "context": context}))


@pytest.mark.parametrize("name", [b"sha256:../programs", b"../programs", b"", b"\xff"])
def test_a_worker_s_error_renames_nothing_but_a_dataset(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "datasets").mkdir()
    said = damaged(name)
    assert Shelves(open_store(tmp_path, str)).told(said) is said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets", "programs"]


def test_a_disk_that_refuses_to_set_a_dataset_aside_costs_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "refused")

    store = open_store(tmp_path, str)
    (store.datasets.directory / NAME.removeprefix("sha256:")).mkdir(parents=True)
    monkeypatch.setattr(Path, "rename", refuse)
    said = damaged(NAME.encode())
    assert Shelves(store).told(said) is said


def test_a_report_that_could_not_be_read_again_is_not_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path, str)
    shelves = Shelves(store)
    long = record(moments=(Moment(0.0, "x" * (MAX_STAGE + 1), 0, 0, 0, 0.0),))
    for digit, content, why in (
        ("a", pack(long), "report.moments[0].stage: expected at most 100 characters"),
        ("b", b"\x83h", "input ends inside a term"),
        ("c", b"\x83P\xff\xff\xff\xff", "compressed term of 4294967295 bytes, limit 8388608"),
    ):
        told = shelves.keep(1, "report:" + digit * 64, content, None)
        assert told is not None
        assert told.startswith(f"report:{digit * 64} was not stored: {why}")
    assert list(store.reports.all()) == []
    assert shelves.keep(1, "report:" + "d" * 64, pack(record()), None) is None
    assert [program for program, _ in store.reports.all()] == ["program:" + "d" * 64]
