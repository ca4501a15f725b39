"""How the loop waits: it looks only where that has paid, and takes whatever descriptor a wire is."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from erlbridge.node.waiting import Ready, Waiting, selector_for

LOOK_S: Final = 0.2
"""Longer than a node's, so that a busy machine changes nothing."""
LONG_S: Final = 2.5 * LOOK_S


class Counted(selectors.EpollSelector):
    """Tells looking from sleeping."""

    looks = 0
    sleeps = 0

    def select(self, timeout: float | None = None) -> Ready:
        if timeout == 0:
            self.looks += 1
        else:
            self.sleeps += 1
        return super().select(timeout)


class Wire:
    """A descriptor that is written to after a while, and what waits for it."""

    def __init__(self) -> None:
        self.selector = Counted()
        self.ours, self.theirs = os.pipe()
        self.selector.register(self.ours, selectors.EVENT_READ)
        self.waiting = Waiting(self.selector, LOOK_S)

    def wait(self, after_s: float, *, alone: bool = True) -> tuple[int, int]:
        """Waits for a byte that comes so much later: how often it has looked, and slept."""
        before = self.selector.looks, self.selector.sleeps
        later = threading.Timer(after_s, os.write, (self.theirs, b"x"))
        if after_s:
            later.start()
        else:
            os.write(self.theirs, b"x")
        found: Ready = []
        while not found:
            found = self.waiting.select(60.0, alone=alone)
        assert os.read(self.ours, 10) == b"x"
        return self.selector.looks - before[0], self.selector.sleeps - before[1]

    def close(self) -> None:
        self.selector.close()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def test_it_looks_once_some_waits_in_a_row_were_short(wire: Wire) -> None:
    assert [wire.wait(0.0) for _ in range(4)] == [(0, 1)] * 4
    assert [wire.wait(0.0) for _ in range(3)] == [(1, 0)] * 3
    looks, sleeps = wire.wait(LOOK_S / 10)
    assert looks > 1
    assert sleeps == 0


def test_a_look_in_vain_ends_with_sleep_and_is_the_last(wire: Wire) -> None:
    for _ in range(5):
        wire.wait(0.0)
    looks, sleeps = wire.wait(LONG_S)
    assert looks > 1
    assert sleeps == 1
    assert wire.wait(0.0) == (0, 1)


def test_waits_that_are_long_are_slept_through(wire: Wire) -> None:
    assert [wire.wait(LONG_S) for _ in range(5)] == [(0, 1)] * 5


def test_nobody_who_is_at_work_is_kept_from_the_processor(wire: Wire) -> None:
    for _ in range(6):
        wire.wait(0.0)
    assert wire.wait(LOOK_S / 10, alone=False) == (0, 1)


def test_where_it_is_switched_off_it_never_looks(wire: Wire) -> None:
    wire.waiting = Waiting(wire.selector, 0.0)
    assert [wire.wait(0.0) for _ in range(6)] == [(0, 1)] * 6


def test_a_look_is_no_longer_than_the_wait(wire: Wire) -> None:
    for _ in range(5):
        wire.wait(0.0)
    began = time.monotonic()
    assert wire.waiting.select(0.001, alone=True) == []
    assert time.monotonic() - began < LOOK_S


def test_a_wire_that_is_a_file_is_waited_for_as_well(tmp_path: Path) -> None:
    (tmp_path / "wire").write_bytes(b"frames")
    with (tmp_path / "wire").open("rb") as file, selector_for(file.fileno(), file.fileno()) as selector:
        selector.register(file.fileno(), selectors.EVENT_READ)
        assert [key.fd for key, _ in selector.select(60.0)] == [file.fileno()]


def test_a_wire_of_pipes_is_waited_for_by_epoll() -> None:
    ours, theirs = os.pipe()
    with selector_for(ours, theirs) as selector:
        assert isinstance(selector, selectors.EpollSelector)
        assert not selector.get_map()
    os.close(ours)
    os.close(theirs)
