"""A job's deadline in its worker: told once when it is near, by whoever looks, and of no job that is over."""

from __future__ import annotations

import time

from erlbridge.errors import BridgeError, DeadlineExceeded
from erlbridge.worker.deadline import Deadline


def begun(deadline_ms: int, left_s: float) -> tuple[Deadline, list[BridgeError]]:
    told: list[BridgeError] = []
    deadline = Deadline(told.append)
    deadline.of_next(deadline_ms, left_s)
    deadline.begin()
    return deadline, told


def test_who_looks_when_no_time_is_left_tells_it_once() -> None:
    deadline, told = begun(500, 0.0)
    assert deadline.left_s() == 0.0
    deadline.look()
    deadline.look()
    assert [type(error) for error in told] == [DeadlineExceeded]
    assert deadline.left_s() is None


def test_nothing_is_told_while_there_is_time_or_when_the_job_is_over() -> None:
    deadline, told = begun(60_000, 60.0)
    left_s = deadline.left_s()
    assert left_s is not None
    assert 50 < left_s < 60
    deadline.look()
    deadline, late = begun(500, 0.0)
    deadline.end()
    deadline.look()
    assert (told, late, deadline.left_s()) == ([], [], None)


def test_a_job_that_others_wait_for_is_told_of_its_new_time() -> None:
    deadline, told = begun(500, 0.0)
    deadline.look()
    deadline.of_this(60_000, 60.0)
    left_s = deadline.left_s()
    assert left_s is not None
    assert left_s > 50
    deadline.of_this(1, 0.0)
    time.sleep(0.001)
    deadline.look()
    assert len(told) == 2
