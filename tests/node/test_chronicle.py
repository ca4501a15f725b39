"""What the console's memory counts and shows, in the orders that a node may tell it things in."""

from __future__ import annotations

import pytest

from erlbridge.codec import Atom, term_to_binary
from erlbridge.node.http.chronicle import Chronicle
from erlbridge.node.http.frames import FrameViews
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.redaction import Redaction

FIRST, SECOND, WORKER = b"first", b"second", 7
CALLS = Atom("lm_calls")


@pytest.fixture
def chronicle() -> Chronicle:
    """One whose first request runs and has made five model calls."""
    found = Chronicle()
    arrive(found, FIRST)
    found.sent(FIRST, WORKER, 0.0)
    found.progressed(FIRST, WORKER, {CALLS: 5}, 1.0)
    return found


def arrive(chronicle: Chronicle, key: bytes) -> None:
    chronicle.arrived(key, Request("predict", key, {}, Meta()), 10, 0.0)


def answer(chronicle: Chronicle, key: bytes) -> None:
    chronicle.answered(key, (Atom("error"), key, {Atom("error_type"): Atom("timeout_error")}), 10, 2.0)


def counted(chronicle: Chronicle) -> int:
    return int(chronicle.numbers()[1].usage["lm_calls"]["predict"])


def test_a_job_that_ends_behind_its_answer_is_counted_once(chronicle: Chronicle) -> None:
    answer(chronicle, FIRST)
    chronicle.finished(WORKER, {"lm_calls": 8})
    assert counted(chronicle) == 8


def test_a_later_request_of_the_same_id_does_not_count_what_the_earlier_spent(chronicle: Chronicle) -> None:
    answer(chronicle, FIRST)
    arrive(chronicle, FIRST)
    chronicle.sent(FIRST, WORKER + 1, 3.0)
    chronicle.finished(WORKER, {"lm_calls": 8})
    chronicle.finished(WORKER + 1, {"lm_calls": 8})
    assert counted(chronicle) == 16


def test_the_heir_of_a_job_is_shown_as_running_and_counts_nothing_again(chronicle: Chronicle) -> None:
    arrive(chronicle, SECOND)
    answer(chronicle, FIRST)
    chronicle.progressed(SECOND, WORKER, {CALLS: 6}, 3.0)
    assert [(job["id"], job["state"], job["worker"]) for job in chronicle.state()[1]["jobs"]] == [
        ('"second"', "running", WORKER)
    ]
    chronicle.finished(WORKER, {"lm_calls": 8})
    assert counted(chronicle) == 8


def test_what_a_worker_was_given_is_forgotten_with_it(chronicle: Chronicle) -> None:
    health = {Atom("workers"): [{Atom("worker"): WORKER}]}
    chronicle.beat(health, keep=True)
    assert chronicle._at_worker
    chronicle.beat({Atom("workers"): []}, keep=True)
    assert not chronicle._at_worker


def test_a_frame_is_written_out_once_and_forgotten_with_the_chronicle() -> None:
    chronicle, views = Chronicle(), FrameViews(Redaction())
    chronicle.frame(False, term_to_binary((Atom("ok"), 1)))
    (first,) = views.of(chronicle.frames())
    assert views.of(chronicle.frames())[0] is first
    for _ in range(100):
        chronicle.frame(True, term_to_binary(Atom("ok")))
    assert first not in views.of(chronicle.frames())
    assert len(views._known) == len(chronicle.frames()) < 100
