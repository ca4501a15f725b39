"""What has happened so far, in numbers that only grow: what `metrics` makes Prometheus' counters and histograms of."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

DURATION_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""From an answer that waits for nobody to an optimization that takes a night."""
SPENT: Final = ("lm_calls", "failed_calls", "cached_calls", "input_tokens", "output_tokens", "cost_usd", "host_calls")
"""What jobs spend, by its published names."""


@dataclass(slots=True)
class Histogram:
    """How many values fell below each bound, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS_S) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """One more value."""
        self.counts[bisect_left(DURATION_BOUNDS_S, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Tallies:
    """The sums. Verbs, outcomes, reasons and levels are published names, so that there are few of each."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: dict[str, Histogram] = field(default_factory=dict)
    waits: Histogram = field(default_factory=Histogram)
    request_bytes: Counter[str] = field(default_factory=Counter)
    answer_bytes: Counter[str] = field(default_factory=Counter)
    from_cache: Counter[str] = field(default_factory=Counter)
    frames: Counter[bool] = field(default_factory=Counter)
    bytes: Counter[bool] = field(default_factory=Counter)
    usage: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in SPENT})
    deaths: Counter[str] = field(default_factory=Counter)
    logs: Counter[str] = field(default_factory=Counter)

    def frame(self, outgoing: bool, size: int) -> None:
        """A frame on the host's wire."""
        self.frames[outgoing] += 1
        self.bytes[outgoing] += size

    def answered(self, verb: str, outcome: str, seconds: float, size: int, *, from_cache: bool) -> None:
        """A request was answered."""
        self.requests[verb, outcome] += 1
        self.answer_bytes[verb] += size
        self.from_cache[verb] += from_cache
        self.durations.setdefault(verb, Histogram()).add(seconds)

    def waited(self, seconds: float) -> None:
        """A request has waited so long for a worker."""
        self.waits.add(seconds)

    def spent(self, verb: str, told: Mapping[str, Any], counted: dict[str, float]) -> None:
        """A job has spent so much by now. `counted` is what of it was heard before, and is brought up to date."""
        for name in SPENT:
            now = told.get(name)
            if isinstance(now, int | float) and now > (before := counted.get(name, 0)):
                self.usage[name][verb] += now - before  # type: ignore[assignment]  # a cost has a fraction
                counted[name] = now
