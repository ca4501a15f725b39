"""Stored results: whole or absent, bounded in age, number and bytes, and never another one's; small ones in the index,
large ones beside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from kept_results import aged, blob, body, names, overwrite, rows

from erlbridge.core.results import Identity, Stored, name_of, pack, parse_fetch
from erlbridge.errors import NotFound, StorageFailed, ValidationError
from erlbridge.store.cache import Cache
from erlbridge.store.engine import INDEX_FILE, IndexRefused
from erlbridge.store.kept import Bounds, Kept
from erlbridge.store.results import Results
from erlbridge.store.store import open_store

SAME = Identity(b"same")
ROOMY = Bounds(3600.0, 100, 2**20)
SMALL, LARGE = 10, 100_000


class Keeping(Results):
    """Results that remember what they said, and are asked with one identity."""

    def __init__(self, data: Path, bounds: Bounds = ROOMY) -> None:
        self.said: list[str] = []
        self.data = data
        store = open_store(data, self.said.append)
        self.kept = Kept(store.engine, store.blobs, "result", bounds, self.said.append)
        super().__init__(self.kept, self.said.append)

    def keep(self, key: str, result: object = b"done", asked: Identity = SAME) -> str:
        self.put(key, "predict", result, asked)
        return name_of(key)

    def find(self, key: str) -> object:
        return self.answer_to(key, SAME)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_result_comes_back_as_it_was_put(tmp_path: Path, size: int) -> None:
    results = Keeping(tmp_path / "new")
    assert results.find("one") is None
    for result in ({b"answer": 1}, b"x" * size, b"y" * (LARGE + SMALL - size), b"z" * size):
        results.keep("one", result)
        assert results.find("one") == result
    assert names(results.data) == {name_of("one")}
    assert blob(results.data, name_of("one")).exists() == (size == LARGE), "what is in a row is nowhere else"
    assert results.said == []


def test_a_key_of_another_question_is_refused(tmp_path: Path) -> None:
    results = Keeping(tmp_path)
    results.keep("one", asked=Identity(b"another"))
    with pytest.raises(ValidationError, match=r"idempotency_key.*of predict"):
        results.find("one")


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_too_old_is_gone(tmp_path: Path, size: int) -> None:
    results = Keeping(tmp_path, Bounds(60.0, 10, 2**20))
    old = results.keep("old", b"x" * size)
    aged(tmp_path, old, 61.0)
    assert results.find("old") is None
    results.keep("new")
    assert names(tmp_path) == {name_of("new")}
    assert not blob(tmp_path, old).exists()
    assert results.find("new") == b"done"


def test_beyond_their_number_the_oldest_go(tmp_path: Path) -> None:
    results = Keeping(tmp_path, Bounds(3600.0, 3, 2**20))
    kept = [results.keep(f"key {index}", b"x" * (LARGE if index % 2 else SMALL)) for index in range(4)]
    for index, name in enumerate(kept):
        aged(tmp_path, name, 50.0 - index)
    kept.append(results.keep("key 4"))
    assert names(tmp_path) == set(kept[2:])
    assert {path.stem for path in (tmp_path / "results").iterdir()} == {kept[3]}


def test_beyond_their_bytes_the_oldest_go(tmp_path: Path) -> None:
    results = Keeping(tmp_path, Bounds(3600.0, 100, 25_000))
    first = results.keep("first", b"x" * 10_000)
    aged(tmp_path, first, 10.0)
    results.keep("second", b"x" * 10_000)
    assert results.find("first") is not None
    results.keep("third", b"x" * 10_000)
    assert (results.find("first"), results.find("third")) == (None, b"x" * 10_000)
    results.keep("too large", b"x" * 30_000)
    assert results.find("too large") is None
    assert "limit 25000 (result_max_bytes)" in results.said[0]


def test_an_age_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    results = Keeping(tmp_path / "never made", Bounds(0.0, 100, 2**20))
    results.keep("one")
    assert results.find("one") is None
    assert not results.data.exists()


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("damage", [b"", b"cut", None], ids=["emptied", "cut", "another one's"])
def test_a_damaged_result_is_set_aside_named_and_replaced(tmp_path: Path, size: int, damage: bytes | None) -> None:
    results = Keeping(tmp_path)
    other, name = results.keep("other", b"o" * size), results.keep("one", b"1" * size)
    content = body(tmp_path, other) if damage is None else damage
    overwrite(tmp_path, name, content)
    assert results.find("one") is None
    assert results.said == [f"the stored result {name}.result was damaged, and is set aside as {name}.damaged"]
    assert (tmp_path / "results" / f"{name}.damaged").read_bytes() == content
    results.keep("one")
    assert results.find("one") == b"done"
    assert results.find("other") == b"o" * size


@pytest.mark.parametrize("kind", ["nothing", "directory", "link", "pipe"])
def test_what_is_no_file_is_neither_read_nor_followed(tmp_path: Path, kind: str) -> None:
    results = Keeping(tmp_path)
    other, name = results.keep("other", b"o" * LARGE), results.keep("one", b"1" * LARGE)
    file = blob(tmp_path, name)
    file.unlink()
    match kind:
        case "nothing":
            pass
        case "directory":
            file.mkdir()
        case "link":
            file.symlink_to(blob(tmp_path, other))
        case _:
            os.mkfifo(file)
    assert results.find("one") is None
    results.keep("one", b"1" * LARGE)
    assert results.find("one") == b"1" * LARGE


def test_what_another_node_stores_in_the_moment_of_damage_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, other = Keeping(tmp_path), Keeping(tmp_path)
    name = results.keep("one", b"1" * LARGE)
    overwrite(tmp_path, name, b"damaged")
    blobs = results.kept._blobs
    set_aside = blobs.set_aside

    def after_the_other(kind: str, file: str) -> str | None:
        other.keep("one", b"2" * LARGE)
        return set_aside(kind, file)

    monkeypatch.setattr(type(blobs), "set_aside", lambda _self, kind, file: after_the_other(kind, file))
    assert results.find("one") == b"2" * LARGE
    assert other.find("one") == b"2" * LARGE
    assert results.said == []


def test_a_lost_index_costs_the_small_results_and_finds_the_large_and_those_of_old_directories(tmp_path: Path) -> None:
    results = Keeping(tmp_path)
    results.keep("small")
    results.keep("large", b"x" * LARGE)
    old = name_of("old")
    blob(tmp_path, old).write_bytes(pack(old, Stored("predict", b"same", b"of files")))
    results.kept._engine.close()
    (tmp_path / INDEX_FILE).write_bytes(b"no index at all" * 100)
    again = Keeping(tmp_path)
    assert [again.find(key) for key in ("small", "large", "old")] == [None, b"x" * LARGE, b"of files"]


def test_a_disk_that_refuses_costs_a_line_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")
    results = Keeping(tmp_path / "data")
    results.keep("one")
    assert results.find("one") is None
    assert "a result of predict is not kept" in results.said[0]
    assert "stored results cannot be read" in results.said[1]
    wanted = parse_fetch({b"idempotency_key": b"one"})
    with pytest.raises(StorageFailed, match="the stored result was not read"):
        results.fetch(wanted, running=True)


def test_what_runs_is_said_to_run_until_it_is_stored(tmp_path: Path) -> None:
    results, wanted = Keeping(tmp_path), parse_fetch({b"idempotency_key": b"one"})
    with pytest.raises(NotFound, match="is being done"):
        results.fetch(wanted, running=True)
    with pytest.raises(NotFound, match="send the request itself"):
        results.fetch(wanted, running=False)
    results.keep("one")
    assert results.fetch(wanted, running=True)


def test_a_lock_that_somebody_keeps_costs_the_result_and_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erlbridge.store.engine._BUSY_S", 0.05)
    results = Keeping(tmp_path)
    results.keep("before")
    with rows(tmp_path) as other:
        other.execute("BEGIN IMMEDIATE")
        results.keep("one")
        assert results.find("before") == b"done", "readers do not wait"
        other.execute("ROLLBACK")
    assert "a result of predict is not kept" in results.said[0]
    assert "locked" in results.said[0]


def test_a_node_of_narrower_bounds_harms_nothing_that_another_one_keeps(tmp_path: Path) -> None:
    results, narrow = Keeping(tmp_path), Keeping(tmp_path, Bounds(3600.0, 100, LARGE // 2))
    results.keep("one", b"x" * LARGE)
    assert narrow.find("one") == results.find("one") == b"x" * LARGE
    assert narrow.said == results.said == []


@pytest.mark.parametrize(
    ("column", "value"), [("body", 10**18), ("body", 3), ("body", "text"), ("body", 1.5), ("stored_at", "text")]
)
def test_a_row_that_holds_other_types_is_no_result_and_no_error(tmp_path: Path, column: str, value: object) -> None:
    results = Keeping(tmp_path)
    name = results.keep("one")
    with rows(tmp_path) as somebody:
        somebody.execute(f"UPDATE results SET {column} = ? WHERE name = ?", (value, name))
    assert results.find("one") is None
    if column == "body":
        assert results.said == [f"the stored result {name}.result was damaged, and is set aside as {name}.damaged"]
    results.keep("one")
    assert results.find("one") == b"done"


def test_a_full_disk_costs_no_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit notes that it was used; an index that refuses the note has the result all the same."""
    results = Keeping(tmp_path)
    cache = Cache(Kept(results.kept._engine, results.kept._blobs, "cache", ROOMY, results.said.append), str, print)
    asked = Identity(b"same", cached_as=b"same")
    cache.put("predict", {b"answer": 1}, asked)

    def refuses(_work: object) -> None:
        raise IndexRefused(errno.ENOSPC, "database or disk is full")

    monkeypatch.setattr(results.kept._engine, "write", refuses)
    assert cache.find(asked, "predict") == {b"answer": 1}
    assert (cache.hits, cache.misses) == (1, 0)
