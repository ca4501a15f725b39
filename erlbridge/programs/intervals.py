"""How sure a mean score is. Knows numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_Z95: Final = 1.959963984540054
"""Standard deviations to each side that hold 95 % of a normal distribution."""


def interval95(scores: Sequence[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the mean of scores from 0.0 to 1.0, by Wilson's method.

    It is made for right-or-wrong scores, holds for few of them, and never leaves 0 to 1. Graded scores vary less than
    right-or-wrong ones of the same mean, so for them it is wider than it need be, never too narrow.

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).

    >>> interval95([1.0] * 8 + [0.0] * 2)
    (0.4901624715366991, 0.9433178485456247)
    """
    count = len(scores)
    mean = sum(scores) / count
    spread = _Z95 * _Z95 / count
    centre = (mean + spread / 2) / (1 + spread)
    half = _Z95 * math.sqrt(mean * (1 - mean) / count + spread / (4 * count)) / (1 + spread)
    # The mean lies inside of it, at 0 and 1 on its end, where rounding would put it a hair's breadth outside.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
