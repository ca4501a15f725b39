"""The index of a store: its entries, its schema, what becomes of a damaged file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from erlbridge.store.engine import INDEX_FILE, IndexRefused, SqliteEngine, Statements
from erlbridge.store.index import Entry, Index, reindex

ONE = Entry("a", 10, 100, 100, b"about")
TWO = Entry("b", 20, 200, 200)
THREE = Entry("c", 30, 200, 150)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def engine(tmp_path: Path, said: list[str]) -> SqliteEngine:
    return SqliteEngine(tmp_path, said.append)


@pytest.fixture
def index(engine: SqliteEngine) -> Index:
    found = Index(engine, "program")
    for entry in (ONE, TWO, THREE):
        found.put(entry)
    return found


def test_an_entry_is_found_by_its_kind_and_name(index: Index, engine: SqliteEngine) -> None:
    assert index.get("a") == ONE
    assert index.get("z") is None
    assert Index(engine, "model").get("a") is None


def test_the_newest_come_first_and_go_on_behind_a_place(index: Index) -> None:
    assert index.newest(10) == [TWO, THREE, ONE]
    assert index.newest(1) == [TWO]
    assert index.newest(10, (200, "b")) == [THREE, ONE]


def test_an_entry_that_is_put_again_keeps_the_time_when_it_was_stored(index: Index) -> None:
    index.put(Entry("a", 11, 500, 500))
    assert index.get("a") == Entry("a", 11, 100, 500)


def test_what_was_used_is_found_by_that_and_never_made_older(index: Index) -> None:
    index.used("a", 900)
    index.used("b", 50)
    assert index.unused_since(300, 10) == [THREE, TWO]


def test_a_dropped_entry_is_gone_and_totals_follow(index: Index) -> None:
    assert index.totals() == (3, 60)
    assert index.drop("b") is True
    assert index.drop("b") is False
    assert index.totals() == (2, 40)


def test_another_process_sees_what_one_has_put(index: Index, tmp_path: Path, said: list[str]) -> None:
    assert Index(SqliteEngine(tmp_path, said.append), "program").newest(10) == [TWO, THREE, ONE]


def test_a_damaged_index_is_set_aside_named_and_made_anew_from_what_is_there(
    index: Index, engine: SqliteEngine, tmp_path: Path, said: list[str]
) -> None:
    engine.close()
    (tmp_path / INDEX_FILE).write_bytes(b"no database at all" * 100)

    def renewed(statements: Statements) -> None:
        reindex(statements, "program", [ONE])

    again = Index(SqliteEngine(tmp_path, said.append, renewed), "program")
    assert again.newest(10) == [ONE]
    assert len(said) == 1
    assert "set aside as store.damaged" in said[0]
    assert (tmp_path / "store.damaged").exists()


def test_an_index_of_a_newer_version_is_refused_and_left_as_it_is(
    index: Index, engine: SqliteEngine, tmp_path: Path
) -> None:
    engine.close()
    with sqlite3.connect(tmp_path / INDEX_FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IndexRefused, match="has version 99"):
        index.get("a")
    with sqlite3.connect(tmp_path / INDEX_FILE) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (3,)
    connection.close()


def test_a_lock_that_somebody_keeps_is_an_error_that_can_be_tried_again(
    index: Index, engine: SqliteEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.close()
    monkeypatch.setattr("erlbridge.store.engine._BUSY_S", 0.05)
    impatient = Index(SqliteEngine(tmp_path, str), "program")
    other = sqlite3.connect(tmp_path / INDEX_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(IndexRefused, match="locked"):
        impatient.put(ONE)
    assert impatient.get("a") == ONE  # readers do not wait
    other.execute("ROLLBACK")
    other.close()
    impatient.put(ONE)
