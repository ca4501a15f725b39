"""What a job went through, for its report: each trial of its search, and what it had spent when.

Knows counts and times; knows no thread, the guard keeps its lock. What is kept is bounded however long the job runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from erlbridge.programs.ledger import Ledger
from erlbridge.reports.record import MAX_MOMENTS, MAX_TRIALS, Moment, Trial

Item = TypeVar("Item")


class Thinned(Generic[Item]):
    """A list that keeps what matters and, of the rest, evenly spread ones: when it is full every second of those goes,
    and from then on as many fewer are taken.

    Args:
        most: How many it holds at most.
        matters: Whether one must stay.

    >>> thinned = Thinned(4, lambda item: item == 5)
    >>> for number in range(10): thinned.add(number)
    >>> thinned.items
    [0, 4, 5, 8]
    """

    def __init__(self, most: int, matters: Callable[[Item], bool]) -> None:
        self._most = most
        self._matters = matters
        self._stride = 1
        self._count = 0
        self._kept: list[tuple[int, Item]] = []

    @property
    def items(self) -> list[Item]:
        """What is kept, in order."""
        return [item for _, item in self._kept]

    def add(self, item: Item) -> None:
        """The next one."""
        number, self._count = self._count, self._count + 1
        if number % self._stride and not self._matters(item):
            return
        self._kept.append((number, item))
        while len(self._kept) > self._most:
            self._stride *= 2
            before = len(self._kept)
            self._kept = [(at, one) for at, one in self._kept if at % self._stride == 0 or self._matters(one)]
            if len(self._kept) == before and self._stride > self._count:
                del self._kept[0]  # all of them matter, so the oldest goes


@dataclass(slots=True)
class History:
    """The course of one job.

    Attributes:
        trials: The programs that a search scored, in order.
        trial_count: How many there were.
    """

    trials: Thinned[Trial] = field(init=False)
    moments: Thinned[Moment] = field(init=False)
    trial_count: int = 0
    _best: set[int] = field(default_factory=set)
    _best_score: float = -1.0
    _starts: set[float] = field(default_factory=set)
    _last: Moment | None = None

    def __post_init__(self) -> None:
        self.trials = Thinned(MAX_TRIALS, lambda trial: trial.number in self._best)
        self.moments = Thinned(MAX_MOMENTS, lambda moment: moment.at_s in self._starts)

    def tried(self, score: float, *, whole: bool, at_s: float, lm_calls: int) -> None:
        """A search scored a program, on all examples or some. Each new best score is kept for certain."""
        self.trial_count += 1
        if whole and score > self._best_score:
            self._best_score = score
            self._best.add(self.trial_count)
        self.trials.add(Trial(self.trial_count, score, whole, at_s, lm_calls))

    def passed(self, at_s: float, stage: str, ledger: Ledger) -> None:
        """The job is at a stage, and has spent so much. The beginning of each stage is kept for certain."""
        moment = Moment(
            at_s,
            stage,
            ledger.lm_calls,
            ledger.cached_calls,
            ledger.input_tokens + ledger.output_tokens,
            ledger.cost_usd,
        )
        if (self._last is None or self._last.stage != stage) and len(self._starts) < _MOST_STARTS:
            self._starts.add(at_s)
        self._last = moment
        self.moments.add(moment)

    @property
    def course(self) -> list[Moment]:
        """What was spent when, with the last word on it at the end."""
        found = self.moments.items
        return found if self._last is None or found[-1:] == [self._last] else [*found, self._last]


_MOST_STARTS: Final = 32
"""Stages whose beginnings are kept; a job has some ten, and a search may go back and forth."""
