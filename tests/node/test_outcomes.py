"""What jobs leave is kept in order, and before the scheduler hears of it: the outcome behind what was made, the death
behind the outcome. The disk is a real one, whose index the test has locked."""

from __future__ import annotations

import hashlib
import selectors
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from erlbridge.core.events import Booted, Died, Event, Finished, Forked, Submitted
from erlbridge.core.results import Identity
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import ProcessCrashed
from erlbridge.node.config import NodeConfig
from erlbridge.node.disk import Disk
from erlbridge.node.outcomes import Outcomes
from erlbridge.node.stock import Stock, stock_of
from erlbridge.store.engine import INDEX_FILE
from erlbridge.store.store import open_store
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.vocabulary import atom, atom_keys

SAME = Identity(b"same", cached_as=b"same")
DEATH = Died(1, ProcessCrashed("killed"))


class Desk:
    """Outcomes with a disk of their own; `heard` is what the scheduler has heard, `said` what the log has."""

    def __init__(self, data: Path) -> None:
        self.heard: list[Event] = []
        self.said: list[str] = []
        self.selector = selectors.PollSelector()
        self.disk = Disk(self.selector, lambda _id, _outcome: None)
        store = open_store(data, self.said.append)
        self.stock: Stock = stock_of(store, self.disk, NodeConfig(data=data), self.said.append)
        self.scheduler = Scheduler(1)
        self.scheduler.start(0.0)
        for event in (Forked(1, 4711), Booted(1)):
            self.scheduler.step(event, 0.0)
        self.outcomes = Outcomes(self.scheduler, self.stock, self.step, lambda _level, line: self.said.append(line))
        self.stock.cache.clear()  # makes the index

    def step(self, event: Event) -> None:
        self.heard.append(event)
        self.scheduler.step(event, 1.0)

    def begin(self, key: str | None, identity: Identity | None) -> None:
        """Gives the worker a job."""
        request = Request("predict", 1, None, Meta(idempotency_key=key))
        self.scheduler.step(Submitted(b"1", request, b"job", identity=identity), 0.0)

    def wait(self, until: Callable[[], bool]) -> None:
        while not until():
            for key, events in self.selector.select(10.0):
                key.data(events)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def lock(desk: Desk, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / INDEX_FILE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_an_outcome_with_nothing_to_keep_is_heard_of_at_once(desk: Desk) -> None:
    desk.begin(None, None)
    finished = Finished(1, True, {})
    desk.outcomes.finished(finished)
    desk.outcomes.died(DEATH)
    assert desk.heard == [finished, DEATH]


def test_a_result_is_stored_before_it_is_heard_of_and_a_death_behind_it_stays_there(
    desk: Desk, lock: sqlite3.Connection
) -> None:
    desk.begin("key", SAME)
    finished = Finished(1, True, {b"answer": b"yes"})
    desk.outcomes.finished(finished)
    desk.outcomes.died(DEATH)
    assert desk.heard == []
    lock.execute("ROLLBACK")
    desk.wait(lambda: len(desk.heard) == 2)
    assert desk.heard == [finished, DEATH]
    assert desk.stock.results.answer_to("key", SAME) == {b"answer": b"yes"}


def test_an_outcome_stays_behind_what_its_job_has_made_and_tells_what_of_it_was_not_kept(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "programs").write_text("a file where the directory should be")
    desk.begin(None, None)
    content = b"a program"
    desk.outcomes.keep(1, f"program:{hashlib.sha256(content).hexdigest()}", content)
    desk.outcomes.finished(Finished(1, True, atom_keys({"status": atom("success")})))
    assert desk.heard == []
    desk.wait(lambda: bool(desk.heard))
    (said,) = desk.heard
    assert isinstance(said, Finished)
    assert isinstance(said.term, dict)
    assert b"was not stored" in said.term[atom("warnings")][0]
    assert any("was not stored" in line for line in desk.said)


def test_a_death_in_the_middle_of_a_job_stays_behind_what_it_made(desk: Desk) -> None:
    desk.begin("key", SAME)
    desk.outcomes.keep(1, "program:" + "0" * 64, b"another one's bytes")
    desk.outcomes.died(DEATH)
    assert desk.heard == []
    desk.wait(lambda: bool(desk.heard))
    assert desk.heard == [DEATH]
