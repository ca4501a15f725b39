"""Compiled programs as values: a recipe, and what an optimizer changed in each of its predictors.

DSPy's own states are not trusted: an `lm` with an `api_base` in one would send the operator's key to another host, and
a state loads without complaint into another signature. So a state is rebuilt field by field from an allow-list. As
bytes and terms artifacts are written and read in `envelopes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dspy  # type: ignore[import-untyped]

from erlbridge.core.examples import read_value
from erlbridge.core.signatures import Field, Signature
from erlbridge.errors import ValidationError
from erlbridge.programs.ensembles import EnsembleRecipe, ensemble_recipe
from erlbridge.programs.modules import Blueprint
from erlbridge.programs.predictions import plain, text
from erlbridge.wire.place import Place


@dataclass(frozen=True, slots=True)
class Predictor:
    """What an optimizer may change in one predictor: its instructions, how its fields are described, its demos."""

    instructions: str
    fields: tuple[tuple[str, str], ...]
    """Prefix and description of each field, inputs first."""
    demos: tuple[Mapping[str, object], ...]
    """Field values; `augmented` beside them marks a demo that bootstrapping wrote."""

    @property
    def shown_demos(self) -> tuple[Mapping[str, object], ...]:
        """The demos, field values only."""
        return tuple({name: value for name, value in demo.items() if name != "augmented"} for demo in self.demos)


State = Mapping[str, Predictor]
"""A program's predictors by DSPy's name of each."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A program that can be built, and its state. `warnings` are what the host should know about it."""

    recipe: Blueprint
    state: State
    warnings: tuple[str, ...] = field(default=(), compare=False)
    _built: list[Any] = field(init=False, default_factory=list, compare=False, repr=False)
    """The program that the state was read from, where it has been made for that alone: for whoever builds first. Making
    the classes of its signatures is much of what a prediction takes."""

    def build(self) -> Any:
        """A new program in this state, by way of DSPy's own loader."""
        if self._built:
            return self._built.pop()
        program = self.recipe.build()
        state = {name: _dspy_state(part) for name, part in self.state.items()}
        if state != program.dump_state():  # to load it makes two classes of each signature, milliseconds of work
            program.load_state(state)
        return program

    @property
    def instructions(self) -> str:
        """The instructions of the program's first predictor."""
        return next(iter(self.state.values())).instructions

    @property
    def demos(self) -> tuple[Mapping[str, object], ...]:
        """The demos of the program's first predictor, field values only."""
        return next(iter(self.state.values())).shown_demos

    @property
    def signature(self) -> Signature:
        """The signature with the instructions that the optimizer found."""
        return replace(self.recipe.signature, instructions=self.instructions)

    def learned(self, examples: Sequence[Mapping[str, object]]) -> Artifact:
        """The artifact with the training data, where its modules answer by it."""
        return replace(self, recipe=self.recipe.learned(examples))


def fresh(made: Blueprint) -> Artifact:
    """The artifact of a program that no optimizer has seen."""
    program = made.build()
    artifact = _captured(made, program, program.dump_state(), made.signature.warnings)
    artifact._built.append(program)
    return artifact


def joined(members: Sequence[tuple[str, Artifact]], reduce: str) -> Artifact:
    """The ensemble of these artifacts, each with its path. Raises `ValidationError` when they do not fit together."""
    made = ensemble_recipe([(path, member.recipe) for path, member in members], reduce)
    state = {
        f"members[{number}].{name}": part
        for number, (_, member) in enumerate(members)
        for name, part in member.state.items()
    }
    return Artifact(made, state, tuple(warning for _, member in members for warning in member.warnings))


def members_of(artifact: Artifact) -> tuple[Artifact, ...]:
    """The artifacts that an ensemble was joined of; none for any other program."""
    if not isinstance(artifact.recipe, EnsembleRecipe):
        return ()
    return tuple(
        Artifact(
            member,
            {
                name.removeprefix(f"members[{number}]."): part
                for name, part in artifact.state.items()
                if name.startswith(f"members[{number}].")
            },
        )
        for number, member in enumerate(artifact.recipe.members)
    )


def capture(made: Blueprint, state: Mapping[str, Any], warnings: tuple[str, ...] = ()) -> Artifact:
    """The artifact of a program's `dump_state()`: what is known by the recipe, everything else left behind.

    A demo with a value that its field's type does not allow (an answer that was no number, say) is left out, so that
    what is written can always be read back. So is one without an input or an output of its predictor, as labeled demos
    give to the inner steps of a pipeline: it shows nothing.
    """
    return _captured(made, made.build(), state, warnings)


def _captured(made: Blueprint, program: Any, state: Mapping[str, Any], warnings: tuple[str, ...]) -> Artifact:
    """The same, where a program of the recipe is there."""
    predictors = dict(program.named_parameters())
    return Artifact(
        made,
        {name: _capture_predictor(part, made, name, predictors[name]) for name, part in state.items()},
        warnings,
    )


def _capture_predictor(part: Mapping[str, Any], made: Blueprint, name: str, predictor: Any) -> Predictor:
    known = made.fields_of(name, predictor)
    sides = (set(predictor.signature.input_fields), set(predictor.signature.output_fields))
    demos = (_capture_demo(dict(found), known) for found in part["demos"])
    return Predictor(
        text(part["signature"]["instructions"]),
        tuple((text(item["prefix"]), text(item["description"])) for item in part["signature"]["fields"]),
        tuple(demo for demo in demos if demo is not None and all(side & set(demo) for side in sides)),
    )


def _capture_demo(found: Mapping[str, object], known: tuple[Field, ...]) -> dict[str, object] | None:
    allowed = {"augmented", *(field.name for field in known)}
    try:
        return read_demo(Place({key: plain(found[key]) for key in found if key in allowed}, "demo"), known)
    except ValidationError:
        return None


def read_demo(place: Place, known: tuple[Field, ...]) -> dict[str, object]:
    """A demo of a predictor with these fields, some of which it may lack. Raises `ValidationError` with the path."""
    types = {field.name: field.type for field in known}
    demo: dict[str, object] = {}
    for name, found in place.only((*types, "augmented")).items():
        demo[name] = found.boolean() if name == "augmented" else read_value(found, types[name])
    return demo


def _dspy_state(part: Predictor) -> dict[str, Any]:
    return {
        "traces": [],
        "train": [],
        "demos": [dspy.Example(dict(demo)) for demo in part.demos],
        "signature": {
            "instructions": part.instructions,
            "fields": [{"prefix": prefix, "description": description} for prefix, description in part.fields],
        },
        "lm": None,
    }
