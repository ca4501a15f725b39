"""What a node clears up by itself: in moments on the disk's thread, between what requests ask of it."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from erlbridge.node import housekeeping
from erlbridge.node.disk import Disk
from erlbridge.node.housekeeping import Housekeeping
from erlbridge.store.dataset_writer import DatasetWriter
from erlbridge.store.store import Store, open_store


def cleared(store: Store, prune: Callable[[], None] = lambda: None, keep_s: float = 3600.0) -> list[str]:
    """What a node says that clears up once."""
    said: list[str] = []
    with selectors.PollSelector() as selector:
        disk = Disk(selector, lambda _id, _outcome: None)
        keeper = Housekeeping(store, keep_s, prune, disk, said.append, now=0.0)
        keeper.look(59.0)
        assert not selector.get_map(), "nothing is due yet"
        keeper.look(60.0)
        keeper.look(3661.0)
        disk.finish(30.0)
    return said


def unused(store: Store, count: int) -> None:
    """So many datasets that were used last when there was no clock."""
    for number in range(count):
        with DatasetWriter(store.datasets) as writer:
            writer.add({"question": f"{number}?"})
            name = writer.finish().name
        store.engine.write(
            lambda statements, name=name: statements.run("UPDATE entries SET used_at = 1 WHERE name = ?", (name,))
        )


def test_a_node_clears_up_in_moments_and_says_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_MOMENT_S", 0.0)
    store, pruned = open_store(tmp_path, str), []
    unused(store, 3)
    (line,) = cleared(store, lambda: pruned.append(time.time()))
    assert line.startswith("cleared up: 3 things that nobody needs")
    assert len(pruned) == 1
    assert store.datasets.register.index.totals() == (0, 0)


def test_a_node_that_has_nothing_to_clear_up_says_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path, str)
    unused(store, 1)
    assert cleared(store, keep_s=0.0) == []


def test_a_data_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert cleared(open_store(tmp_path / "data", str)) == []
    assert not (tmp_path / "data").exists()


def test_what_a_disk_refuses_is_said(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    (line,) = cleared(open_store(tmp_path, str), refuse)
    assert line.startswith("the store was not cleared up")
    assert "No space left" in line
