"""Who reads a worker's wire: the thread that is free, and of what comes nothing is left for later."""

from __future__ import annotations

import os
import queue
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from erlbridge.codec import Atom, term_to_binary
from erlbridge.worker.alarm import NEVER, NOW, Alarm, after
from erlbridge.worker.deadline import Deadline
from erlbridge.worker.reading import Reading

HOUR_S = 3600.0
WAIT_S = 30


class End:
    """A worker's end of a wire, and the node's. Integers are jobs, and everything that comes is heard."""

    def __init__(self, unheard_s: float) -> None:
        self.node, self.worker = socket.socketpair()
        self.heard: queue.SimpleQueue[tuple[object, threading.Thread]] = queue.SimpleQueue()
        self.told: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.deadline = Deadline(self.told.put)
        self.reading = Reading(self.worker, self.take, self.deadline, unheard_s)
        self.reading.start()

    def take(self, term: object) -> int | None:
        self.heard.put((term, threading.current_thread()))
        if not isinstance(term, int):
            return None
        self.deadline.begin()
        return term

    def says(self, *terms: object) -> None:
        frames = [term_to_binary(term) for term in terms]
        self.node.sendall(b"".join(len(frame).to_bytes(4) + frame for frame in frames))

    def hears(self) -> tuple[object, bool]:
        """What came, and whether the main thread has read it."""
        term, thread = self.heard.get(timeout=WAIT_S)
        return term, thread is threading.main_thread()


ENDS: list[End] = []
"""For good: when the node is gone the second thread ends the process, which here is the tests'."""


@pytest.fixture
def idle() -> End:
    """One whose jobs are all short."""
    ENDS.append(End(HOUR_S))
    return ENDS[-1]


@pytest.fixture
def busy() -> End:
    """One whose jobs all last."""
    ENDS.append(End(0.001))
    return ENDS[-1]


def test_a_job_is_read_by_the_thread_that_runs_it(idle: End) -> None:
    for number in range(3):
        idle.says(number)
        assert idle.reading.next_job() == number
        assert idle.hears() == (number, True)


def test_what_comes_with_a_job_is_heard_before_the_job_begins(idle: End) -> None:
    idle.says(Atom("before"), 1, Atom("cancel"))
    assert idle.reading.next_job() == 1
    assert [idle.hears()[0] for _ in range(3)] == [Atom("before"), 1, Atom("cancel")]


def test_who_waits_for_what_comes_hears_it_at_once(idle: End) -> None:
    idle.says(1)
    assert idle.reading.next_job() == 1
    idle.says(Atom("result"))
    idle.reading.listen()
    assert [idle.hears(), idle.hears()] == [(1, True), (Atom("result"), False)]


def test_a_job_that_lasts_hears_what_comes_and_the_next_one_is_handed_over(busy: End) -> None:
    for number in range(3):
        busy.says(number)
        assert busy.reading.next_job() == number
        assert busy.hears()[0] == number
        busy.says(Atom("cancel"))
        assert busy.hears() == (Atom("cancel"), False)


def test_the_main_thread_reads_again_once_the_next_job_was_handed_over(idle: End) -> None:
    idle.says(1)
    assert idle.reading.next_job() == 1
    idle.reading.listen()
    idle.says(Atom("result"))
    assert [idle.hears(), idle.hears()] == [(1, True), (Atom("result"), False)]
    idle.says(2)
    assert (idle.reading.next_job(), idle.hears()) == (2, (2, False))
    idle.says(3)
    assert (idle.reading.next_job(), idle.hears()) == (3, (3, True))


def test_a_job_that_lasts_is_told_that_no_time_is_left_though_nothing_comes(busy: End) -> None:
    busy.deadline.of_next(50, 0.05)
    busy.says(1)
    assert busy.reading.next_job() == 1
    assert "no time is left" in str(busy.told.get(timeout=WAIT_S))


def test_thousands_of_jobs_that_last_about_as_long_as_they_may_are_each_run_once() -> None:
    ENDS.append(End(20e-6))
    end = ENDS[-1]
    for number in range(5000):
        end.says(number)
        assert end.reading.next_job() == number
        sum(range(number % 2000))


def test_an_alarm_goes_off_when_it_was_set_to_last() -> None:
    alarm, off = Alarm(), threading.Event()

    def wait() -> None:
        alarm.wait()
        off.set()

    threading.Thread(target=wait, daemon=True).start()
    alarm.set(after(0.001))
    alarm.set(NEVER)
    assert not off.wait(0.05)
    alarm.set(NOW)
    assert off.wait(WAIT_S)


def test_a_worker_whose_job_has_closed_the_alarm_takes_no_further_job() -> None:
    known = timers()
    ENDS.append(End(HOUR_S))
    end = ENDS[-1]
    [descriptor] = timers() - known
    end.says(1)
    assert end.reading.next_job() == 1
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        end.reading.listen()
    with pytest.raises(OSError, match="Bad file descriptor"):
        end.reading.next_job()


def timers() -> set[int]:
    """The descriptors of this process that are timers."""
    found = set()
    for item in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            if "timerfd" in os.readlink(item):
                found.add(int(item.name))
    return found
