"""The programs that can be built: one predictor for one signature, with or without reasoning.

Knows how a recipe (signature and module kind) becomes a `dspy.Module`. The class stands in an importable file because
some of DSPy's optimizers read a program's source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dspy  # type: ignore[import-untyped]

from erlbridge.core.signatures import Field, FieldType, Signature
from erlbridge.errors import ValidationError
from erlbridge.programs.signatures import REASONING, build_signature


class Program(dspy.Module):  # type: ignore[misc]
    """Answers a signature with one model call.

    Args:
        signature: A `dspy.Signature` class.
        reasons: Whether the model is asked to write its reasoning before the answer.
    """

    def __init__(self, signature: type[Any], reasons: bool) -> None:
        super().__init__()
        self.answer = dspy.ChainOfThought(signature) if reasons else dspy.Predict(signature)

    def forward(self, **inputs: Any) -> Any:
        return self.answer(**inputs)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a program is built from; building twice gives two equal programs that share nothing."""

    signature: Signature
    module: str

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that an example or a request must give."""
        return self.signature.input_fields

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The fields of a prediction, in the order in which the model writes them."""
        if self.module == "chain_of_thought":
            return (Field(REASONING, FieldType("string")), *self.signature.output_fields)
        return self.signature.output_fields

    def build(self) -> Program:
        """A new program, without demos."""
        return Program(build_signature(self.signature), self.module == "chain_of_thought")


def recipe(signature: Signature, module: str, path: str) -> Recipe:
    """The recipe, or `ValidationError` where the signature and the module do not fit together."""
    if module == "chain_of_thought" and any(field.name == REASONING for field in signature.fields):
        raise ValidationError(
            f"the field `{REASONING}` is written by chain_of_thought itself; rename it, or use the module predict", path
        )
    return Recipe(signature, module)
