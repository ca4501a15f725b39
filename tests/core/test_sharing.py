"""Jobs that several requests wait for: each is answered once, and none loses the job because another one goes."""

from __future__ import annotations

from typing import Any

import pytest
from test_scheduler import CRASH, kinds, ready

from erlbridge.codec import Atom, ImproperList, TermMap
from erlbridge.core import sharing
from erlbridge.core.events import (
    Action,
    Allow,
    Answer,
    Ask,
    Called,
    CancelAsked,
    Died,
    Finished,
    Fork,
    Interrupt,
    Joined,
    Refuse,
    Return,
    Returned,
    Send,
    ShutdownAsked,
    Submitted,
    Tick,
)
from erlbridge.core.results import Identity, identity, shared
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import ValidationError
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.vocabulary import atom, atom_keys

PAID = {"cost_usd": 0.5, "cached": False}


def request(number: int, deadline_ms: int | None = None, **meta: Any) -> Request:
    return Request("predict", number, None, Meta(deadline_ms=deadline_ms, idempotency_key="k", **meta))


def begun(scheduler: Scheduler, number: int, deadline_ms: int | None = None, **meta: Any) -> list[Action]:
    asked = request(number, deadline_ms, **meta)
    return scheduler.step(Submitted(b"%d" % number, asked, b"job %d" % number, identity=Identity(b"same")), 0.0)


def joined(
    scheduler: Scheduler, number: int, deadline_ms: int | None = None, *, asks: bytes = b"same", **meta: Any
) -> list[Action]:
    return scheduler.step(Joined(b"%d" % number, request(number, deadline_ms, **meta), Identity(asks)), 0.0)


def cancelled(scheduler: Scheduler, number: int) -> list[Action]:
    found = scheduler.step(CancelAsked("c", b"%d" % number), 1.0)
    assert found[0] == Answer("c", True, atom_keys({"status": atom("cancelling")}))
    return found[1:]


def test_one_job_answers_all_who_ask_for_it_and_only_one_pays() -> None:
    scheduler = ready()
    assert begun(scheduler, 1) == [Send(1, b"job 1")]
    assert joined(scheduler, 2) == joined(scheduler, 3) == []
    found = scheduler.step(Finished(1, True, {atom("metrics"): atom_keys(PAID)}), 1.0)
    paid, free = ({atom("metrics"): atom_keys({**PAID, "cached": value})} for value in (False, True))
    assert found == [Answer(1, True, paid), Answer(2, True, free), Answer(3, True, free)]
    assert found[1].term is found[2].term, "it is in memory once, however many ask"  # type: ignore[union-attr]
    assert scheduler.in_flight.sharing.find("k") is None


def test_an_error_of_the_job_is_the_answer_of_all() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    joined(scheduler, 2)
    assert scheduler.step(Finished(1, False, "error"), 1.0) == [Answer(1, False, "error"), Answer(2, False, "error")]


def test_a_worker_s_death_is_told_to_all() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    joined(scheduler, 2)
    found = scheduler.step(Died(1, CRASH), 1.0)
    assert kinds([action for action in found if isinstance(action, Refuse)]) == [
        (1, "process_crashed"),
        (2, "process_crashed"),
    ]


def test_a_key_that_is_in_use_for_another_question_is_refused() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    (refused,) = joined(scheduler, 2, asks=b"another")
    assert isinstance(refused, Refuse)
    assert refused.failure.context == {"path": "meta.idempotency_key"}
    assert scheduler.step(Finished(1, True, "done"), 1.0) == [Answer(1, True, "done")]


def test_an_id_of_one_who_waits_is_in_flight() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    joined(scheduler, 2)
    assert kinds(joined(scheduler, 2)) == [(2, "duplicate_id")]


def test_a_job_goes_on_until_its_last_asker_is_gone() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    joined(scheduler, 2)
    joined(scheduler, 3)
    assert kinds(cancelled(scheduler, 2)) == [(2, "cancelled")]
    assert kinds(cancelled(scheduler, 1)) == [(1, "cancelled")]
    assert cancelled(scheduler, 3) == [Interrupt(1)]
    assert scheduler.in_flight.sharing.find("k") is None, "what is being stopped can be joined no more"
    assert kinds(scheduler.step(Finished(1, True, "done"), 1.0)) == [(3, "cancelled")]


