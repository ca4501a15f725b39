"""Programs of several steps: one `dspy.Module` whose steps are optimized together.

Knows how a checked pipeline becomes a program and how values pass from step to step. The class stands in an importable
file because some of DSPy's optimizers read a program's source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.core.modules import PREDICT, Module
from erlbridge.core.pipelines import Pipeline, Source, Step
from erlbridge.core.signatures import Field, Signature
from erlbridge.programs.modules import Recipe
from erlbridge.programs.predictions import plain

PREFIX: Final = "step_"
"""Stands before a step's name in the program, so that no step can take the place of a method of `dspy.Module`."""


class Chain(dspy.Module):  # type: ignore[misc]
    """Runs its steps in order; each takes its inputs from the pipeline's inputs and from earlier steps' outputs.

    Args:
        answers: The module of each step, by the step's name.
        sources: Where each input of each step comes from.
        outputs: Where each output of the pipeline comes from.
    """

    def __init__(
        self,
        answers: Mapping[str, Any],
        sources: Mapping[str, Mapping[str, Source]],
        outputs: Sequence[Source],
    ) -> None:
        super().__init__()
        for name, answer in answers.items():
            setattr(self, PREFIX + name, answer)
        self.sources = sources
        self.outputs = outputs

    def forward(self, **inputs: Any) -> Any:
        values: dict[str | None, Mapping[str, Any]] = {None: inputs}
        for name, sources in self.sources.items():
            given = {wanted: values[source.step].get(source.field) for wanted, source in sources.items()}
            try:
                answer = getattr(self, PREFIX + name)(**given)
            except Exception as error:
                error.add_note(f"in the step `{name}`")
                raise
            values[name] = {field: plain(value) for field, value in answer.toDict().items()}
        return dspy.Prediction(**{source.field: values[source.step].get(source.field) for source in self.outputs})


@dataclass(frozen=True, slots=True)
class PipelineRecipe:
    """What a program of several steps is built from; each step of the pipeline has its module.

    Attributes:
        examples: The training data, for the steps that answer by it.
    """

    pipeline: Pipeline
    examples: tuple[Mapping[str, object], ...] = ()

    @property
    def signature(self) -> Signature:
        """What the whole pipeline takes and gives."""
        return self.pipeline.interface

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that no step provides."""
        return self.pipeline.inputs

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The outputs of the pipeline."""
        return self.signature.output_fields

    @property
    def modules(self) -> tuple[Module, ...]:
        """The module of each step."""
        return tuple(step.module or PREDICT for step in self.pipeline.steps)

    def step(self, step: Step) -> Recipe:
        """The recipe of one step."""
        made = Recipe(step.signature, step.module or PREDICT)
        names = {item.name for item in step.signature.fields}
        return made.learned([{name: item[name] for name in item if name in names} for item in self.examples])

    def build(self) -> Chain:
        """A new program, without demos."""
        return Chain(
            {step.name: self.step(step).answer() for step in self.pipeline.steps},
            {step.name: step.sources for step in self.pipeline.steps},
            [source for _, source in self.pipeline.outputs],
        )

    def fields_of(self, name: str, predictor: Any) -> tuple[Field, ...]:
        """The fields of a predictor, which belongs to the step that its name begins with."""
        owner = name.partition(".")[0].removeprefix(PREFIX)
        step = next(step for step in self.pipeline.steps if step.name == owner)
        return self.step(step).fields_of(name, predictor)

    def learned(self, examples: Sequence[Mapping[str, object]]) -> PipelineRecipe:
        """The recipe with these examples, if a step answers by examples."""
        needed = any(module.needs_examples for module in self.modules)
        return replace(self, examples=tuple(examples)) if needed else self
