"""The scheduler's rules about workers as tables of events and actions: who gets a job, who goes, who comes, when."""

from __future__ import annotations

import pytest
from test_scheduler import CRASH, kinds, ready

from erlbridge.codec import Atom
from erlbridge.core.events import (
    Action,
    Answer,
    Booted,
    CancelAsked,
    Died,
    Finished,
    Fork,
    Interrupt,
    Kill,
    LimitPassed,
    Refuse,
    Send,
    Stalled,
    Submitted,
    Tick,
    Trace,
    Traced,
    Warn,
)
from erlbridge.core.jobs import endpoints, parse_job
from erlbridge.core.lms import LM, endpoint_name
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import BridgeError
from erlbridge.limits import CANCEL_GRACE_S, DEATH_GRACE_S, MAX_STACK_CHARACTERS, TRACE_GRACE_S
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.vocabulary import atom


def job(
    number: int,
    verb: str = "predict",
    *,
    endpoints: tuple[str, ...] = (),
    programs: tuple[str, ...] = (),
    **meta: object,
) -> Submitted:
    request = Request(verb, number, None, Meta(**meta))  # type: ignore[arg-type]
    return Submitted(b"%d" % number, request, b"job %d" % number, programs, endpoints)


def sent(actions: list[Action]) -> list[tuple[int, bytes]]:
    return [(action.worker, action.frame) for action in actions if isinstance(action, Send)]


def failure(actions: list[Action]) -> BridgeError:
    (refusal,) = (action for action in actions if isinstance(action, Refuse))
    return refusal.failure


# -- limits of verbs and endpoints ---------------------------------------------------------------------------------


def test_a_verb_at_its_limit_is_passed_over_and_no_worker_idles() -> None:
    scheduler = ready(3, verb_limits={"train_model": 1})
    assert sent(scheduler.step(job(1, "train_model"), 1.0)) == [(1, b"job 1")]
    assert sent(scheduler.step(job(2, "train_model"), 1.0)) == []
    assert sent(scheduler.step(job(3), 1.0)) == [(2, b"job 3")]
    assert sent(scheduler.step(Finished(1, True, "one"), 2.0)) == [(3, b"job 2")]


def test_an_endpoint_at_its_limit_is_passed_over_and_others_are_asked() -> None:
    scheduler = ready(3, endpoint_limits={"openai": 1})
    assert sent(scheduler.step(job(1, endpoints=("openai",)), 1.0))
    assert not sent(scheduler.step(job(2, endpoints=("offline", "openai")), 1.0))
    assert sent(scheduler.step(job(3, endpoints=("offline",)), 1.0))
    assert sent(scheduler.step(Died(1, CRASH), 2.0)) == [(3, b"job 2")], "a death frees its place too"


def test_a_killed_worker_that_is_never_reported_dead_frees_its_place_all_the_same() -> None:
    scheduler = ready(2, verb_limits={"predict": 1})
    scheduler.step(job(1), 1.0)
    scheduler.step(job(2), 1.0)
    assert Kill(1) in scheduler.step(LimitPassed(1, "hard", "memory_limit"), 2.0)
    actions = scheduler.step(Tick(), 2.0 + DEATH_GRACE_S)
    assert failure(actions).context["reason"] == atom("memory_limit")
    assert sent(actions) == [(2, b"job 2")]
    assert scheduler.step(Died(1, CRASH), 9.0) == []


def test_a_full_queue_of_what_may_not_run_takes_what_may() -> None:
    scheduler = ready(2, max_queue=1, endpoint_limits={"openai": 1})
    scheduler.step(job(1, endpoints=("openai",)), 1.0)
    scheduler.step(job(2, endpoints=("openai",)), 1.0)
    assert kinds(scheduler.step(job(3, endpoints=("openai",)), 1.0)) == [(3, "overloaded")]
    assert sent(scheduler.step(job(4, endpoints=("offline",)), 1.0)) == [(2, b"job 4")]
    assert scheduler.admission.status()[0] == "overloaded"


def test_a_node_without_a_queue_takes_as_many_requests_as_it_has_workers() -> None:
    scheduler = ready(1, max_queue=0)
    assert sent(scheduler.step(job(1), 1.0))
    assert kinds(scheduler.step(job(2), 1.0)) == [(2, "overloaded")]


