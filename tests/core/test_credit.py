"""Credit: no more events than granted, the newest progress kept, logs dropped and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from erlbridge.core.credit import CreditLine
from erlbridge.limits import PROGRESS_CREDIT


def test_progress_without_credit_keeps_the_newest_of_each_job() -> None:
    line = CreditLine(available=0)
    for step in range(3):
        assert line.progress(b"a", f"a{step}") == []
        assert line.progress(b"b", f"b{step}") == []
    assert line.grant(1) == ["a2"]
    assert line.grant(5) == ["b2"]
    assert line.available == 4


def test_logs_without_credit_are_dropped_and_counted() -> None:
    line = CreditLine(available=PROGRESS_CREDIT + 1)
    assert line.droppable("one") == ["one"]
    assert line.droppable("two") == []
    assert line.progress(b"a", "10 %") == ["10 %"]
    assert (line.dropped, line.grant(5)) == (1, [])


def test_an_answered_job_says_no_more() -> None:
    line = CreditLine(available=0)
    line.progress(b"a", "late")
    line.forget(b"a")
    assert line.grant(5) == []


@given(st.lists(st.one_of(st.integers(1, 3), st.sampled_from(["progress", "log"]))))
def test_never_more_events_than_credit(steps: list[object]) -> None:
    line, granted, sent = CreditLine(available=2), 2, 0
    for step in steps:
        if isinstance(step, int):
            granted += step
            sent += len(line.grant(step))
        elif step == "log":
            sent += len(line.droppable("log"))
        else:
            sent += len(line.progress(b"job", "progress"))
        assert sent <= granted
