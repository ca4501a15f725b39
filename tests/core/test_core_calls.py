"""Open calls of Elixir functions: every one ends once, by its result, its timeout or its job, and is nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.calls import OpenCalls
from erlbridge.core.events import (
    Action,
    Ask,
    Booted,
    Called,
    CancelAsked,
    Died,
    Finished,
    Forked,
    Interrupt,
    Refuse,
    Release,
    Return,
    Returned,
    Submitted,
    Tick,
    Trace,
    Unsendable,
    Warn,
)
from erlbridge.core.functions import call_failed, parse_function, reason_text, refused, returned, value_of
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import CallbackFailed, InternalError, Overloaded, ProcessCrashed, ValidationError
from erlbridge.limits import TRACE_GRACE_S
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.place import Place

SCORE = Atom("score")
CRASH = ProcessCrashed("the worker died")


def running(jobs: int = 1, deadline_ms: int | None = None) -> Scheduler:
    """A scheduler whose workers 1, 2 … run the requests 1, 2 …"""
    scheduler = Scheduler(jobs)
    scheduler.start(0.0)
    for number in range(1, jobs + 1):
        scheduler.step(Forked(number, 1000 + number), 0.0)
        scheduler.step(Booted(number), 0.0)
        request = Request("predict", number, {}, Meta(deadline_ms=deadline_ms))
        scheduler.step(Submitted(b"%d" % number, request, b"job"), 0.0)
    return scheduler


def over_the_wire(outcome: object) -> object:
    return binary_to_term(term_to_binary(outcome))


def refusal(actions: list[Action]) -> str:
    """The error type that the one refused call hears."""
    [action] = actions
    assert isinstance(action, Return)
    assert isinstance(action.outcome, tuple)
    assert action.outcome[0] == Atom("refused")
    return str(action.outcome[1])


def test_a_call_goes_to_the_host_with_the_requests_id_and_its_result_to_its_worker() -> None:
    scheduler = running(2)
    assert scheduler.step(Called(2, 7, SCORE, [1]), 1.0) == [Ask(1, 2, SCORE, [1])]
    assert scheduler.step(Returned(1, True, 0.5), 1.0) == [Return(2, 7, (Atom("ok"), 0.5))]
    assert len(scheduler.calls) == 0


def test_two_jobs_that_call_the_same_function_get_their_own_values() -> None:
    scheduler = running(2)
    scheduler.step(Called(1, 1, SCORE, [b"a"]), 1.0)
    scheduler.step(Called(2, 1, SCORE, [b"a"]), 1.0)
    assert scheduler.step(Returned(2, True, b"second"), 1.0) == [Return(2, 1, (Atom("ok"), b"second"))]
    assert scheduler.step(Returned(1, False, b"first"), 1.0) == [Return(1, 1, (Atom("error"), b"first"))]


def test_a_second_result_is_late_and_changes_nothing() -> None:
    scheduler = running()
    scheduler.step(Called(1, 1, SCORE, []), 1.0)
    scheduler.step(Returned(1, True, 1), 1.0)
    assert scheduler.step(Returned(1, True, 2), 1.0) == []
    assert scheduler.calls.late == 1


def test_a_result_after_the_cancel_is_late() -> None:
    scheduler = running()
    scheduler.step(Called(1, 1, SCORE, []), 1.0)
    assert Interrupt(1) in scheduler.step(CancelAsked(b"c", b"1"), 1.0)
    assert len(scheduler.calls) == 0
    assert scheduler.step(Returned(1, True, 1), 1.0) == []
    assert refusal(scheduler.step(Called(1, 2, SCORE, []), 1.1)) == "cancelled"


def test_a_worker_that_dies_takes_its_calls_along_and_no_others() -> None:
    scheduler = running(2)
    scheduler.step(Called(1, 1, SCORE, []), 1.0)
    scheduler.step(Called(2, 1, SCORE, []), 1.0)
    scheduler.step(Died(1, CRASH), 1.0)
    assert scheduler.step(Returned(1, True, 1), 1.0) == []
    assert scheduler.step(Returned(2, True, 2), 1.0) == [Return(2, 1, (Atom("ok"), 2))]


def test_a_host_that_never_answers_is_ended_by_the_jobs_deadline() -> None:
    scheduler = running(deadline_ms=5000)
    scheduler.step(Called(1, 1, SCORE, []), 1.0)
    assert scheduler.step(Tick(), 5.0) == [Trace(1)]
    actions = scheduler.step(Tick(), 5.0 + TRACE_GRACE_S)
    assert [type(action) for action in actions] == [Refuse, Interrupt]
    assert len(scheduler.calls) == 0


def test_a_call_that_outlives_its_own_timeout_fails_and_the_job_goes_on() -> None:
    scheduler = running()
    scheduler.step(Called(1, 1, SCORE, [], timeout_ms=500), 1.0)
    assert scheduler.next_deadline() == 1.5
    failed, released = scheduler.step(Tick(), 1.5)
    assert refusal([failed]) == "callback_error"
    assert released == Release(1), "the host hears that it need not go on"
    assert scheduler.next_deadline() is None
    assert scheduler.step(Called(1, 2, SCORE, []), 2.0) == [Ask(2, 1, SCORE, [])]


def test_a_job_that_is_over_calls_nobody() -> None:
    scheduler = running()
    scheduler.step(Called(1, 1, SCORE, []), 1.0)
    scheduler.step(Finished(1, True, {}), 1.0)
    assert len(scheduler.calls) == 0
    assert refusal(scheduler.step(Called(1, 2, SCORE, []), 1.0)) == "cancelled"


def test_a_result_for_an_unknown_call_is_told_once_and_counted() -> None:
    scheduler = running()
    [warning] = scheduler.step(Returned(99, True, 1), 1.0)
    assert isinstance(warning, Warn)
    assert "99" in warning.message
    for call_id in (b"x", True, -1, 0, 1.0, [], {b"a": 1}):
        assert scheduler.step(Returned(call_id, True, 1), 1.0) == []
    assert (scheduler.calls.unknown, scheduler.calls.late) == (8, 0)


def test_open_calls_are_bounded_for_a_job_and_for_the_node() -> None:
    scheduler = running(2)
    scheduler.calls.max_of_job, scheduler.calls.max_of_node = 2, 3
    assert len(scheduler.step(Called(1, 1, SCORE, []), 1.0) + scheduler.step(Called(1, 2, SCORE, []), 1.0)) == 2
    assert refusal(scheduler.step(Called(1, 3, SCORE, []), 1.0)) == "overloaded"
    assert isinstance(scheduler.step(Called(2, 1, SCORE, []), 1.0)[0], Ask)
    assert refusal(scheduler.step(Called(2, 2, SCORE, []), 1.0)) == "overloaded"
    scheduler.step(Returned(1, True, 1), 1.0)
    assert isinstance(scheduler.step(Called(2, 3, SCORE, []), 1.0)[0], Ask)


def test_a_call_that_cannot_be_sent_fails_as_what_kept_it() -> None:
    scheduler = running()
    scheduler.step(Called(1, 1, SCORE, []), 1.0)
    assert refusal(scheduler.step(Unsendable(1, Overloaded("full")), 1.0)) == "overloaded"


WORKERS = st.integers(1, 3)
HISTORY = st.lists(
    st.one_of(
        st.tuples(st.just("call"), WORKERS, st.none() | st.integers(0, 3000)),
        st.tuples(st.just("result"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("end"), WORKERS, st.none()),
        st.tuples(st.just("wait"), st.integers(0, 2000), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(HISTORY)
def test_each_call_is_given_back_at_most_once_and_to_who_asked(history: list[tuple[str, int, Any]]) -> None:
    calls, now = OpenCalls(max_of_job=4, max_of_node=8), 0.0
    waiting: dict[tuple[int, int], object] = {}  # by worker and number; the value is the call's id
    for number, (what, which, detail) in enumerate(history):
        actions: list[Any] = []
        match what:
            case "call":
                actions = list(calls.open(b"%d" % which, which, Called(which, number, SCORE, [], detail), now))
                waiting[which, number] = actions[0].call_id if isinstance(actions[0], Ask) else "refused"
            case "result":
                actions = list(calls.close(Returned(which, detail, which)))
            case "end":
                calls.end(b"%d" % which)
                waiting = {key: value for key, value in waiting.items() if key[0] != which}
            case "wait":
                now += which / 1000
                actions = list(calls.expire(now))
        for action in actions:
            if isinstance(action, Return):
                call_id = waiting.pop((action.worker, action.number))
                assert what != "result" or call_id == which
        assert len(calls) == len(waiting) <= 8
        assert what != "wait" or (calls.next_deadline() or now + 1) > now


# -- names and outcomes


@pytest.mark.parametrize("name", [SCORE, b"score", Atom("Elixir.My.Metric")])
def test_a_function_keeps_the_name_that_the_request_gave_it(name: object) -> None:
    assert parse_function(Place((Atom("call"), name), "metric")).name == name


@pytest.mark.parametrize(
    "term", [(Atom("call"),), (Atom("call"), 1), (Atom("call"), b""), (b"call", SCORE), (Atom("call"), b"\xff"), ()]
)
def test_what_names_no_function_is_refused(term: object) -> None:
    with pytest.raises(ValidationError):
        parse_function(Place(term, "metric"))


def test_outcomes_cross_to_the_worker_as_what_they_are() -> None:
    assert value_of(over_the_wire(returned(True, {b"a": 1})), SCORE) == {b"a": 1}
    with pytest.raises(CallbackFailed, match="the Elixir function `score` failed: no quota") as failed:
        value_of(over_the_wire(returned(False, b"no quota")), SCORE)
    assert failed.value.context == {"name": SCORE}
    with pytest.raises(Overloaded, match="too many") as overloaded:
        value_of(over_the_wire(refused(Overloaded("too many", context={"limit": 3}))), SCORE)
    assert overloaded.value.context == {"limit": 3}
    with pytest.raises(CallbackFailed) as timed_out:
        value_of(over_the_wire(refused(call_failed(b"score", "gave nothing"))), b"score")
    assert timed_out.value.context == {"name": b"score"}
    with pytest.raises(InternalError):
        value_of(b"junk", SCORE)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (b"no quota", "no quota"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (Atom("timeout"), ":timeout"),
        ({Atom("__exception__"): True, Atom("message"): b"boom"}, "boom"),
        ({b"code": 3}, "a map of 1 entries"),
        ((Atom("badarg"), []), "a tuple of 2 elements"),
        (b"x" * 5000, "x" * 2000 + "…"),
    ],
)
def test_a_reason_is_told_in_words_and_never_at_length(reason: object, text: str) -> None:
    assert reason_text(reason) == text
