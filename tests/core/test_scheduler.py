"""The scheduler as tables of events and actions: every request answered once, no worker idle while work waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from erlbridge.core.events import (
    Action,
    Answer,
    Booted,
    CancelAsked,
    Died,
    Exit,
    Finished,
    Fork,
    Forked,
    Interrupt,
    Kill,
    Refuse,
    Send,
    ShutdownAsked,
    Submitted,
    Tick,
    Trace,
    Traced,
)
from erlbridge.core.scheduler import Scheduler, Worker
from erlbridge.errors import ProcessCrashed
from erlbridge.limits import CANCEL_GRACE_S, MAX_BOOT_FAILURES, MAX_SHUTDOWNS
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.vocabulary import atom, atom_keys

CRASH = ProcessCrashed("the worker died: killed by SIGKILL", context={"reason": atom("signal")})


def submitted(number: int, deadline_ms: int | None = None) -> Submitted:
    return Submitted(b"%d" % number, Request("predict", number, {}, Meta(deadline_ms=deadline_ms)), b"job %d" % number)


def ready(workers: int = 1, max_queue: int = 64, **settings: Any) -> Scheduler:
    """A scheduler whose workers, and spares, have booted."""
    scheduler = Scheduler(workers, max_queue, **settings)
    for fork in scheduler.start(0.0):
        assert isinstance(fork, Fork)
        scheduler.step(Forked(fork.worker, 1000 + fork.worker), 0.0)
        scheduler.step(Booted(fork.worker), 0.0)
    return scheduler


def kinds(actions: list[Action]) -> list[object]:
    """Actions with an error shortened to its id and type."""
    return [(action.id, action.failure.error_type) if isinstance(action, Refuse) else action for action in actions]


def test_a_request_goes_to_an_idle_worker_at_once() -> None:
    assert ready().step(submitted(1), 1.0) == [Send(1, b"job 1")]


def test_requests_wait_in_order_and_a_freed_worker_takes_the_first() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    assert scheduler.step(submitted(2), 1.0) == []
    assert scheduler.step(submitted(3), 1.0) == []
    assert scheduler.step(Finished(1, True, "one"), 2.0) == [Answer(1, True, "one"), Send(1, b"job 2")]


def test_a_request_that_comes_before_any_worker_has_booted_waits_for_it() -> None:
    scheduler = Scheduler(1)
    assert scheduler.start(0.0) == [Fork(1)]
    assert scheduler.step(submitted(1), 0.1) == []
    assert scheduler.step(Booted(1), 1.5) == [Send(1, b"job 1")]


def test_an_id_in_flight_is_refused_and_free_again_after_its_answer() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    assert kinds(scheduler.step(submitted(1), 1.0)) == [(1, "duplicate_id")]
    scheduler.step(Finished(1, True, "one"), 2.0)
    assert scheduler.step(submitted(1), 3.0) == [Send(1, b"job 1")]


def test_a_full_queue_answers_overloaded_at_once_with_numbers() -> None:
    scheduler = ready(max_queue=1)
    scheduler.step(submitted(1), 1.0)
    scheduler.step(submitted(2), 1.0)
    (refusal,) = scheduler.step(submitted(3), 1.0)
    assert isinstance(refusal, Refuse)
    assert refusal.failure.error_type == "overloaded"
    assert refusal.failure.context == {"waiting": 1, "running": 1, "workers": 1, "limit": 1}
    assert refusal.failure.retry_after_ms == 1000
    assert "raise max_queue" in refusal.failure.message
    assert scheduler.admission.status()[0] == "overloaded"


def test_a_dead_worker_is_one_typed_error_and_a_fresh_worker() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    assert kinds(scheduler.step(Died(1, CRASH), 2.0)) == [(1, "process_crashed"), Fork(2)]
    assert scheduler.step(Died(1, CRASH), 2.0) == []


def test_an_idle_worker_that_dies_is_replaced_without_a_word() -> None:
    assert ready().step(Died(1, CRASH), 2.0) == [Fork(2)]


def test_a_deadline_in_the_queue_is_answered_without_a_worker() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    scheduler.step(submitted(2, deadline_ms=500), 1.0)
    assert scheduler.next_deadline() == 1.5
    assert kinds(scheduler.step(Tick(), 1.5)) == [(2, "timeout_error")]
    assert scheduler.step(Finished(1, True, "one"), 2.0) == [Answer(1, True, "one")]


def test_a_deadline_in_a_job_is_answered_on_time_and_the_worker_stopped() -> None:
    scheduler = ready()
    scheduler.step(submitted(1, deadline_ms=500), 1.0)
    assert scheduler.step(Tick(), 1.5) == [Trace(1)]
    assert kinds(scheduler.step(Traced(1, ""), 1.51)) == [(1, "timeout_error"), Interrupt(1)]
    assert scheduler.step(Finished(1, False, "stopped"), 1.6) == []
    assert scheduler.step(submitted(2), 1.7) == [Send(1, b"job 2")]


def test_a_worker_that_does_not_stop_is_killed_after_the_grace() -> None:
    scheduler = ready()
    scheduler.step(submitted(1, deadline_ms=500), 1.0)
    scheduler.step(Tick(), 1.5)
    scheduler.step(Traced(1, ""), 1.5)
    assert scheduler.next_deadline() == 1.5 + CANCEL_GRACE_S
    assert scheduler.step(Tick(), 1.5 + CANCEL_GRACE_S) == [Kill(1), Fork(2)]
    assert scheduler.step(Tick(), 4.6) == []
    assert scheduler.step(Died(1, CRASH), 4.7) == []


def test_cancelling_a_waiting_request_answers_both_at_once() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    scheduler.step(submitted(2), 1.0)
    accepted = Answer("c", True, atom_keys({"status": atom("cancelling")}))
    assert kinds(scheduler.step(CancelAsked("c", b"2"), 1.1)) == [accepted, (2, "cancelled")]


def test_cancelling_a_running_job_interrupts_it_and_passes_its_error_on() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    assert scheduler.step(CancelAsked("c", b"1"), 1.1)[1:] == [Interrupt(1)]
    assert scheduler.step(CancelAsked("d", b"1"), 1.2)[1:] == []
    assert scheduler.step(Finished(1, False, "cancelled, best so far"), 1.3) == [
        Answer(1, False, "cancelled, best so far")
    ]


def test_a_job_that_finishes_while_it_is_cancelled_ends_cancelled_and_keeps_its_result() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    scheduler.step(CancelAsked("c", b"1"), 1.1)
    (refusal,) = scheduler.step(Finished(1, True, "paid for"), 1.2)
    assert isinstance(refusal, Refuse)
    assert refusal.failure.error_type == "cancelled"
    assert refusal.failure.context == {"result": "paid for"}


def test_a_cancelled_job_whose_worker_had_to_be_killed_ends_cancelled() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    scheduler.step(CancelAsked("c", b"1"), 1.0)
    assert scheduler.step(Tick(), 1.0 + CANCEL_GRACE_S) == [Trace(1)]
    assert scheduler.step(Traced(1, "in sleep"), 4.05) == [Kill(1), Fork(2)]
    (refusal,) = scheduler.step(Died(1, CRASH), 4.06)
    assert isinstance(refusal, Refuse)
    assert refusal.failure.error_type == "cancelled"
    assert refusal.failure.context == {"reason": atom("cancel_grace"), "stack": "in sleep"}


def test_cancelling_what_is_not_in_flight_is_not_found() -> None:
    assert kinds(ready().step(CancelAsked("c", b"7"), 1.0)) == [("c", "not_found")]


def test_shutdown_drains_then_answers_and_exits() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    assert scheduler.step(ShutdownAsked(("s",), 10.0), 1.1) == []
    assert kinds(scheduler.step(submitted(2), 1.2)) == [(2, "shutting_down")]
    stopped = Answer("s", True, atom_keys({"status": atom("stopped"), "unfinished": 0}))
    assert scheduler.step(Finished(1, True, "one"), 2.0) == [Answer(1, True, "one"), stopped, Exit(0)]


def test_shutdown_answers_what_is_unfinished_when_the_grace_is_over() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    scheduler.step(ShutdownAsked(("s",), 10.0), 1.0)
    scheduler.step(ShutdownAsked(("t",), 1.0), 1.0)
    one = atom_keys({"status": atom("stopped"), "unfinished": 1})
    assert scheduler.next_deadline() == 2.0
    assert kinds(scheduler.step(Tick(), 2.0)) == [
        (1, "shutting_down"),
        Answer("s", True, one),
        Answer("t", True, one),
        Exit(0),
    ]


def test_the_id_of_a_shutdown_that_waits_is_in_flight() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    scheduler.step(ShutdownAsked(("s",), 10.0, (b"s",)), 1.0)
    failure = scheduler.admission.duplicate(b"s")
    assert failure is not None
    assert failure.error_type == "duplicate_id"


def test_a_flood_of_shutdowns_keeps_only_so_many_ids() -> None:
    scheduler = ready()
    scheduler.step(submitted(1), 1.0)
    for number in range(MAX_SHUTDOWNS):
        assert scheduler.step(ShutdownAsked((number,), 10.0), 1.0) == []
    assert kinds(scheduler.step(ShutdownAsked(("one more",), 0.0), 1.0)) == [("one more", "overloaded")]
    assert len(scheduler.step(Tick(), 11.0)) == 1 + MAX_SHUTDOWNS + 1


def test_an_idle_node_shuts_down_at_once() -> None:
    assert ready().step(ShutdownAsked((), 10.0), 1.0) == [Exit(0)]


def test_workers_that_cannot_boot_are_retried_later_each_time_and_then_given_up() -> None:
    scheduler = Scheduler(1)
    scheduler.start(0.0)
    scheduler.step(submitted(1), 0.0)
    now, pauses = 0.0, []
    for number in range(1, MAX_BOOT_FAILURES):
        assert kinds(scheduler.step(Died(number, CRASH), now)) == []
        later = scheduler.next_deadline()
        assert later is not None
        pauses.append(round(later - now, 3))
        now = later
        assert scheduler.step(Tick(), now) == [Fork(number + 1)]
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    assert kinds(scheduler.step(Died(MAX_BOOT_FAILURES, CRASH), now)) == [(1, "process_crashed"), Exit(3)]


@pytest.mark.parametrize("state", ["starting", "idle", "busy", "cancelling", "stopping"])
def test_every_worker_state_is_published(state: str) -> None:
    assert str(atom(replace(Worker(1, 0.0), state=state).state)) == state