def test_overloaded_says_when_a_place_should_be_free_by_how_long_jobs_took() -> None:
    scheduler = ready(2, max_queue=0)
    for number in range(50):
        scheduler.step(job(number), 60.0 * number)
        scheduler.step(Finished(1 + number % 2, True, "done"), 60.0 * number + 30.0)
    scheduler.step(job(100), 5000.0)
    scheduler.step(job(101), 5000.0)
    refusal = scheduler.admission.no_room(nested=False)
    assert refusal is not None
    assert 14_000 < (refusal.retry_after_ms or 0) <= 15_000
    assert refusal.context == {"waiting": 0, "running": 2, "workers": 2, "limit": 0}


def test_the_endpoints_of_a_job_are_read_from_its_config_without_keys() -> None:
    def config(**lms: object) -> dict[object, object]:
        return {
            b"signature": b"question -> answer",
            b"input": {b"question": b"?"},
            b"config": {name.encode(): lm for name, lm in lms.items()},
        }

    served = {b"model": b"openai/x", b"api_base": b"http://GPU:8000/v1/?api-key=secret-1", b"api_key": b"secret-2"}
    asked = parse_job("predict", config(lm=served, prompt_lm=b"openai/gpt-4o", teacher_lm=(Atom("call"), Atom("mine"))))
    assert endpoints(asked) == ("http://gpu:8000/v1", "openai", "call:mine")
    assert endpoints(parse_job("predict", config(lm=Atom("offline")))) == ("offline",)
    assert endpoints(parse_job("put_program", {b"program": {}})) == ()
    assert LM("offline:" + 64 * "a").limited_as == "offline"
    assert endpoint_name("http://[") == "http://["


# -- who gets a job ----------------------------------------------------------------------------------------------


def test_a_worker_that_ran_the_program_before_is_preferred() -> None:
    scheduler = ready(3)
    assert sent(scheduler.step(job(1, programs=("program:a",)), 1.0)) == [(1, b"job 1")]
    assert sent(scheduler.step(job(2, programs=("program:b",)), 1.0)) == [(2, b"job 2")]
    scheduler.step(Finished(1, True, "one"), 2.0)
    scheduler.step(Finished(2, True, "two"), 3.0)
    assert sent(scheduler.step(job(3, programs=("program:b",)), 4.0)) == [(2, b"job 3")]


def test_without_such_a_worker_the_one_longest_idle_is_taken_and_nothing_waits_for_affinity() -> None:
    scheduler = ready(2)
    scheduler.step(job(1, programs=("program:a",)), 1.0)
    assert sent(scheduler.step(job(2, programs=("program:a",)), 1.0)) == [(2, b"job 2")]
    scheduler.step(Finished(2, True, "two"), 2.0)
    scheduler.step(Finished(1, True, "one"), 3.0)
    assert sent(scheduler.step(job(3), 4.0)) == [(2, b"job 3")]


# -- spares and recycling ----------------------------------------------------------------------------------------


def test_spares_are_booted_but_no_more_jobs_run_than_there_are_workers() -> None:
    scheduler = Scheduler(1, spare_workers=2)
    assert scheduler.start(0.0) == [Fork(1), Fork(2), Fork(3)]
    for number in (1, 2, 3):
        scheduler.step(Booted(number), 0.1)
    assert len(sent(scheduler.step(job(1), 1.0) + scheduler.step(job(2), 1.0))) == 1
    assert scheduler.roster.census() == {"idle": 2, "busy": 1, "starting": 0, "stopping": 0, "spares": 2, "recycled": 0}


def test_a_spare_takes_a_dead_workers_place_at_once_while_a_new_one_is_forked() -> None:
    scheduler = ready(1, spare_workers=1)
    scheduler.step(job(1), 1.0)
    scheduler.step(job(2), 1.0)
    assert kinds(scheduler.step(Died(1, CRASH), 2.0)) == [(1, "process_crashed"), Send(2, b"job 2"), Fork(3)]
    assert scheduler.roster.restarts == 1


