"""What health_check answers: made anew when something happened, and otherwise no more often than that shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from erlbridge.codec import Atom
from erlbridge.core.events import Booted, Forked
from erlbridge.core.scheduler import Scheduler
from erlbridge.node.about import About
from erlbridge.node.config import NodeConfig
from erlbridge.node.health import Health
from erlbridge.node.patrol import Patrol
from erlbridge.wire.messages import Term


class Arena:
    """A node's health with nothing below it: one worker, whose process is this one."""

    def __init__(self, data: Path) -> None:
        config = NodeConfig(data=data, workers=1)
        self.scheduler = Scheduler(worker_count=1)
        self.scheduler.start(0.0)
        self.scheduler.step(Forked(1, os.getpid()), 0.0)
        self.forkserver_pid: int | None = None
        self.patrol = Patrol(config, self.scheduler, lambda: self.forkserver_pid, lambda _number: 0.0)
        self._health = Health(About(config, started_at=0.0), self.scheduler, self.patrol)

    def look(self, now: float, **dropped: int) -> Mapping[Term, Term]:
        return self._health.look(now, audit=None, sandbox=None, dropped_events=dropped)


def test_health_is_put_together_once_while_nothing_happens_and_its_time_goes_on(tmp_path: Path) -> None:
    arena = Arena(tmp_path)
    first, second = arena.look(1.0), arena.look(1.0016)
    assert (first[Atom("uptime_ms")], second[Atom("uptime_ms")]) == (1000, 1001)
    assert first[Atom("workers")] is second[Atom("workers")]


def test_health_tells_of_what_has_just_happened(tmp_path: Path) -> None:
    arena = Arena(tmp_path)
    assert arena.look(1.0, log=0)[Atom("status")] == Atom("degraded")
    arena.scheduler.step(Booted(1), 1.0)
    assert arena.look(1.0, log=0)[Atom("status")] == Atom("healthy")
    assert arena.look(1.0, log=3)[Atom("dropped_events")] == {Atom("log"): 3}


def test_processes_are_looked_at_ten_times_a_second_at_most_and_new_ones_at_once(tmp_path: Path) -> None:
    arena = Arena(tmp_path)
    arena.look(1.0)
    looks = arena.patrol.looks
    for now in (1.01, 1.05, 1.09):
        (worker,) = arena.look(now)[Atom("workers")]
        assert worker[Atom("rss_bytes")] > 0
    assert arena.patrol.looks == looks
    arena.look(1.101)
    assert arena.patrol.looks == looks + 1
    arena.scheduler.step(Forked(1, os.getppid()), 1.102)
    (worker,) = arena.look(1.102)[Atom("workers")]
    assert worker[Atom("os_pid")] == os.getppid()
    assert worker[Atom("rss_bytes")] is not None


def test_another_forkserver_is_looked_at_at_once_and_a_worker_that_is_known_is_not(tmp_path: Path) -> None:
    arena = Arena(tmp_path)
    arena.look(1.0)
    looks = arena.patrol.looks
    arena.forkserver_pid = os.getppid()
    arena.look(1.01)
    assert arena.patrol.looks == looks + 1
    arena.scheduler.step(Forked(1, os.getppid()), 1.02)
    arena.look(1.02)
    assert arena.patrol.looks == looks + 1
