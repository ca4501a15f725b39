"""How far something is, on a terminal: a bar with rate and time left, from the first second on. Elsewhere nothing.

tqdm, which DSPy brings along, is loaded only where there is a bar to show.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

_DELAY_S: Final = 1.0
"""What is over sooner needs no bar."""
_INTERVAL_S: Final = 0.1
_TICK_S: Final = 1.0
_WORTH_SCALING: Final = 10_000
"""From so many on a count is in thousands; fewer are counted one by one."""


class Progress:
    """A bar, or where there is no terminal nothing. Cheap enough to be told of every row."""

    def __init__(self, bar: Any = None, delay_s: float = _DELAY_S) -> None:
        self._bar = bar
        self._shown_at = time.monotonic() + delay_s
        self._next_at = 0.0 if bar is not None else float("inf")

    def reached(self, done: int, note: str = "") -> None:
        """So much of the total is done; `note` stands behind the figures."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + _INTERVAL_S
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def tick(self) -> None:
        """Time has passed, and nothing else: the bar says so, once it is there."""
        now = time.monotonic()
        if self._bar is not None and now >= self._shown_at:
            self._shown_at = now + _TICK_S
            self._bar.refresh()

    def say(self, line: str) -> None:
        """A line for standard error, above the bar."""
        if self._bar is None:
            sys.stderr.write(line + "\n")
        else:
            self._bar.write(line, file=sys.stderr)


@contextlib.contextmanager
def progress(
    what: str, total: int | None, unit: str = "B", *, shown: bool | None = None, delay_s: float = _DELAY_S
) -> Iterator[Progress]:
    """A bar for as long as the block runs.

    Args:
        what: Stands before the bar.
        total: What `reached` counts up to; None when nobody knows, which leaves the count and the rate.
        unit: What is counted; `B` in kilobytes and so on.
        shown: Whether there is a bar at all; None for what standard error is.
        delay_s: How long there is none, for what may be over by then.
    """
    if not (sys.stderr.isatty() if shown is None else shown):
        yield Progress()
        return
    from tqdm.std import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - 80 ms

    tqdm.monitor_interval = 0  # no thread of its own for what is told often enough
    scale = 1024 if unit == "B" else 1000
    scaled = unit == "B" or total is None or total >= _WORTH_SCALING
    with tqdm(
        desc=what, total=total, unit=unit, unit_scale=scaled, unit_divisor=scale, delay=delay_s, leave=False,
        dynamic_ncols=True, file=sys.stderr,
    ) as bar:  # fmt: skip
        yield Progress(bar, delay_s)
