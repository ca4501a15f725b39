"""What waits for a worker, and whose turn it is. Knows priorities, sources and quotas; no worker and no clock.

- A higher priority goes first. Yet of eight picks that pass over a lower priority with work that could run, one goes
  to the lower priority that has gone longest without: the lower ones together get an eighth, and none starves.
- Within a priority, sources take turns: whoever has had its turn stands behind everybody who waits. Requests without a
  source are one source.
- Within a source the first come is the first served, but for what a quota holds back: others pass it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from erlbridge.core.quotas import Quota
from erlbridge.wire.messages import Request

PICKS_OF_THE_HIGHEST: Final = 7
"""Picks in a row that the highest priority gets while a lower one could have had them; the next is the lower one's."""
_SLACK: Final = 16


@dataclass(slots=True, eq=False)
class Entry:
    """A request from arrival to answer. Once `answered`, its id is free again and its worker is only waited for.

    Attributes:
        key: The canonical bytes of the request's id.
        frame: What the worker gets; let go of when it has it.
        programs: The stored programs that it names.
        quotas: What it counts against while it runs.
        parent: The key of the request whose Elixir function made this one, if one did.
        number: Its place in the order of arrival while it waits, else None.
        worker: Who runs it.
        late: Its deadline has passed, and its answer waits for the worker's stack.
        ticket: Of one that is held until the disk has said what it needs; None once it waits for a worker.
        cached: The result cache gets its result.
    """

    key: bytes
    request: Request
    frame: bytes
    arrived_at: float
    deadline: float | None
    programs: tuple[str, ...] = ()
    quotas: tuple[Quota, ...] = ()
    number: int | None = None
    worker: int | None = None
    sent_at: float = 0.0
    answered: bool = False
    cancelled: bool = False
    late: bool = False
    parent: bytes | None = None
    ticket: int | None = None
    cached: bool = False


@dataclass(slots=True, eq=False)
class _Source:
    """One caller within a priority. `turn` is the round in which its next request may go."""

    turn: int
    waiting: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    """What one source waits for under the same quotas, in order of arrival."""

    source: _Source
    entries: OrderedDict[int, Entry] = field(default_factory=OrderedDict)

    def rank(self) -> tuple[int, int]:
        """When its first entry may go: the round, then the arrival."""
        return self.source.turn, next(iter(self.entries))


@dataclass(slots=True, eq=False)
class _Class:
    """The lanes under the same quotas, which a limit holds back or lets go all together.

    `heap` has an item for each lane. Ranks only grow, so an item that lags behind its lane is put right when it is on
    top; until then nothing is passed over that should have gone.
    """

    lanes: dict[str | None, _Lane] = field(default_factory=dict)
    heap: list[tuple[int, int, _Lane]] = field(default_factory=list)

    def first(self) -> tuple[int, int, _Lane]:
        """The lane that may go first, with its rank. There is one: a class without lanes is not kept."""
        while True:
            turn, number, lane = self.heap[0]
            if not lane.entries:
                heapq.heappop(self.heap)
            elif lane.rank() == (turn, number):
                return self.heap[0]
            else:
                heapq.heapreplace(self.heap, (*lane.rank(), lane))

    def push(self, lane: _Lane) -> None:
        if len(self.heap) > 2 * len(self.lanes) + _SLACK:  # lanes that come and go while a limit holds the class back
            self.heap = [(*other.rank(), other) for other in self.lanes.values() if other is not lane]
            heapq.heapify(self.heap)
        heapq.heappush(self.heap, (*lane.rank(), lane))


@dataclass(slots=True, eq=False)
class _Level:
    """All that waits with one priority. `turn` is the round that was served last, `served` the pick that did it."""

    served: int
    turn: int = 0
    waiting: int = 0
    sources: dict[str | None, _Source] = field(default_factory=dict)
    classes: dict[tuple[Quota, ...], _Class] = field(default_factory=dict)

    def first(self, allows: Callable[[tuple[Quota, ...]], bool]) -> Entry | None:
        """Whose turn it is among those that may run."""
        firsts = [waiting.first() for quotas, waiting in self.classes.items() if allows(quotas)]
        return next(iter(min(firsts)[2].entries.values())) if firsts else None