def test_a_job_that_waits_goes_on_at_the_place_of_its_next_asker() -> None:
    scheduler = ready()
    scheduler.step(Submitted(b"0", Request("predict", 0, None), b"job 0"), 0.0)
    begun(scheduler, 1, priority=5, source="a")
    joined(scheduler, 2, priority=-1, source="b")
    scheduler.step(Submitted(b"3", Request("predict", 3, None), b"job 3"), 0.0)
    assert kinds(cancelled(scheduler, 1)) == [(1, "cancelled")]
    assert scheduler.step(Finished(1, True, "done"), 1.0) == [Answer(0, True, "done"), Send(1, b"job 3")]
    assert scheduler.step(Finished(1, True, "done"), 1.0) == [Answer(3, True, "done"), Send(1, b"job 1")]
    assert scheduler.step(Finished(1, True, "done"), 1.0) == [Answer(2, True, "done")]


def test_each_asker_has_its_own_deadline_and_the_worker_that_of_the_last() -> None:
    scheduler = ready()
    assert begun(scheduler, 1, 1000) == [Send(1, b"job 1", 1000, 1.0)]
    assert joined(scheduler, 2, 500) == []
    assert joined(scheduler, 3, 3000) == [Allow(1, 3000, 3.0)]
    assert kinds(scheduler.step(Tick(), 0.5)) == [(2, "timeout_error")]
    assert kinds(scheduler.step(Tick(), 1.0)) == [(1, "timeout_error")]
    assert joined(scheduler, 4) == [Allow(1, None, None)]
    refused, allowed = cancelled(scheduler, 4)
    assert (kinds([refused]), allowed) == ([(4, "cancelled")], Allow(1, 3000, 2.0))
    assert scheduler.next_deadline() == 3.0


def test_the_deadline_of_a_job_that_waits_is_that_of_its_last_asker() -> None:
    scheduler = ready()
    scheduler.step(Submitted(b"0", Request("predict", 0, None), b"job 0"), 0.0)
    begun(scheduler, 1, 1000)
    joined(scheduler, 2, 9000)
    assert kinds(scheduler.step(Tick(), 1.0)) == [(1, "timeout_error")]
    assert scheduler.step(Finished(1, True, "done"), 2.0) == [Answer(0, True, "done"), Send(1, b"job 1", 9000, 7.0)]


def test_open_calls_are_asked_anew_when_the_job_goes_to_another_asker() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    joined(scheduler, 2)
    call = Called(1, 7, b"answer", ["q"], timeout_ms=5000)
    assert scheduler.step(call, 0.5) == [Ask(1, 1, b"answer", ["q"])]
    assert cancelled(scheduler, 1)[1:] == [Ask(2, 2, b"answer", ["q"])]
    assert scheduler.step(Returned(1, True, "late"), 1.5) == []
    assert scheduler.next_deadline() == 5.5, "what is left of the call's time is left"
    (back,) = scheduler.step(Returned(2, True, "a"), 2.0)
    assert isinstance(back, Return)
    assert back.number == 7
    assert scheduler.step(Finished(1, True, "done"), 2.0) == [Answer(2, True, "done")]
    assert len(scheduler.calls) == 0


def test_pieces_of_an_output_go_to_those_who_have_been_there_from_its_start() -> None:
    scheduler = ready()
    scheduler.step(Submitted(b"0", Request("predict", 0, None), b"job 0"), 0.0)
    begun(scheduler, 1)
    joined(scheduler, 2)
    scheduler.step(Finished(1, True, "done"), 1.0)
    joined(scheduler, 3)

    def hear(**which: bool) -> list[object]:
        return [asker.request.id for asker in scheduler.askers_of(1, **which)]

    assert (hear(), hear(from_start=True)) == ([1, 2, 3], [1, 2])
    cancelled(scheduler, 1)
    cancelled(scheduler, 2)
    assert (hear(), hear(from_start=True)) == ([3], [])


