"""Processor use as people read it: percent of one core over the last moment. Takes times; knows no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_WINDOW_S: Final = 1.0
_APART_S: Final = 0.2


@dataclass(slots=True)
class Meter:
    """The use of one process over about the last second.

    >>> meter = Meter()
    >>> for at in range(4):
    ...     meter.add(at=at, cpu_s=at * 0.25)
    >>> meter.percent()
    25.0
    """

    _marks: deque[tuple[float, float]] = field(default_factory=deque)
    _last: tuple[float, float] = (0.0, 0.0)

    def add(self, at: float, cpu_s: float) -> None:
        """The process had used so much in its life at that time."""
        self._last = at, cpu_s
        marks = self._marks
        if not marks or at - marks[-1][0] >= _APART_S:
            marks.append(self._last)
        while len(marks) > 1 and marks[1][0] <= at - _WINDOW_S:
            marks.popleft()

    def percent(self) -> float:
        """0.0 until two looks are far enough apart to tell."""
        since = self._last[0] - self._marks[0][0] if self._marks else 0.0
        return round(100 * (self._last[1] - self._marks[0][1]) / since, 1) if since >= _APART_S else 0.0