@dataclass(slots=True)
class FairQueue:
    """Entries that wait. Adding, removing and taking one costs the logarithm of their number, and as many steps as
    there are different sets of quotas among them.

    >>> from erlbridge.wire.messages import Meta, Request
    >>> queue = FairQueue()
    >>> for name, meta in (("a1", Meta(source="a")), ("a2", Meta(source="a")), ("b1", Meta(source="b")),
    ...                    ("urgent", Meta(source="a", priority=1))):
    ...     queue.add(Entry(name.encode(), Request("predict", name, {}, meta), b"", 0.0, None))
    >>> [queue.take(lambda quotas: True).request.id for _ in range(len(queue))]
    ['urgent', 'a1', 'b1', 'a2']
    """

    _levels: dict[int, _Level] = field(default_factory=dict)
    _lone: Entry | None = None
    """The one that waits where there is only one. There is nothing to compare it with, so it stands in no level."""
    _count: int = 0
    _last_number: int = 0
    _picks: int = 0
    _in_a_row: int = 0

    def __len__(self) -> int:
        return self._count

    def by_priority(self) -> dict[int, int]:
        """How many wait with each priority, the highest first."""
        if self._lone is not None:
            return {self._lone.request.meta.priority: 1}
        return {priority: self._levels[priority].waiting for priority in sorted(self._levels, reverse=True)}

    def add(self, entry: Entry) -> None:
        """The entry waits, behind what its source has sent before."""
        self._last_number += 1
        entry.number = self._last_number
        self._count += 1
        if self._count == 1:
            self._lone = entry
            return
        if self._lone is not None:
            self._line_up(self._lone)
            self._lone = None
        self._line_up(entry)

    def _line_up(self, entry: Entry) -> None:
        number, meta, quotas = entry.number, entry.request.meta, entry.quotas
        assert number is not None  # noqa: S101 - whoever asks has just given it one
        if (level := self._levels.get(meta.priority)) is None:
            level = self._levels[meta.priority] = _Level(self._picks)
        if (source := level.sources.get(meta.source)) is None:
            source = level.sources[meta.source] = _Source(level.turn + 1)
        if (waiting := level.classes.get(quotas)) is None:
            waiting = level.classes[quotas] = _Class()
        lane = waiting.lanes.get(meta.source)
        if lane is None:
            lane = waiting.lanes[meta.source] = _Lane(source, OrderedDict({number: entry}))
            waiting.push(lane)
        else:
            lane.entries[number] = entry
        source.waiting += 1
        level.waiting += 1

    def remove(self, entry: Entry) -> None:
        """The entry waits no longer."""
        number, entry.number = entry.number, None
        assert number is not None  # noqa: S101 - whoever asks has seen that it waits
        self._count -= 1
        if entry is self._lone:
            self._lone = None
            return
        meta = entry.request.meta
        level = self._levels[meta.priority]
        waiting = level.classes[entry.quotas]
        lane = waiting.lanes[meta.source]
        del lane.entries[number]
        lane.source.waiting -= 1
        level.waiting -= 1
        # What is empty goes, or a host that names ever new sources would fill the memory.
        if not lane.entries:
            del waiting.lanes[meta.source]
        if not waiting.lanes:
            del level.classes[entry.quotas]
        if not lane.source.waiting:
            del level.sources[meta.source]
        if not level.waiting:
            del self._levels[meta.priority]

    def take(self, allows: Callable[[tuple[Quota, ...]], bool]) -> Entry | None:
        """Removes and gives the entry that goes next among those whose quotas allow it; None when there is none."""
        if (lone := self._lone) is not None:
            if not allows(lone.quotas):
                return None
            self.remove(lone)
            return lone
        firsts = [
            (priority, entry)
            for priority in sorted(self._levels, reverse=True)
            if (entry := self._levels[priority].first(allows)) is not None
        ]
        if not firsts:
            return None
        priority, entry = firsts[0]
        if len(firsts) > 1:
            self._in_a_row += 1
            if self._in_a_row > PICKS_OF_THE_HIGHEST:
                self._in_a_row = 0
                priority, entry = min(firsts[1:], key=lambda first: self._levels[first[0]].served)
        self._picks += 1
        level = self._levels[priority]
        source = level.sources[entry.request.meta.source]
        # A source that a quota has held back for many rounds gets one turn now, not all that it missed.
        level.turn = max(level.turn, source.turn)
        level.served = self._picks
        source.turn = level.turn + 1
        self.remove(entry)
        return entry
