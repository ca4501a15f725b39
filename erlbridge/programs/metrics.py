"""The metric of a job in the shape that DSPy wants, and the kinds of it that need no model.

Knows scores and thresholds. `Scorer` is what DSPy gets: it ends the job when a metric raises, which DSPy would turn
into a score of 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from erlbridge.core.metrics import Metric
from erlbridge.errors import OptimizationError
from erlbridge.programs.comparisons import COMPARISONS, numeric
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.judgements import Judge, Judgement
from erlbridge.programs.predictions import plain

ACCEPTED_GRADE: Final = 0.5
"""Score of a graded metric from which bootstrapping takes a trace as a demo when the request sets no threshold; 1.0
would take hardly any."""


class Comparison:
    """Compares the prediction's fields with the example's: the mean over them.

    Args:
        metric: The name of a comparison, and a tolerance for `numeric`.
        fields: The outputs to compare; a metric with a field of its own compares that one alone.
    """

    def __init__(self, metric: Metric, fields: Sequence[str]) -> None:
        self._fields = fields if metric.field is None else (metric.field,)
        self._compare = (
            partial(numeric, tolerance=metric.tolerance) if metric.name == "numeric" else COMPARISONS[metric.name]
        )

    def __call__(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> Judgement:
        scores = [self._compare(plain(example[name]), plain(prediction.get(name))) for name in self._fields]
        return Judgement(sum(scores) / len(scores))


@dataclass(frozen=True, slots=True)
class Weighted:
    """Several judges, each with its weight: their weighted mean, and what any of them had to say."""

    parts: Sequence[tuple[float, Judge]]

    def __call__(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> Judgement:
        """The judgement of all parts; the weights need not add up to 1."""
        judged = [(weight, judge(example, prediction)) for weight, judge in self.parts]
        heaviest = max(weight for weight, _ in judged)  # as shares of it, so that no sum leaves a float's range
        shares = [(weight / heaviest, part.score) for weight, part in judged]
        score = sum(share * found for share, found in shares) / sum(share for share, _ in shares)
        said = [part.feedback for _, part in judged if part.feedback]
        return Judgement(score, " ".join(said) or None)


class Scorer:
    """The metric of a job, as DSPy calls it and as we do.

    Args:
        metric: Its name, fields and threshold.
        judge: Scores one prediction.
        fields: The outputs that it looks at.
        guard: Stopped when the metric raises.
        threshold: The score from which bootstrapping takes a trace, which wins over the metric's own. Without either
            it is 1.0, and 0.5 where scores come in grades.
    """

    def __init__(
        self, metric: Metric, judge: Judge, fields: Sequence[str], guard: Guard, threshold: float | None = None
    ) -> None:
        self.fields = fields if metric.field is None else (metric.field,)
        self.__name__ = metric.name  # DSPy prints a metric's name
        self._judge = judge
        self._guard = guard
        default = ACCEPTED_GRADE if metric.graded else 1.0
        self.threshold = next((given for given in (threshold, metric.threshold) if given is not None), default)

    def __call__(self, example: Any, prediction: Any, trace: object = None, **_: object) -> float | bool:
        """The score; where there is a trace, whether it is good enough for a demo. A bool, because DSPy takes any
        truthy value, thus a score of 0.01."""
        score = self.score(example.toDict(), prediction.toDict())
        if trace is None:
            return score
        self._guard.progress.bootstrapped()
        return score >= self.threshold

    def score(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> float:
        """The score of a prediction, 0.0 to 1.0. Raises `Stop` when the metric raises."""
        return self.judge(example, prediction).score

    def judge(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> Judgement:
        """The same with the metric's feedback, if it gives any."""
        try:
            return self._judge(example, prediction)
        except Stop:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a metric raises ends the job, with its traceback
            self._guard.stop(
                OptimizationError(f"the metric raised {type(error).__name__}: {error}", traceback=traceback_text(error))
            )
