"""How far a job is: its stage, the steps done in it, and the best program so far.

Knows stages and their order; knows neither DSPy nor threads. `telling` keeps it up to date, under the guard's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_COMPILE: Final = ("bootstrapping", "proposing", "searching")
"""The stages of a compile. It never goes back, although a random search bootstraps between its trials."""


@dataclass(slots=True)
class Course:
    """Where a job stands.

    Attributes:
        stage: One of `vocabulary.STAGES`.
        done: Steps done in the stage: examples of an evaluation, trials of a search.
        total: Steps of the stage, None when not known.
        score: Mean over the examples so far, or the last trial's score; 0.0 to 1.0.
        best_score: The best score that a program reached on the whole set that the search scores on; it never falls.
        best_state: What `dump_state()` gave for that program.
        full_size: Examples of the whole set; a trial on fewer is a minibatch, whose score does not count as best.
        listens: Whether DSPy's evaluations are the steps of the search. Some optimizers say in another way how far
            they are: by `reach` and `judge`.

    >>> course = Course()
    >>> course.compile({"bootstrapping": 16, "searching": 3}, full_size=8)
    >>> course.advance("searching"), course.advance("bootstrapping")
    (True, False)
    >>> course.stage, course.total
    ('searching', 3)
    """

    stage: str = "starting"
    done: int = 0
    total: int | None = None
    score: float | None = None
    best_score: float | None = None
    best_state: Mapping[str, Any] | None = None
    full_size: int = 0
    listens: bool = True
    _sum: float = 0.0
    _planned: Mapping[str, int | None] | None = None

    @property
    def compiling(self) -> bool:
        """Whether DSPy's own events say how far it is."""
        return self._planned is not None

    def begin(self, stage: str, total: int | None = None) -> None:
        """A stage begins; a compile that went on until now is over."""
        self._planned = None
        self._enter(stage, total)

    def compile(self, planned: Mapping[str, int | None], *, full_size: int, listens: bool = True) -> None:
        """A compile begins, with as many steps in its stages as are planned."""
        self._enter(_COMPILE[0], planned.get(_COMPILE[0]))
        self._planned, self.full_size, self.listens = planned, full_size, listens

    def advance(self, stage: str) -> bool:
        """Moves a compile on to a stage. False when there is none, or when it is past that stage."""
        if self._planned is None:
            return False
        if _COMPILE.index(stage) > _COMPILE.index(self.stage):
            self._enter(stage, self._planned.get(stage))
        return self.stage == stage

    def step(self, score: float | None = None) -> None:
        """One step is done. With a score, the stage's score is the mean over its steps."""
        self.done += 1
        if score is not None:
            self._sum += score
            self.score = self._sum / self.done

    def trial(self, score: float) -> None:
        """One trial is done; the stage's score is its own."""
        self.done += 1
        self.score = score

    def judge(self, score: float) -> None:
        """A trial that is no step of its own is done; the stage's score is its own."""
        self.score = score

    def reach(self, done: int) -> None:
        """So many steps of the search are done. It goes neither back nor past its end."""
        if self.advance("searching"):
            self.done = max(self.done, done if self.total is None else min(done, self.total))

    def candidate(self, score: float, state: Callable[[], Mapping[str, Any]]) -> None:
        """A program was scored on the whole set; it is kept when it is the best."""
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_state = score, state()

    def _enter(self, stage: str, total: int | None) -> None:
        self.stage, self.total, self.done, self.score, self._sum = stage, total, 0, None, 0.0
