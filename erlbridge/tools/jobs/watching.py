"""What a person sees of a job while it runs: a bar for each stage, and the lines that it logs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from erlbridge.tools.client import Event
from erlbridge.tools.progress import Progress, progress
from erlbridge.tools.wording import plain
from erlbridge.wire.answers import named, text

_DELAY_S: Final = 1.0
"""What is over sooner needs no bar."""
_WORTH_SAYING: Final = ("warning", "error")


class Watching:
    """Hears of a job's events; on a terminal there is a bar with rate, best score, calls and cost.

    `on_chunk` gets the field and the text of each piece that is streamed.
    """

    def __init__(self, *, verbose: bool, on_chunk: Callable[[str, str], None] | None = None) -> None:
        self._verbose = verbose
        self._on_chunk = on_chunk
        self._stage = ""
        self._show_at = 0.0
        self._bar = Progress()
        self._open = contextlib.ExitStack()

    def __call__(self, event: Event) -> None:
        match (text(event[0]), event):
            case ("progress", (_, _, state)):
                self._told(named(state))
            case ("log", (_, level, line, *_)) if self._verbose or text(level) in _WORTH_SAYING:
                self.say(f"{text(level)}: {plain(text(line))}")
            case ("chunk", (_, _, piece)) if self._on_chunk is not None:
                entries = named(piece)
                self._on_chunk(text(entries.get("field")), text(entries.get("text")))

    def say(self, line: str) -> None:
        """A line on standard error, above the bar."""
        self._bar.say(line)

    def tick(self) -> None:
        """Time has passed."""
        self._bar.tick()

    def over(self) -> None:
        """The job has ended: no bar is left."""
        self._open.close()
        self._bar, self._stage = Progress(), ""

    def _told(self, state: Mapping[str, object]) -> None:
        stage, total = text(state.get("stage")), state.get("total")
        if stage != self._stage:
            # Once somebody has waited for a second, each further stage shows at once.
            now = time.monotonic()
            if not self._stage:
                self._show_at = now + _DELAY_S
            delay_s = max(0.0, self._show_at - now)
            self._open.close()
            known = total if isinstance(total, int) else None
            self._bar = self._open.enter_context(progress(stage, known, " steps", delay_s=delay_s))
            self._stage = stage
            if self._verbose and not sys.stderr.isatty():
                self.say(f"stage: {stage}")
        done = state.get("done")
        self._bar.reached(done if isinstance(done, int) else 0, figures(state))


def figures(state: Mapping[str, object]) -> str:
    """The best score, calls and cost of a job so far.

    >>> figures({"best_score": 0.8125, "lm_calls": 134, "cost_usd": 0.021})
    'best 0.812, 134 calls, $0.02'
    """
    best, calls, cost = (state.get(name) for name in ("best_score", "lm_calls", "cost_usd"))
    return ", ".join(
        [
            *([f"best {best:.3f}"] if isinstance(best, int | float) else []),
            *([f"{calls} calls"] if calls else []),
            *([f"${cost:.2f}"] if isinstance(cost, int | float) and cost else []),
        ]
    )
