"""What the node's processes use while they are soaked, and whether it grows: a line and its error."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """One look at a process: resident bytes, open descriptors, threads."""

    rss_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """What a process uses now; raises `OSError` when it is gone."""
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(resident * _PAGE_BYTES, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


@dataclass(frozen=True)
class Slope:
    """How fast something grows: units a minute, and the error of that (one standard deviation)."""

    per_minute: float
    error: float

    @property
    def within_noise(self) -> bool:
        """Whether the line may as well be flat: less than two standard deviations off."""
        return self.per_minute <= 2 * self.error


def slope(points: list[tuple[float, float]]) -> Slope:
    """The line of least squares through (seconds, value). Neighbouring samples resemble each other, so that the error
    is that of tens of blocks and their means, not of thousands of points.

    >>> slope([(float(second), 5.0) for second in range(120)])
    Slope(per_minute=0.0, error=0.0)
    """
    blocks = _means(points, 20)
    count = len(blocks)
    if count < 3:
        return Slope(0.0, math.inf)
    mean_x = sum(x for x, _ in blocks) / count
    mean_y = sum(y for _, y in blocks) / count
    spread = sum((x - mean_x) ** 2 for x, _ in blocks)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in blocks) / spread
    rest = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in blocks)
    return Slope(rise * 60, math.sqrt(rest / (count - 2) / spread) * 60)


def _means(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    size = max(1, len(points) // most)
    blocks = [points[start : start + size] for start in range(0, len(points) - size + 1, size)]
    return [(sum(x for x, _ in block) / size, sum(y for _, y in block) / size) for block in blocks]
