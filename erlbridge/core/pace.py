"""How long jobs take, judged by those that have ended: when a host that was refused may come again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NEWEST_SHARE: Final = 0.125
"""What the job that ended last makes up of the guess."""
_LEAST_MS: Final = 100
_MOST_MS: Final = 300_000


@dataclass(slots=True)
class Pace:
    """A guess at how long the next job takes, in seconds: an exponentially weighted mean, a second to begin with.

    >>> pace = Pace()
    >>> pace.note(9.0)
    >>> pace.guess_s, pace.next_place_ms(workers=4)
    (2.0, 500)
    """

    guess_s: float = 1.0

    def note(self, seconds: float) -> None:
        """A job has ended after so long."""
        self.guess_s += _NEWEST_SHARE * (seconds - self.guess_s)

    def next_place_ms(self, workers: int) -> int:
        """When one of so many jobs that run should have ended, and a request that waits taken its place; 0.1 s to five
        minutes, in milliseconds."""
        return max(_LEAST_MS, min(int(self.guess_s / workers * 1000), _MOST_MS))
