"""Results on disk: whole or absent, bounded in age, number and bytes, and never another one's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from erlbridge.core.results import Identity, name_of
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import StorageFailed, ValidationError
from erlbridge.store.results import Bounds, Results
from erlbridge.wire.messages import Meta, Request

SAME = Identity(b"same")
ROOMY = Bounds(3600.0, 100, 2**20)


class Kept(Results):
    """Results that remember what they said, and are asked with one identity."""

    def __init__(self, directory: Path, bounds: Bounds = ROOMY) -> None:
        self.said: list[str] = []
        super().__init__(directory, bounds, self.said.append)

    def keep(self, key: str, result: object = b"done", asked: Identity = SAME) -> Path:
        self.put(asking(key), result, asked)
        return self.directory / f"{name_of(key)}.result"

    def find(self, key: str) -> object:
        return self.answer_to(asking(key), SAME)

    def names(self) -> set[str]:
        return {file.name for file in self.directory.iterdir()}


def asking(key: str) -> Request:
    return Request("predict", 1, None, Meta(idempotency_key=key))


def aged(file: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(file, (at, at))


def test_a_result_comes_back_as_it_was_put(tmp_path: Path) -> None:
    results = Kept(tmp_path / "new")
    assert results.find("one") is None
    for result in ({b"answer": 1}, b"x" * 100_000):
        results.keep("one", result)
        assert results.find("one") == result
    assert len(results.names()) == 1
    assert results.said == []


def test_a_key_of_another_question_is_refused(tmp_path: Path) -> None:
    results = Kept(tmp_path)
    results.keep("one", asked=Identity(b"another"))
    with pytest.raises(ValidationError, match=r"idempotency_key.*of predict"):
        results.find("one")


def test_what_is_too_old_is_gone(tmp_path: Path) -> None:
    results = Kept(tmp_path, Bounds(60.0, 10, 2**20))
    old = results.keep("old")
    aged(old, 61.0)
    assert results.find("old") is None
    results.keep("new")
    assert not old.exists()
    assert results.find("new") == b"done"


def test_beyond_their_number_the_oldest_go_and_what_was_left_half_written_with_them(tmp_path: Path) -> None:
    results = Kept(tmp_path, Bounds(3600.0, 3, 2**20))
    (tmp_path / ".new-of-a-killed-node").write_bytes(b"half")
    aged(tmp_path / ".new-of-a-killed-node", 100.0)
    files = [results.keep(f"key {index}") for index in range(4)]
    for index, file in enumerate(files[1:]):
        aged(file, 50.0 - index)
    files.append(results.keep("key 4"))
    assert results.names() == {file.name for file in files[2:]}


def test_beyond_their_bytes_the_oldest_go(tmp_path: Path) -> None:
    results = Kept(tmp_path, Bounds(3600.0, 100, 25_000))
    first = results.keep("first", b"x" * 10_000)
    aged(first, 10.0)
    results.keep("second", b"x" * 10_000)
    assert results.find("first") is not None
    results.keep("third", b"x" * 10_000)
    assert (results.find("first"), results.find("third")) == (None, b"x" * 10_000)
    results.keep("too large", b"x" * 30_000)
    assert results.find("too large") is None
    assert "limit 25000 (result_max_bytes)" in results.said[0]


def test_an_age_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    results = Kept(tmp_path / "never made", Bounds(0.0, 100, 2**20))
    results.keep("one")
    assert results.find("one") is None
    assert not results.directory.exists()


@pytest.mark.parametrize("damage", [b"", b"cut", None], ids=["emptied", "cut", "another one's"])
def test_a_damaged_file_is_set_aside_named_and_replaced(tmp_path: Path, damage: bytes | None) -> None:
    results = Kept(tmp_path)
    other, file = results.keep("other", b"another one's"), results.keep("one")
    file.write_bytes(other.read_bytes() if damage is None else damage)
    assert results.find("one") is None
    assert results.said == [f"the stored result {file.name} was damaged, and is set aside as {file.stem}.damaged"]
    results.keep("one")
    assert results.find("one") == b"done"


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_file_is_neither_read_nor_followed(tmp_path: Path, kind: str) -> None:
    results = Kept(tmp_path)
    other, file = results.keep("other"), tmp_path / f"{name_of('one')}.result"
    match kind:
        case "directory":
            file.mkdir()
        case "link":
            file.symlink_to(other)
        case _:
            os.mkfifo(file)
    assert results.find("one") is None
    results.keep("one")
    assert results.find("one") == b"done"


def test_a_disk_that_refuses_costs_a_line_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the directory should be")
    results = Kept(tmp_path / "results")
    results.keep("one")
    assert results.find("one") is None
    assert "a result of predict is not kept" in results.said[0]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    looped = Kept(tmp_path / "loop")
    assert looped.find("one") is None
    assert "stored results cannot be read" in looped.said[0]
    with pytest.raises(StorageFailed, match="the stored result was not read"):
        looped.fetch({b"idempotency_key": b"one"}, Scheduler(1).sharing)
