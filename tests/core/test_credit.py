"""Credit: no more events than granted, the newest progress kept, logs dropped and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from erlbridge.core.credit import CreditLine
from erlbridge.limits import MAX_WAITING_TEXT_BYTES, PROGRESS_CREDIT
from erlbridge.wire import messages
from erlbridge.wire.vocabulary import atom, atom_keys


def test_progress_without_credit_keeps_the_newest_of_each_job() -> None:
    line = CreditLine(available=0)
    for step in range(3):
        assert line.progress(b"a", f"a{step}") == []
        assert line.progress(b"b", f"b{step}") == []
    assert line.grant(1) == ["a2"]
    assert line.grant(5) == ["b2"]
    assert line.available == 4


def log(text: str) -> tuple[object, ...]:
    return messages.log("info", text, {})


def test_logs_without_credit_are_dropped_and_counted() -> None:
    line = CreditLine(available=PROGRESS_CREDIT + 1)
    assert line.droppable(log("one")) == [log("one")]
    assert line.droppable(log("two")) == []
    assert line.progress(b"a", "10 %") == ["10 %"]
    assert (line.dropped, line.grant(5)) == ({"progress": 0, "chunk": 0, "log": 1, "telemetry": 0}, [])


def test_a_host_that_does_not_read_gets_nothing_whatever_it_granted() -> None:
    line = CreditLine(available=1000)
    assert line.hold(True) == []
    for step in range(3):
        assert (line.progress(b"a", f"a{step}"), line.droppable(log("x")), line.grant(1)) == ([], [], [])
    assert line.hold(False) == ["a2"]
    assert (line.available, line.dropped["log"]) == (1002, 3)


def test_text_that_waits_does_not_grow_without_end() -> None:
    line, sent = CreditLine(available=0), []
    for _ in range(20):
        sent += line.chunk(b"job", chunk(b"x" * (MAX_WAITING_TEXT_BYTES // 4)))
    assert [len(event[2][atom("text")]) for event in sent] == [MAX_WAITING_TEXT_BYTES * 5 // 4] * 4
    assert line.available == -4


def test_an_answered_job_says_no_more() -> None:
    line = CreditLine(available=0)
    line.progress(b"a", "late")
    line.forget(b"a")
    assert line.grant(5) == []


def chunk(text: bytes, field: bytes = b"answer", *, is_last: bool = False) -> tuple[object, ...]:
    return messages.chunk(7, atom_keys({"field": field, "text": text, "is_last": is_last}))


def test_text_without_credit_is_joined_field_by_field_and_none_is_lost() -> None:
    line = CreditLine(available=1)
    assert line.chunk(b"job", chunk(b"A ")) == [chunk(b"A ")]
    for event in (chunk(b"port"), chunk(b"", is_last=True), chunk(b"yes", b"other")):
        assert line.chunk(b"job", event) == []
    line.progress(b"job", "10 %")
    assert line.grant(1) == [chunk(b"port", is_last=True)]
    assert line.settle(b"job") == [chunk(b"yes", b"other")]
    line.forget(b"job")
    assert (line.available, line.grant(1), line.available, line.grant(1)) == (-1, [], 0, [])
    assert line.progress(b"job", "20 %") == ["20 %"]


@given(st.lists(st.one_of(st.integers(1, 3), st.sampled_from([b"a", b"b"])), max_size=30))
def test_whatever_the_credit_the_texts_are_whole_and_in_order(steps: list[int | bytes]) -> None:
    line, sent, said = CreditLine(available=0), [], {b"a": b"", b"b": b""}
    for number, step in enumerate(steps):
        if isinstance(step, int):
            sent += line.grant(step)
        else:
            said[step] += b"%d," % number
            sent += line.chunk(b"job", chunk(b"%d," % number, step))
    sent += line.settle(b"job")
    for name, text in said.items():
        assert b"".join(event[2][atom("text")] for event in sent if event[2][atom("field")] == name) == text


@given(st.lists(st.one_of(st.integers(1, 3), st.sampled_from(["progress", "log"]))))
def test_never_more_events_than_credit(steps: list[object]) -> None:
    line, granted, sent = CreditLine(available=2), 2, 0
    for step in steps:
        if isinstance(step, int):
            granted += step
            sent += len(line.grant(step))
        elif step == "log":
            sent += len(line.droppable(log("line")))
        else:
            sent += len(line.progress(b"job", "progress"))
        assert sent <= granted
