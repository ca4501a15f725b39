"""A metric that is an Elixir function: `[example, prediction]` goes out, a score comes back, maybe with feedback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from erlbridge.core.spelling import Spelling
from erlbridge.programs.host import HostFunction
from erlbridge.programs.judgements import Judgement
from erlbridge.programs.predictions import plain, text
from erlbridge.wire.place import Place, given


@dataclass(frozen=True, slots=True)
class HostMetric:
    """Judges predictions by an Elixir function. A failure of it ends the job: a score of 0 would hide it.

    Args:
        function: Gets two maps of field values.
        spelling: How the host writes the names of the fields.
    """

    function: HostFunction
    spelling: Spelling

    def __call__(self, example: Mapping[str, object], prediction: Mapping[str, object]) -> Judgement:
        """The judgement of one prediction. Raises the guard's `Stop`."""
        return self.function.demand([self._fields(example), self._fields(prediction)], read_judgement)

    def _fields(self, values: Mapping[str, object]) -> dict[object, object]:
        return self.spelling.fields({name: plain(value) for name, value in values.items()})


def read_judgement(place: Place) -> Judgement:
    """A number from 0 to 1, a boolean, or `%{score: …, feedback: …}`. Raises `ValidationError`."""
    if isinstance(place.term, bool):
        return Judgement(float(place.term))
    if not isinstance(place.term, Mapping):
        return Judgement(_score(place))
    entries = place.only(("score", "feedback"))
    score = place.required(entries, "score")
    return Judgement(
        float(score.term) if isinstance(score.term, bool) else _score(score),
        text(entries["feedback"].text()) if given(entries, "feedback") else None,
    )


def _score(place: Place) -> float:
    if isinstance(place.term, int | float) and 0 <= place.term <= 1:
        return float(place.term)
    raise place.refused("a number from 0 to 1, true or false, or %{score: number, feedback: text}")
