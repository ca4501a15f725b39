"""Times of several runs that take turns, round after round, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable

Run = Callable[[], object]
TOGETHER = 200
"""Runs in a round from which on they are timed together: each takes some tens of microseconds at most."""


def rounds_of(some: dict[str, Run], rounds: int, slice_s: float = 0.01) -> dict[str, list[float]]:
    """Microseconds of each run in each round, the runs taking turns; a slow one is run once in a round."""
    repeat = {}
    for name, run in some.items():
        run()
        start = time.perf_counter()
        run()
        repeat[name] = max(1, int(slice_s / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in some}
    gc.collect()
    gc.freeze()
    order = list(some.items())
    shuffle = random.Random(7).shuffle
    for _ in range(rounds):
        shuffle(order)  # what runs first in a round meets the coldest caches
        for name, run in order:
            spent = together(run, repeat[name]) if repeat[name] > TOGETHER else apart(run, repeat[name])
            times[name].append(spent / repeat[name] * 1e6)
    gc.unfreeze()
    return times


def together(run: Run, count: int) -> float:
    """Seconds of so many runs. Freeing their results is part of it: a clock in between would cost more than they do."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    return time.perf_counter() - start


def apart(run: Run, count: int) -> float:
    """Seconds of so many runs, each by itself; freeing a result is no part of making it, and is not counted."""
    spent = 0.0
    for _ in range(count):
        start = time.perf_counter()
        result = run()
        spent += time.perf_counter() - start
        del result
    return spent
