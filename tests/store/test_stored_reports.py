"""Reports on disk: beside their programs, gone with them, and never served damaged."""

from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path

import pytest

from erlbridge.errors import NotFound, ValidationError
from erlbridge.limits import MAX_REPORT_BYTES
from erlbridge.store.archive_export import export
from erlbridge.store.archive_import import take_in
from erlbridge.store.gc import Policy, Removed, collect
from erlbridge.store.reports import report_name
from erlbridge.store.store import Store, open_store
from erlbridge.store.verify import DAMAGED, verify
from erlbridge.wire.vocabulary import atom

CONTENT = b"a program"
PROGRAM = f"program:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = report_name(PROGRAM)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path, str)
    store.programs.put(PROGRAM, CONTENT)
    return store


def file(store: Store) -> Path:
    return store.data / "reports" / f"{PROGRAM.removeprefix('program:')}.etf"


def test_a_report_comes_back_as_it_was_put_and_the_first_one_stays(store: Store) -> None:
    store.reports.put(NAME, b"first")
    store.reports.put(NAME, b"second")
    assert store.reports.get(PROGRAM) == b"first"
    assert [program for program, _ in store.reports.all()] == [PROGRAM]


@pytest.mark.parametrize("name", ["report:../../x", "report:", f"report:{'g' * 64}", f"{NAME}\n", f"{NAME}/.."])
def test_a_name_that_is_no_reports_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ValidationError, match="64 hexadecimal"):
        store.reports.put(name, b"")
    assert not (store.data / "reports").exists()


def test_a_report_that_is_too_long_is_refused(store: Store) -> None:
    with pytest.raises(ValidationError, match="limit"):
        store.reports.put(NAME, bytes(MAX_REPORT_BYTES + 1))


@pytest.mark.parametrize("damage", [b"", b"cut", bytes(40)])
def test_a_damaged_report_is_set_aside_and_can_be_put_again(store: Store, damage: bytes) -> None:
    store.reports.put(NAME, b"whole")
    file(store).write_bytes(damage)
    with pytest.raises(NotFound, match="damaged") as caught:
        store.reports.get(PROGRAM)
    assert caught.value.context == {"program_id": PROGRAM, "reason": atom("damaged")}
    with pytest.raises(NotFound, match="no report"):
        store.reports.get(PROGRAM)
    store.reports.put(NAME, b"whole")
    assert store.reports.get(PROGRAM) == b"whole"


def test_a_report_goes_with_its_program(store: Store) -> None:
    store.reports.put(NAME, b"whole")
    store.programs.delete(PROGRAM)
    assert not file(store).exists()
    with pytest.raises(NotFound):
        store.reports.get(PROGRAM)


def test_a_report_whose_program_is_lost_is_cleared_up_after_a_day(store: Store) -> None:
    store.reports.put(NAME, b"whole")
    policy, later = Policy(datasets_s=None), lambda: time.time_ns() + 2 * 86_400 * 10**9
    assert list(collect(store, policy, clock=later)) == []
    (store.data / "programs" / f"{PROGRAM.removeprefix('program:')}.etf").unlink()
    assert list(collect(store, policy)) == []
    assert list(collect(store, policy, clock=later, only_look=True)) == [Removed("report", PROGRAM, 37)]
    assert list(collect(store, policy, clock=later)) == [Removed("report", PROGRAM, 37)]
    assert not file(store).exists()


def test_a_report_moves_with_its_store_in_one_file(store: Store, tmp_path: Path) -> None:
    store.reports.put(NAME, b"whole")
    archive = io.BytesIO()
    assert [(one.kind, one.name) for one in export(store, archive)] == [("program", PROGRAM), ("report", NAME)]
    other = open_store(tmp_path / "other", str)
    for known in (False, True):
        archive.seek(0)
        assert [one.known for one in take_in(other, archive, 2**20)] == [known, known]
        assert other.reports.get(PROGRAM) == b"whole"


def test_an_archive_with_a_changed_report_is_refused(store: Store, tmp_path: Path) -> None:
    store.reports.put(NAME, b"whole")
    archive = io.BytesIO()
    list(export(store, archive))
    changed = io.BytesIO(archive.getvalue().replace(b"whole", b"whale"))
    other = open_store(tmp_path / "other", str)
    with pytest.raises(ValidationError, match=r"report:.* damaged"):
        list(take_in(other, changed, 2**20))
    assert list(other.reports.all()) == []


def test_verify_reads_reports_and_sets_damaged_ones_aside(store: Store) -> None:
    store.reports.put(NAME, b"whole")
    assert [(one.kind, one.fault) for one in verify(store) if one.kind == "report"] == [("report", None)]
    file(store).write_bytes(b"other")
    found = [(one.name, one.fault) for one in verify(store) if one.kind == "report"]
    assert found == [(PROGRAM, DAMAGED)]
