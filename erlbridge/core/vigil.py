"""Whether a worker uses too much or does nothing at all: samples and a time in, facts out.

Knows no process, no clock and no remedy: what follows from a fact is the scheduler's to say. A worker's memory is its
resident set, with the pages that it shares with the forkserver: the figure that `ps` shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from erlbridge.core.events import LimitPassed, Stalled

Fact: TypeAlias = LimitPassed | Stalled

LEAST_INTERVAL_S: Final = 0.01
"""The shortest time between two looks, for workers that could pass a limit before the next usual one."""

_RUNAWAY_BYTES_PER_S: Final = 2 * 1024**3
"""How fast memory is taken to grow at worst: twice what one thread that writes to fresh pages reaches."""

_OVERSHOOT: Final = 0.1
"""By how much of its limit a worker may be above it when it is found out; as much again passes until it is dead."""

_WINDOW_MARKS: Final = 20
"""How many marks of used processor time span the time for which too much of it may last."""

_LIFE_SHARE: Final = 0.01
"""Processor use below which a worker counts as doing nothing: a thread that only looks at the clock uses some."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process: its resident memory, and the processor time that it has used in its life."""

    rss_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Running:
    """What a worker does, as the scheduler knows it.

    `job` tells this job from that worker's others; `heard_at` is the time of its last frame. `waits` is whether it
    waits for the host, which may take as long as it likes.
    """

    job: object
    heard_at: float
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is too much. Bytes, percent of one core and seconds; 0 is no limit."""

    interval_s: float = 0.1
    soft_bytes: int = 0
    hard_bytes: int = 0
    total_bytes: int = 0
    cpu_percent: float = 0.0
    cpu_s: float = 60.0
    stall_s: float = 0.0


@dataclass(slots=True)
class _Watched:
    """A worker as the vigil remembers it. `doomed`: its end has been asked for; `fat`: that it be replaced has, once it
    `worked`: a fresh one in its place would be no better."""

    sample: Sample
    next_at: float = 0.0
    doomed: bool = False
    worked: bool = False
    fat: bool = False
    stalled: bool = False
    job: object = None
    looked_at: float = 0.0
    quiet_since: float = 0.0
    quiet_cpu_s: float = 0.0
    marks: deque[tuple[float, float]] = field(default_factory=deque)


@dataclass(slots=True)
class Vigil:
    """Watches the workers of one node.

    >>> vigil = Vigil(Bounds(hard_bytes=500))
    >>> vigil.look({1: Sample(rss_bytes=600, cpu_s=0.0)}, {}, now=0.0)
    [LimitPassed(worker=1, kind='hard', reason='memory_limit', context={'rss_bytes': 600, 'limit': 500})]
    """

    bounds: Bounds
    _watched: dict[int, _Watched] = field(default_factory=dict)

    def due(self, workers: Iterable[int], now: float) -> list[int]:
        """Those of the workers that are to be looked at now; one that is new is."""
        return [number for number in workers if (seen := self._watched.get(number)) is None or seen.next_at <= now]

    def next_look(self) -> float | None:
        """When the next worker is due; None while none is watched."""
        return min((seen.next_at for seen in self._watched.values()), default=None)

    def keep_only(self, workers: Iterable[int]) -> None:
        """Forgets every worker that is not among these."""
        left = set(workers)
        self._watched = {number: seen for number, seen in self._watched.items() if number in left}

    def look(self, samples: Mapping[int, Sample], running: Mapping[int, Running], now: float) -> list[Fact]:
        """What follows from these workers' samples. Each fact is told once: of a worker, or of its job."""
        for number, sample in samples.items():
            self._watched.setdefault(number, _Watched(sample)).sample = sample
        facts = [fact for number in samples for fact in self._judge(number, running.get(number), now)]
        facts += self._total()
        for number in samples:
            self._watched[number].next_at = now + self._wait_s(self._watched[number])
        return facts

    def _judge(self, number: int, running: Running | None, now: float) -> Iterator[Fact]:
        seen, bounds = self._watched[number], self.bounds
        rss_bytes = seen.sample.rss_bytes
        if seen.doomed:
            return
        if bounds.hard_bytes and rss_bytes > bounds.hard_bytes:
            seen.doomed = True
            yield LimitPassed(number, "hard", "memory_limit", {"rss_bytes": rss_bytes, "limit": bounds.hard_bytes})
            return
        seen.worked |= running is not None
        if bounds.soft_bytes and rss_bytes > bounds.soft_bytes and seen.worked and not seen.fat:
            seen.fat = True
            yield LimitPassed(number, "soft", "memory_limit", {"rss_bytes": rss_bytes, "limit": bounds.soft_bytes})
        if running is None:
            seen.job = None
            return
        if running.job is not seen.job:
            seen.job, seen.stalled = running.job, False
            self._stir(seen, now)
            seen.looked_at = now
            seen.marks.clear()
        yield from self._processor(number, seen, now)
        yield from self._stillness(number, seen, running, now)

    def _processor(self, number: int, seen: _Watched, now: float) -> Iterator[Fact]:
        """Too much of it, on the mean over the whole time for which it may last."""
        bounds, marks, cpu_s = self.bounds, seen.marks, seen.sample.cpu_s
        if not bounds.cpu_percent:
            return
        if not marks or now - marks[-1][0] >= bounds.cpu_s / _WINDOW_MARKS:
            marks.append((now, cpu_s))
        while len(marks) > 1 and marks[1][0] <= now - bounds.cpu_s:
            marks.popleft()
        since, used_s = now - marks[0][0], cpu_s - marks[0][1]
        if since >= bounds.cpu_s and (percent := 100 * used_s / since) > bounds.cpu_percent:
            seen.doomed = True
            context = {"cpu_percent": round(percent, 1), "limit": bounds.cpu_percent}
            yield LimitPassed(number, "hard", "cpu_limit", context)

    def _stillness(self, number: int, seen: _Watched, running: Running, now: float) -> Iterator[Fact]:
        bounds = self.bounds
        used_s = seen.sample.cpu_s - seen.quiet_cpu_s
        # Whoever has not looked for so long, as a node that somebody stopped, cannot say what went on meanwhile.
        unseen = now - seen.looked_at > bounds.stall_s / 2
        seen.looked_at = now
        if unseen or running.waits or running.heard_at > seen.quiet_since or used_s >= _LIFE_SHARE * bounds.stall_s:
            self._stir(seen, now)
        elif bounds.stall_s and now - seen.quiet_since >= bounds.stall_s and not (seen.stalled or seen.doomed):
            seen.stalled = True
            yield Stalled(number, now - seen.quiet_since)

    def _stir(self, seen: _Watched, now: float) -> None:
        seen.quiet_since, seen.quiet_cpu_s = now, seen.sample.cpu_s

    def _total(self) -> Iterator[Fact]:
        """As many of the fattest as must go for the rest to have room."""
        limit = self.bounds.total_bytes
        left = {number: seen for number, seen in self._watched.items() if not seen.doomed}
        total = sum(seen.sample.rss_bytes for seen in left.values())
        while limit and total > limit:
            number, seen = max(left.items(), key=lambda entry: entry[1].sample.rss_bytes)
            seen.doomed = True
            rss_bytes = seen.sample.rss_bytes
            context = {"rss_bytes": rss_bytes, "total_bytes": total, "limit": limit}
            yield LimitPassed(number, "hard", "total_memory_limit", context)
            total -= rss_bytes
            del left[number]

    def _wait_s(self, seen: _Watched) -> float:
        """Until the next look at a worker: so short that at its worst it is found out not far beyond its limit."""
        room: list[float] = []
        if self.bounds.hard_bytes:
            room.append(self.bounds.hard_bytes * (1 + _OVERSHOOT) - seen.sample.rss_bytes)
        if self.bounds.total_bytes:
            total = sum(other.sample.rss_bytes for other in self._watched.values())
            room.append(self.bounds.total_bytes * (1 + _OVERSHOOT) - total)
        soonest_s = min(room) / _RUNAWAY_BYTES_PER_S if room and not seen.doomed else self.bounds.interval_s
        return max(min(soonest_s, self.bounds.interval_s), min(LEAST_INTERVAL_S, self.bounds.interval_s))
