"""What a metric says of one prediction, and what says it. Knows no kind of metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Judgement:
    """A score, 0.0 to 1.0, and what the metric has to say about it, which GEPA shows to the model that reflects."""

    score: float
    feedback: str | None = None


class Judge(Protocol):
    """A metric at work: by comparison, by a model, by an Elixir function, or by several of these."""

    def __call__(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> Judgement:
        """The judgement of one prediction, both by field name. Whatever it raises ends the job."""
