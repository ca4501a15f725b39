"""Points in time by key: which have come, and when the next one does. Knows numbers; whoever asks has the clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar


class _Ordered(Protocol):
    """What a heap can tell apart when two points are the same."""

    def __lt__(self, other: _Ordered, /) -> bool: ...


Key = TypeVar("Key", bound=bytes | int)
_SLACK: Final = 64
"""Points that have been dropped may stay in the heap until they are so many more than half of it."""


def earliest(times: Iterable[float | None]) -> float | None:
    """The first of these points in time, some of which may not be set; None when none is.

    >>> earliest([3.0, None, 2.0]), earliest([None])
    (2.0, None)
    """
    first = None
    for at in times:
        if at is not None and (first is None or at < first):
            first = at
    return first


@dataclass(slots=True)
class Deadlines(Generic[Key]):
    """At most one point for each key. Setting, dropping and asking cost the logarithm of their number, or less.

    >>> deadlines = Deadlines[bytes]()
    >>> deadlines.set(b"late", 9.0)
    >>> deadlines.set(b"soon", 2.0)
    >>> deadlines.next(), deadlines.due(3.0), deadlines.next()
    (2.0, [b'soon'], 9.0)
    """

    _at: dict[Key, float] = field(default_factory=dict)
    _heap: list[tuple[float, Key]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: Key, at: float) -> None:
        """From now on the key's point is `at`."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))

    def drop(self, key: Key) -> float | None:
        """The key has no point any more; gives the one that it had."""
        point = self._at.pop(key, None)
        if point is None:
            return None
        if len(self._heap) > 2 * len(self._at) + _SLACK:  # jobs end long before their deadlines
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)
        return point

    def next(self) -> float | None:
        """The earliest point; None when there is none."""
        while self._heap:
            at, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> list[Key]:
        """The keys whose point has come, the earliest first; they are dropped."""
        keys = []
        while (at := self.next()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            keys.append(key)
        return keys
