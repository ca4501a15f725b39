"""Requests that Elixir functions make while jobs wait for these functions: who waits for whom, and what may run beside.

A job that waits for a function holds its worker, and the function may ask the node for more. With one worker the two
would wait for each other. So a request that names its `parent` runs in the place that this one lends: beside the jobs
that run anyway, and before those that wait. Where nothing may be lent any more and every job that runs waits for such
a request, none of them would ever end: then the newest one is refused.

Knows requests and who named whom; knows no worker and no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from erlbridge.core.queue import Entry
from erlbridge.limits import MAX_OPEN_CALLS, NESTED_WORKERS


@dataclass(slots=True)
class Nesting:
    """The nested requests in flight. Parents are known by their keys, whether they run in this node or in another.

    Attributes:
        most: Places that are lent at once.
        waiting: Nested requests without a worker, in order of arrival.
    """

    most: int = NESTED_WORKERS
    waiting: OrderedDict[bytes, Entry] = field(default_factory=OrderedDict)
    _children: dict[bytes, int] = field(default_factory=dict)

    @property
    def lent(self) -> int:
        """Places for nested requests, beside those that all requests share: one for each parent."""
        return min(self.most, len(self._children))

    @property
    def full(self) -> bool:
        """Whether no further nested request may wait: each is made within a call, and of these there are no more."""
        return len(self.waiting) >= MAX_OPEN_CALLS

    def expect(self, entry: Entry) -> None:
        """A nested request is in flight: its parent waits for it, and lends its place."""
        assert entry.parent is not None  # noqa: S101 - whoever asks has seen that it is nested
        self._children[entry.parent] = self._children.get(entry.parent, 0) + 1

    def add(self, entry: Entry) -> None:
        """A nested request that was expected waits for a worker."""
        self.waiting[entry.key] = entry

    def take(self) -> Entry | None:
        """Removes and gives the one that has waited longest; None when there is none."""
        return self.waiting.popitem(last=False)[1] if self.waiting else None

    def ended(self, entry: Entry, in_flight: Iterable[bytes]) -> None:
        """A request of any kind has been answered; `in_flight` are the keys of the others. A parent lends its place for
        as long as it is there: its next call may ask again, and a worker costs more than a call."""
        if not self._children:
            return
        self.waiting.pop(entry.key, None)
        parent = entry.parent
        if parent is not None and parent in self._children:
            self._children[parent] -= 1
            if not self._children[parent] and parent not in in_flight:
                del self._children[parent]
        if self._children.get(entry.key) == 0:
            del self._children[entry.key]

    def move(self, parent: bytes, heir: bytes, in_flight: Iterable[Entry]) -> None:
        """A job belongs to another request now, and with it the place that it lends and those that are nested in it."""
        if (count := self._children.pop(parent, None)) is not None:
            self._children[heir] = self._children.get(heir, 0) + count
            for entry in in_flight:
                if entry.parent == parent:
                    entry.parent = heir

    def waits(self, entry: Entry | None) -> bool:
        """Whether a job cannot end before a nested request does."""
        return entry is not None and not entry.answered and self._children.get(entry.key, 0) > 0

    def one_too_many(self, running: Iterable[Entry | None]) -> Entry | None:
        """The newest of those that wait, where all who hold a place wait for such requests. There must be one."""
        return next(reversed(self.waiting.values())) if all(map(self.waits, running)) else None