def test_a_worker_is_recycled_after_its_jobs_once_its_replacement_is_there() -> None:
    scheduler = ready(1, recycle_after_jobs=2)
    scheduler.step(job(1), 1.0)
    scheduler.step(Finished(1, True, "one"), 2.0)
    assert scheduler.step(job(2), 3.0) == [Send(1, b"job 2"), Fork(2)], "which has the job's time to boot"
    scheduler.step(Booted(2), 3.1)
    assert scheduler.step(Finished(1, True, "two"), 4.0) == [Answer(2, True, "two"), Kill(1)]
    assert scheduler.step(Died(1, CRASH), 4.1) == []
    assert (scheduler.roster.recycled, scheduler.roster.restarts) == (1, 0)
    assert sent(scheduler.step(job(3), 5.0)) == [(2, b"job 3")]


def test_a_worn_worker_works_on_until_its_replacement_has_booted() -> None:
    scheduler = ready(1, recycle_after_jobs=1)
    scheduler.step(job(1), 1.0)
    scheduler.step(job(2), 1.0)
    assert sent(scheduler.step(Finished(1, True, "one"), 1.1)) == [(1, b"job 2")]
    assert scheduler.step(Finished(1, True, "two"), 1.2) == [Answer(2, True, "two")]
    assert scheduler.step(Booted(2), 1.3) == [Kill(1)]


def test_with_a_spare_a_worn_worker_gets_no_further_job() -> None:
    scheduler = ready(1, spare_workers=1, recycle_after_jobs=1)
    scheduler.step(job(1), 1.0)
    scheduler.step(job(2), 1.0)
    assert scheduler.step(Finished(1, True, "one"), 1.1) == [
        Answer(1, True, "one"),
        Kill(1),
        Send(2, b"job 2"),
        Fork(4),  # the spare is worn with its only job
    ]


def test_a_soft_limit_lets_the_job_end_and_has_the_replacement_forked_meanwhile() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    warning, fork = scheduler.step(LimitPassed(1, "soft", "memory_limit"), 2.0)
    assert isinstance(warning, Warn)
    assert "memory limit" in warning.message
    assert fork == Fork(2)
    assert scheduler.step(LimitPassed(1, "soft", "memory_limit"), 2.1) == [], "said once"
    scheduler.step(Booted(2), 2.2)
    assert scheduler.step(Finished(1, True, "one"), 3.0) == [Answer(1, True, "one"), Kill(1)]


def test_a_soft_limit_below_what_an_idle_worker_needs_recycles_nobody_for_ever() -> None:
    assert ready(1).step(LimitPassed(1, "soft", "memory_limit"), 1.0) == []


def test_a_hard_limit_kills_at_once_and_its_numbers_stand_in_the_error() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    numbers = {"limit": 100, "rss_bytes": 120}
    assert scheduler.step(LimitPassed(1, "hard", "memory_limit", numbers), 2.0) == [Kill(1), Fork(2)]
    crash = failure(scheduler.step(Died(1, CRASH), 2.1))
    assert crash.error_type == "process_crashed"
    assert crash.context == {"reason": atom("memory_limit"), **numbers}
    assert "passed its memory limit" in crash.message


def test_a_job_that_finishes_before_its_kill_is_seen_keeps_its_outcome() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    scheduler.step(LimitPassed(1, "hard", "memory_limit"), 2.0)
    assert scheduler.step(Finished(1, True, "paid for"), 2.0) == [Answer(1, True, "paid for")]
    assert scheduler.step(Died(1, CRASH), 2.1) == []


# -- stacks: deadlines, cancels, stalls -----------------------------------------------------------------------------


def test_at_its_deadline_a_job_is_answered_with_its_workers_stack() -> None:
    scheduler = ready(1)
    scheduler.step(job(1, deadline_ms=500), 1.0)
    assert scheduler.step(Tick(), 1.5) == [Trace(1)]
    late = failure(scheduler.step(Traced(1, "File x.py, line 1"), 1.52))
    assert late.error_type == "timeout_error"
    assert late.context == {"deadline_ms": 500, "stack": "File x.py, line 1"}
    assert scheduler.step(Traced(1, "again"), 1.6) == []


