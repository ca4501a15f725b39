"""The job's metric in the shape that GEPA wants: a score for the search, and words for the model that reflects.

Knows values; compares nothing itself, that is the scorer's matter.
"""

from __future__ import annotations

from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.programs.metrics import Scorer
from erlbridge.programs.predictions import plain

_SHOWN_CHARACTERS: Final = 500
"""Of a value in a feedback: several of them stand in one prompt, beside the inputs they belong to."""


class Feedback:
    """GEPA's metric: `(gold, pred, trace, pred_name, pred_trace)`.

    A float where a program is scored; where a predictor is judged (`pred_name` is given), the same score with a
    metric's own feedback or, where it gives none, what each wrong output should have been: `expected billing, got
    account`.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(
        self,
        gold: Any,
        pred: Any,
        trace: object = None,  # noqa: ARG002 - GEPA's shape
        pred_name: str | None = None,
        pred_trace: object = None,  # noqa: ARG002
    ) -> Any:
        example, prediction = gold.toDict(), pred.toDict()
        judged = self._scorer.judge(example, prediction)
        if pred_name is None:
            return judged.score
        said = judged.feedback or self._say(judged.score, example, prediction)
        return dspy.Prediction(score=judged.score, feedback=said)

    def _say(self, score: float, example: dict[str, object], prediction: dict[str, object]) -> str:
        names = self._scorer.fields
        wrong = [name for name in names if plain(example[name]) != plain(prediction.get(name))]
        if score >= 1.0 or not wrong:
            return "This output is correct."
        said = [f"expected {_shown(example[name])}, got {_shown(prediction.get(name))}" for name in wrong]
        if len(names) > 1:
            said = [f"`{name}`: {words}" for name, words in zip(wrong, said, strict=True)]
        head = "" if score <= 0.0 else f"Partly right, score {score:.2f}: "
        return f"{head}{'; '.join(said)}."


def _shown(value: object) -> str:
    text = str(plain(value))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
