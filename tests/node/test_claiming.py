"""Claims of one node: each job's own, from the moment in which it is taken until its job has been answered."""

from __future__ import annotations

import selectors
from pathlib import Path

import pytest
from claim_holder import holder

from erlbridge.core.queue import Entry
from erlbridge.node.claiming import Claiming
from erlbridge.node.disk import Disk
from erlbridge.store.claims import Claims
from erlbridge.store.engine import SqliteEngine
from erlbridge.wire.messages import Request


def job() -> Entry:
    return Entry(b"key", Request("predict", 1, None), b"", 0.0, None)


@pytest.fixture
def disk() -> Disk:
    return Disk(selectors.PollSelector(), lambda _id, _outcome: None)


def test_a_claim_is_given_back_when_its_job_was_answered_and_not_before(tmp_path: Path, disk: Disk) -> None:
    claims = Claims(SqliteEngine(tmp_path, print))
    claiming = Claiming(claims, disk, print)
    first = job()
    assert claiming.take("question")
    claiming.note("question", first, 0.0)
    claiming.look(1.0)
    disk.finish(5.0)
    assert not claiming.take("question")
    first.answered = True
    claiming.look(2.0)
    disk.finish(5.0)
    assert holder(claims, "question") is None
    assert claiming.take("question")
    claiming.look(3.0)  # before the second job is noted: the loop has not heard of its claim yet
    disk.finish(5.0)
    assert holder(claims, "question") is not None
    assert claiming.due_at() is None
