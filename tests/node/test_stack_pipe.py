"""What the node takes for a worker's stacks: all that was asked for, however slowly it comes, and in bounded time."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator

import pytest

from erlbridge.core.allotment import STACKS_END
from erlbridge.limits import TRACE_GRACE_S
from erlbridge.node.stacks import StackPipe

PIECE = b"Stack (most recent call first):\n"


class Hands:
    """The node's side of a pipe, a clock that only the test moves, and two threads that answer when they are asked."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.given: list[str] = []
        self.asked: list[int] = []
        self.now = 100.0
        self.pipe = StackPipe(self.selector, self.given.append, self.ask, lambda: self.now)
        self.pipe.expect()

    def ask(self) -> Iterator[int]:
        for thread in (1, 2):
            self.asked.append(thread)
            yield thread

    def write(self, data: bytes) -> None:
        """Writes as a worker does, and reads as the node's loop does."""
        os.write(self.pipe.theirs, data)
        for key, _ in self.selector.select():
            key.data(0)

    def wait(self) -> None:
        """Until the pipe has something to do."""
        due_at = self.pipe.next_deadline()
        assert due_at is not None
        assert due_at <= 100.0 + TRACE_GRACE_S
        self.now = max(self.now, due_at)
        self.pipe.expire(self.now)


@pytest.fixture
def hands() -> Iterator[Hands]:
    found = Hands()
    yield found
    found.pipe.handed_over()
    found.pipe.close()
    found.selector.close()


def test_stacks_are_given_as_soon_as_the_worker_says_that_they_are_all(hands: Hands) -> None:
    hands.write(PIECE)
    hands.now += TRACE_GRACE_S / 2  # other processes have the processor
    hands.pipe.expire(hands.now)
    assert hands.given == []
    hands.write(b"  in deed\n" + STACKS_END)
    assert hands.given == [f"{PIECE.decode()}  in deed"]
    assert hands.asked == []
    assert hands.pipe.next_deadline() is None


def test_threads_are_asked_one_after_another_and_each_may_write(hands: Hands) -> None:
    hands.wait()
    assert hands.asked == [1]
    hands.write(PIECE + b"  in first\n")
    hands.wait()
    assert hands.asked == [1, 2]
    assert hands.given == []
    hands.write(PIECE + b"  in second\n")
    hands.wait()
    assert "in first" in hands.given[0]
    assert "in second" in hands.given[0]


def test_threads_that_write_nothing_are_waited_for_only_so_long(hands: Hands) -> None:
    while not hands.given:
        hands.wait()
    assert hands.given == [""]
    assert hands.asked == [1, 2]


def test_a_pipe_that_trickles_is_waited_for_only_so_long(hands: Hands) -> None:
    while not hands.given:
        hands.write(b"x")
        hands.now += 0.01
        hands.pipe.expire(hands.now)
        assert hands.now <= 100.0 + TRACE_GRACE_S
    assert hands.given[0].startswith("xx")
