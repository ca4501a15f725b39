"""Modules that answer several times and keep the best: dspy.BestOfN and dspy.Refine, and what they judge by.

At the time of a prediction nobody knows the right answer. So an attempt is judged by what can be checked without it:
the share of output fields that are there, are not blank, and keep to their types and bounds. That finds answers of the
wrong form, not wrong answers; a longer text is never preferred to a shorter one, nor one label to another. Where the
host knows better, an Elixir function judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import dspy  # type: ignore[import-untyped]

from erlbridge.core.examples import read_value
from erlbridge.core.field_types import FieldType
from erlbridge.core.rewards import Judge
from erlbridge.errors import ValidationError
from erlbridge.programs.host_metric import read_judgement
from erlbridge.programs.predictions import outputs, plain
from erlbridge.programs.tools import Elixir
from erlbridge.wire.place import Place

RewardFunction: TypeAlias = Callable[[Mapping[str, Any], Any], float]
"""Inputs and a prediction to a number from 0.0 to 1.0."""


class Reward:
    """The share of output fields of a prediction that keep to their types and bounds, 0.0 to 1.0.

    dspy.Refine shows this class's source to the model as what its answers are judged by.

    Args:
        kinds: The type that each output field is held to.
    """

    def __init__(self, kinds: Mapping[str, FieldType]) -> None:
        self.kinds = kinds

    def __call__(self, inputs: Mapping[str, Any], prediction: Any) -> float:  # noqa: ARG002 - DSPy's shape
        found = outputs(prediction, self.kinds)
        return sum(_keeps(found.get(name), kind) for name, kind in self.kinds.items()) / len(self.kinds)


class HostReward:
    """What the function `judge` of the Elixir application makes of inputs and outputs, 0.0 to 1.0."""

    def __init__(self, judge: Judge, kinds: Mapping[str, FieldType]) -> None:
        self.judge = judge
        self.kinds = kinds

    def __call__(self, inputs: Mapping[str, Any], prediction: Any) -> float:
        elixir: Elixir = dspy.settings.elixir  # of the job's context, as for an agent's tools
        fields = [{name: plain(value) for name, value in side.items()} for side in (inputs, self._found(prediction))]
        # A failure ends the job: DSPy would take it for a failed attempt.
        function = elixir.host(self.judge.function)
        return function.demand([elixir.spelling.fields(side) for side in fields], read_judgement).score

    def _found(self, prediction: Any) -> Mapping[str, Any]:
        return outputs(prediction, self.kinds)


def _keeps(value: object, kind: FieldType) -> bool:
    if isinstance(value, str) and not value.strip():
        return False
    try:
        read_value(Place(value, "answer"), kind)
    except ValidationError:
        return False
    return True


class Attempts(dspy.Module):  # type: ignore[misc]
    """Runs a module up to `n` times and gives the first answer that is worth `threshold`, or the best one.

    DSPy's own module is made anew for each call: it counts down failures on itself, so that what one input did would
    befall the next. When no attempt can be read, the last one's error is raised.

    Args:
        make: `dspy.BestOfN` or `dspy.Refine`.
        module: Answers.
        n: Most attempts.
        threshold: The reward that ends the search.
        reward: Judges an attempt.
        criteria: What it looks for, in words for a model; without them `dspy.Refine` shows the reward's source.
    """

    def __init__(
        self, make: type[Any], module: Any, *, n: int, threshold: float, reward: RewardFunction, criteria: str = ""
    ) -> None:
        super().__init__()
        self.module = module
        self.make = make
        self.n = n
        self.threshold = threshold
        self.reward = reward
        self.criteria = criteria

    def forward(self, **inputs: Any) -> Any:
        made = self.make(
            module=self.module,
            N=self.n,
            reward_fn=self.reward,
            threshold=self.threshold,
            # DSPy takes one off for each failure and raises once the attempt's number is above it: with this the last
            # of n attempts raises when all before it have failed, and no other does.
            fail_count=2 * self.n - 3,
        )
        if self.criteria:
            made.reward_fn_code = self.criteria
        with _traced(self.module):
            return made(**inputs)


@contextmanager
def _traced(module: Any) -> Iterator[None]:
    """Gives DSPy the trace that these modules write to even where none is kept, and hands on what they wrote.

    They run copies of the module. Bootstrapping looks for the predictors that it knows, so the originals take the
    copies' places; the `stage` of a predictor is what its copies have in common with it.
    """
    outer = dspy.settings.trace
    originals = {predictor.stage: predictor for predictor in module.predictors()}
    with dspy.context(trace=[]):
        yield
        steps = [(originals.get(getattr(step[0], "stage", None), step[0]), *step[1:]) for step in dspy.settings.trace]
    if outer is not None:
        outer.extend(steps)