def test_a_shutdown_answers_all_who_wait_for_a_job() -> None:
    scheduler = ready()
    begun(scheduler, 1)
    joined(scheduler, 2)
    scheduler.step(ShutdownAsked(("s",), 1.0, (b"s",)), 0.0)
    assert kinds(joined(scheduler, 3)) == [(3, "shutting_down")]
    found = scheduler.step(Tick(), 1.0)
    assert kinds(found[:2]) == [(1, "shutting_down"), (2, "shutting_down")]
    assert found[2] == Answer("s", True, atom_keys({"status": atom("stopped"), "unfinished": 2}))


def test_no_more_than_so_many_wait_for_one_job(monkeypatch: Any) -> None:
    monkeypatch.setattr(sharing, "MAX_ASKERS", 2)
    scheduler = ready(1, 0)
    begun(scheduler, 1)
    assert joined(scheduler, 2) == [], "whoever joins needs no place in the queue"
    assert kinds(joined(scheduler, 3)) == [(3, "overloaded")]


def test_a_job_that_is_being_stopped_is_begun_anew_under_its_key() -> None:
    scheduler = ready(2)
    begun(scheduler, 1)
    cancelled(scheduler, 1)
    assert begun(scheduler, 2) == [Send(2, b"job 2")]
    assert kinds(scheduler.step(Finished(1, True, "done"), 1.0)) == [(1, "cancelled")]
    assert joined(scheduler, 3) == []
    assert scheduler.step(Finished(2, True, "done"), 1.0) == [Answer(2, True, "done"), Answer(3, True, "done")]
    assert not any(isinstance(action, Fork) for action in scheduler.step(Tick(), 9.0))


def test_a_key_of_a_model_makes_no_other_question_but_stays_out_of_what_is_kept() -> None:
    def asked(key: bytes, seed: int = 1, spelled: Any = Atom) -> Identity:
        lm = {spelled("model"): b"openai/x", spelled("api_key"): key, Atom("api_key_env"): b"SOME_KEY"}
        return identity("predict", {Atom("config"): {Atom("lm"): [lm], Atom("seed"): seed}})

    assert asked(b"sk-1").fingerprint == asked(b"sk-2").fingerprint != asked(b"sk-1", 2).fingerprint
    assert (asked(b"sk-1").keys, asked(b"sk-1").key_variables) == ((b"sk-1",), ("SOME_KEY",))
    assert asked(b"sk-1", spelled=str.encode).keys == (b"sk-1",)
    assert "sk-1" not in repr(asked(b"sk-1"))
    data = {Atom("training_data"): [{Atom("api_key"): b"sk-1"}]}
    assert identity("predict", data).keys == (), "a field of the data may have that name"


def test_the_order_of_maps_makes_no_other_question_and_that_of_lists_does() -> None:
    def asked(data: object) -> bytes:
        return identity("predict", {Atom("training_data"): data}).fingerprint

    row = {Atom("a"): {b"x": 1, b"y": [None]}, b"b": (2.0, {})}
    turned = dict(reversed(row.items()))
    turned[Atom("a")] = {b"y": [None], b"x": 1}
    assert asked([row, turned]) == asked([turned, row])
    different = [
        [row],
        {Atom("training_data"): [row]},
        [{**row, b"b": [2.0, {}]}],
        [{Atom("a"): 1, Atom("b"): 2}, {Atom("b"): 1, Atom("a"): 2}],
        [{Atom("b"): 1, Atom("a"): 2}, {Atom("a"): 1, Atom("b"): 2}],
        [{1: b"a"}],
        [{1.0: b"a"}],
        [{True: b"a"}],
        [ImproperList([1], 2)],
        [TermMap([(1, b"a"), (1.0, b"b")])],
        [1],
        [1.0],
        [True],
    ]
    assert len({asked(data) for data in different}) == len(different)


def test_a_payload_that_nests_without_end_is_refused_with_a_key() -> None:
    deep: object = []
    for _ in range(5000):
        deep = [deep]
    for payload in ({Atom("training_data"): deep}, {Atom("config"): deep}):
        with pytest.raises(ValidationError, match="nest less deep"):
            identity("predict", payload)


def test_what_is_no_result_map_is_shared_as_it_is() -> None:
    assert shared(b"text") == b"text"
    assert shared({atom("metrics"): None}) == {atom("metrics"): None}