def test_a_stack_that_does_not_come_is_not_waited_for_long() -> None:
    scheduler = ready(1)
    scheduler.step(job(1, deadline_ms=500), 1.0)
    scheduler.step(Tick(), 1.5)
    assert scheduler.next_deadline() == 1.5 + TRACE_GRACE_S
    actions = scheduler.step(Tick(), 1.5 + TRACE_GRACE_S)
    assert kinds(actions) == [(1, "timeout_error"), Interrupt(1)]
    assert failure(actions).context == {"deadline_ms": 500}


def test_a_job_that_ends_while_its_stack_is_asked_for_is_answered_with_its_own_outcome() -> None:
    scheduler = ready(1)
    scheduler.step(job(1, deadline_ms=500), 1.0)
    scheduler.step(Tick(), 1.5)
    assert scheduler.step(Finished(1, False, "best so far"), 1.55) == [Answer(1, False, "best so far")]
    assert scheduler.step(Traced(1, "too late"), 1.56) == []
    assert scheduler.next_deadline() is None
    assert sent(scheduler.step(job(2), 2.0)) == [(1, b"job 2")]


def test_a_deadline_that_passes_while_its_worker_is_being_killed_is_answered_on_time() -> None:
    scheduler = ready(1)
    scheduler.step(job(1, deadline_ms=500), 1.0)
    scheduler.step(LimitPassed(1, "hard", "memory_limit"), 1.4)
    assert kinds(scheduler.step(Tick(), 1.5)) == [(1, "timeout_error")]
    assert scheduler.step(Died(1, CRASH), 1.6) == []


def test_a_cancelled_job_that_passes_its_deadline_is_late() -> None:
    scheduler = ready(1)
    scheduler.step(job(1, deadline_ms=500), 1.0)
    scheduler.step(CancelAsked("c", b"1"), 1.4)
    assert scheduler.step(Tick(), 1.5) == [Trace(1)]
    assert kinds(scheduler.step(Traced(1, ""), 1.5)) == [(1, "timeout_error")]
    assert scheduler.step(Tick(), 1.4 + CANCEL_GRACE_S) == [Kill(1), Fork(2)]


def test_a_stalled_job_is_killed_with_the_stack_at_which_it_stalled() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    assert scheduler.step(Stalled(1, 60.0), 61.0) == [Trace(1)]
    assert scheduler.step(Stalled(1, 60.05), 61.05) == [], "asked once"
    assert scheduler.step(Traced(1, "x" * 100_000), 61.06) == [Kill(1), Fork(2)]
    crash = failure(scheduler.step(Died(1, CRASH), 61.2))
    assert (crash.error_type, crash.context["reason"]) == ("process_crashed", atom("stalled"))
    assert crash.context["elapsed_ms"] == 60_000
    assert crash.context["stack"] == "x" * MAX_STACK_CHARACTERS
    assert "no sign of life for 60.0 s" in crash.message


def test_a_stalled_worker_without_a_stack_is_killed_after_the_grace() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    scheduler.step(Stalled(1, 60.0), 61.0)
    assert scheduler.step(Tick(), 61.0 + TRACE_GRACE_S) == [Kill(1), Fork(2)]


def test_a_job_that_comes_to_life_before_the_kill_is_answered_and_its_worker_kept() -> None:
    scheduler = ready(1)
    scheduler.step(job(1), 1.0)
    scheduler.step(Stalled(1, 60.0), 61.0)
    assert scheduler.step(Finished(1, True, "one"), 61.05) == [Answer(1, True, "one")]
    assert scheduler.step(Tick(), 62.0) == []
    assert sent(scheduler.step(job(2), 63.0)) == [(1, b"job 2")]


def test_an_idle_worker_does_not_stall() -> None:
    assert ready(1).step(Stalled(1, 60.0), 61.0) == []


@pytest.mark.parametrize(
    "event", [Traced(9, "x"), LimitPassed(9, "hard", "cpu_limit"), Stalled(9, 1.0), Died(9, CRASH), Booted(9)]
)
def test_what_is_said_of_an_unknown_worker_changes_nothing(event: Traced | LimitPassed | Stalled | Died) -> None:
    assert ready(1).step(event, 1.0) == []
