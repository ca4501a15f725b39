"""How a prediction is scored against an example, 0.0 to 1.0.

Knows values and their comparison; knows no model. `Scorer` is what DSPy gets: it ends the job when a metric raises,
which DSPy would turn into a score of 0.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from erlbridge.core.metrics import Metric
from erlbridge.errors import OptimizationError
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.host_metric import HostMetric, Judgement
from erlbridge.programs.predictions import plain

ACCEPTED_GRADE: Final = 0.5
"""Score of a graded metric (`f1`, an Elixir function) from which bootstrapping takes a trace as a demo when the request
sets no threshold; 1.0 would take hardly any."""

_PUNCTUATION: Final = re.compile(r"[^\w\s]|_")
_NUMBER: Final = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def exact_match(gold: object, found: object) -> float:
    """1.0 when both are equal; a list or map is compared whole."""
    return float(gold == found and isinstance(gold, bool) == isinstance(found, bool))


def normalized_match(gold: object, found: object) -> float:
    """1.0 when both are equal but for case, white space, punctuation and Unicode's compatibility forms."""
    return float(_normalized(gold) == _normalized(found))


def f1(gold: object, found: object) -> float:
    """Harmonic mean of precision and recall over the words of both, each word counted as often as it occurs."""
    wanted, given = Counter(_words(gold)), Counter(_words(found))
    if not wanted or not given:
        return float(wanted == given)
    common = (wanted & given).total()
    return 2 * common / (wanted.total() + given.total())


def contains(gold: object, found: object) -> float:
    """1.0 when the prediction contains the example's text, case and punctuation aside; nothing contains no text."""
    wanted, given = " ".join(_words(gold)), " ".join(_words(found))
    return float(wanted in given if wanted else not given)


def numeric(gold: object, found: object, tolerance: float = 0.0) -> float:
    """1.0 when both are numbers at most `tolerance` apart. Raises `ValueError` when the example's is no number."""
    wanted = _number(gold)
    if wanted is None:
        raise ValueError(f"the metric `numeric` needs a number in the example, got {gold!r}")
    given = _number(found)
    if given is None:
        return 0.0
    return float(math.isclose(wanted, given, rel_tol=1e-9, abs_tol=tolerance))


_METRICS: Final[Mapping[str, Callable[[object, object], float]]] = {
    "exact_match": exact_match,
    "normalized_match": normalized_match,
    "f1": f1,
    "contains": contains,
    "numeric": numeric,
}


class Scorer:
    """The metric of a job, as DSPy calls it and as we do.

    Args:
        metric: Its name, field, threshold and tolerance.
        fields: The signature's outputs; a metric without a field is the mean over all of them.
        guard: Stopped when the metric raises.
        threshold: The score from which bootstrapping takes a trace, which wins over the metric's own. Without either
            it is 1.0, and 0.5 for `f1` and an Elixir function.
        host: The Elixir function that judges in the place of a comparison.
    """

    def __init__(
        self,
        metric: Metric,
        fields: Sequence[str],
        guard: Guard,
        threshold: float | None = None,
        host: HostMetric | None = None,
    ) -> None:
        self.fields = fields if metric.field is None else (metric.field,)
        self.__name__ = metric.name  # DSPy prints a metric's name
        self._host = host
        named = metric.name if host is None else "exact_match"  # a function may be called as it likes
        self._compare = partial(numeric, tolerance=metric.tolerance) if named == "numeric" else _METRICS[named]
        self._guard = guard
        default = ACCEPTED_GRADE if metric.name == "f1" or host is not None else 1.0
        self.threshold = next((given for given in (threshold, metric.threshold) if given is not None), default)

    def __call__(self, example: Any, prediction: Any, trace: object = None, **_: object) -> float | bool:
        """The score; where there is a trace, whether it is good enough for a demo. A bool, because DSPy takes any
        truthy value, thus a score of 0.01."""
        score = self.score(example.toDict(), prediction.toDict())
        if trace is None:
            return score
        self._guard.bootstrapped()
        return score >= self.threshold

    def score(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> float:
        """The score of a prediction, 0.0 to 1.0. Raises `Stop` when the metric raises."""
        return self.judge(example, prediction).score

    def judge(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> Judgement:
        """The same with the metric's feedback, if it gives any."""
        if self._host is not None:
            return self._host(example, prediction)
        try:
            return Judgement(self._mean(example, prediction))
        except Stop:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a metric raises ends the job, with its traceback
            self._guard.stop(
                OptimizationError(f"the metric raised {type(error).__name__}: {error}", traceback=traceback_text(error))
            )

    def _mean(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> float:
        scores = [self._compare(plain(example[name]), plain(prediction.get(name))) for name in self.fields]
        return sum(scores) / len(scores)


def _normalized(value: object) -> object:
    match value:
        case str():
            return " ".join(_words(value))
        case list():
            return [_normalized(item) for item in value]
        case dict():
            return {_normalized(key): _normalized(item) for key, item in value.items()}
        case _:
            return value


def _words(value: object) -> list[str]:
    match value:
        case None:
            return []
        case list():
            return [word for item in value for word in _words(item)]
        case dict():
            return [word for item in value.values() for word in _words(item)]
        case _:
            return _PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", str(value)).casefold()).split()


def _number(value: object) -> float | None:
    """The number that a value is, or the only one that its text names."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        named: list[str] = _NUMBER.findall(value)
        if len(named) != 1:
            return None
        value = float(named[0].replace(",", ""))
    try:
        found = float(value)
    except OverflowError:  # an integer beyond any float
        return None
    return found if math.isfinite(found) else None
