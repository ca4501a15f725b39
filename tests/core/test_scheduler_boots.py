"""How workers come and the node goes, as tables of events and actions; and what a step costs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from test_scheduler import CRASH, kinds, ready
from test_scheduler_workers import failure, job, sent

from erlbridge.core.events import (
    Answer,
    Booted,
    Died,
    Exit,
    Finished,
    Fork,
    Kill,
    LimitPassed,
    ShutdownAsked,
    Tick,
    Warn,
)
from erlbridge.core.scheduler import Scheduler
from erlbridge.limits import MAX_BOOT_FAILURES
from erlbridge.wire.vocabulary import atom, atom_keys


def test_a_worker_that_has_not_booted_in_time_is_killed_and_forked_again_later() -> None:
    scheduler = Scheduler(1, boot_timeout_s=5.0)
    scheduler.start(0.0)
    assert scheduler.next_deadline() == 5.0
    kill, warning = scheduler.step(Tick(), 5.0)
    assert kill == Kill(1)
    assert isinstance(warning, Warn)
    assert "did not boot within 5 s" in warning.message
    assert scheduler.next_deadline() == 5.1
    assert scheduler.step(Tick(), 5.1) == [Fork(2)]
    assert scheduler.step(Died(1, CRASH), 5.2) == [], "counted once"


def test_workers_that_hang_at_their_boot_end_the_node_with_3_even_if_no_kill_is_ever_reported() -> None:
    scheduler = Scheduler(1, boot_timeout_s=5.0)
    actions = scheduler.start(0.0)
    scheduler.step(job(1), 0.0)
    scheduler.step(ShutdownAsked(("s",), 1000.0), 0.0)
    for _ in range(4 * MAX_BOOT_FAILURES):
        now = scheduler.next_deadline()
        if now is None or any(isinstance(action, Exit) for action in actions):
            break
        actions = scheduler.step(Tick(), now)
    assert Exit(3) in actions
    assert failure(actions).context["reason"] == atom("boot_timeout")
    assert Answer("s", True, atom_keys({"status": atom("stopped"), "unfinished": 1})) in actions
    assert kinds(scheduler.step(job(2), 99.0)) == [(2, "shutting_down")], "nothing is taken and never answered"


def test_a_worker_that_cannot_boot_ends_no_node_whose_others_are_slower_to_boot() -> None:
    scheduler = Scheduler(2)
    scheduler.start(0.0)
    failing, now = 2, 0.0
    for _ in range(3 * MAX_BOOT_FAILURES):
        assert not any(isinstance(action, Exit) for action in scheduler.step(Died(failing, CRASH), now))
        now = scheduler.next_deadline() or now
        (fork,) = scheduler.step(Tick(), now)
        assert isinstance(fork, Fork)
        failing = fork.worker
        if now > 45.0:
            break
    assert sent([*scheduler.step(Booted(1), now), *scheduler.step(job(1), now)]) == [(1, b"job 1")]
    assert sent(scheduler.step(Finished(1, True, "one"), now)) == []
    assert scheduler.admission.status() == ("degraded", "1 of 2 workers are ready")


def test_workers_that_die_before_any_job_are_not_forked_in_a_circle() -> None:
    scheduler = ready(1)
    now, pauses = 1.0, []
    for number in range(1, 9):
        scheduler.step(LimitPassed(number, "hard", "memory_limit"), now)
        scheduler.step(Died(number, CRASH), now)
        later = scheduler.next_deadline()
        if number + 1 not in scheduler.workers:
            assert later is not None
            pauses.append(round(later - now, 3))
            now = later
            scheduler.step(Tick(), now)
        scheduler.step(Booted(number + 1), now)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    scheduler.step(job(1), now)
    scheduler.step(Finished(9, True, "one"), now)
    assert scheduler.step(Died(9, CRASH), now) == [Fork(10)], "a job that was done ends the suspicion"


# -- going away ----------------------------------------------------------------------------------------------------


def test_what_waits_is_still_run_within_the_grace() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    scheduler.step(job(2), 1.0)
    scheduler.step(ShutdownAsked(("s",), 10.0), 1.0)
    assert sent(scheduler.step(Finished(1, True, "one"), 2.0)) == [(1, b"job 2")]
    stopped = Answer("s", True, atom_keys({"status": atom("stopped"), "unfinished": 0}))
    assert scheduler.step(Finished(1, True, "two"), 3.0) == [Answer(2, True, "two"), stopped, Exit(0)]


def test_a_node_that_goes_away_forks_no_spares() -> None:
    scheduler = ready(2, spare_workers=1)
    scheduler.step(job(1), 1.0)
    scheduler.step(ShutdownAsked((), 10.0), 1.0)
    assert scheduler.step(Died(3, CRASH), 1.1) == []
    assert scheduler.step(Died(2, CRASH), 1.1) == []


def test_a_node_that_goes_away_replaces_a_worker_that_its_waiting_work_needs() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    scheduler.step(job(2), 1.0)
    scheduler.step(ShutdownAsked((), 10.0), 1.0)
    assert kinds(scheduler.step(Died(1, CRASH), 2.0)) == [(1, "process_crashed"), Fork(2)]
    assert sent(scheduler.step(Booted(2), 2.1)) == [(2, b"job 2")]


def test_a_shutdown_that_is_asked_for_after_the_end_is_answered() -> None:
    scheduler = ready(1)
    scheduler.step(ShutdownAsked(("s",), 10.0), 1.0)
    stopped = Answer("t", True, atom_keys({"status": atom("stopped"), "unfinished": 0}))
    assert scheduler.step(ShutdownAsked(("t",), 10.0), 1.0) == [stopped]


# -- cost ----------------------------------------------------------------------------------------------------------


def executed_lines(do: Callable[[], object]) -> int:
    """How many lines of Python run: a measure of work that no busy machine disturbs."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        do()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("kind", ["deadlines", "held back"])
def test_a_step_costs_as_much_with_many_requests_waiting_as_with_few(kind: str) -> None:
    def cost(waiting: int) -> int:
        scheduler = ready(2, max_queue=waiting, verb_limits={"train_model": 1})
        verb = "train_model" if kind == "held back" else "predict"
        for number in range(waiting):
            scheduler.step(job(number, verb, deadline_ms=10_000 + number, source=f"{number % (waiting // 2)}"), 0.0)

        def some() -> None:
            for number in range(20):
                scheduler.step(Finished(1, True, "done"), 1.0)
                scheduler.step(job(waiting + number, verb, deadline_ms=10_000), 1.0)
                scheduler.step(Tick(), 1.0)
                scheduler.next_deadline()

        return executed_lines(some)

    assert cost(2000) < 1.5 * cost(200)
