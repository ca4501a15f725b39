"""Compiled programs as terms: one envelope, written by us and read back with suspicion.

Knows the envelope's format and what may stand in it. DSPy's own states are not trusted: an `lm` with an `api_base` in
one would send the operator's key to another host, and a state loads without complaint into another signature. So a
state is rebuilt field by field from an allow-list; nothing is unpickled, imported or evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.configs import MODULES, Config
from erlbridge.core.examples import plain as plain_term
from erlbridge.core.examples import read_value
from erlbridge.core.metrics import metric_term
from erlbridge.core.signatures import Field, Signature, parse_signature
from erlbridge.errors import ValidationError
from erlbridge.programs.modules import Program, Recipe, recipe
from erlbridge.programs.predictions import plain, text
from erlbridge.programs.signatures import signature_term
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom_keys

FORMAT: Final = 1

_ENVELOPE: Final = (
    "format", "signature", "module", "optimizer", "config", "state", "scores", "usage", "dataset", "dspy",
)  # fmt: skip
_REQUIRED: Final = ("format", "signature", "module", "state")
_MAX_DEMOS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Predictor:
    """What an optimizer may change in one predictor: its instructions, how its fields are described, its demos."""

    instructions: str
    fields: tuple[tuple[str, str], ...]
    """Prefix and description of each field, inputs first."""
    demos: tuple[Mapping[str, object], ...]
    """Field values; `augmented` beside them marks a demo that bootstrapping wrote."""


State = Mapping[str, Predictor]
"""A program's predictors by DSPy's name of each."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A program that can be built, and its state."""

    recipe: Recipe
    state: State

    def build(self) -> Program:
        """A new program in this state, by way of DSPy's own loader."""
        program = self.recipe.build()
        program.load_state({name: _dspy_state(part) for name, part in self.state.items()})
        return program

    @property
    def instructions(self) -> str:
        """The instructions of the program's predictor."""
        return next(iter(self.state.values())).instructions

    @property
    def demos(self) -> tuple[Mapping[str, object], ...]:
        """The demos of the program's predictor, field values only."""
        found = next(iter(self.state.values())).demos
        return tuple({name: value for name, value in demo.items() if name != "augmented"} for demo in found)

    @property
    def signature(self) -> Signature:
        """The signature with the instructions that the optimizer found."""
        return replace(self.recipe.signature, instructions=self.instructions)


def capture(made: Recipe, state: Mapping[str, Any]) -> Artifact:
    """The artifact of a program's `dump_state()`: what is known by the recipe, everything else left behind.

    A demo with a value that its field's type does not allow (an answer that was no number, say) is left out, so that
    what is written can always be read back.
    """
    known = (*made.inputs, *made.outputs)
    return Artifact(
        made,
        {
            name: Predictor(
                text(part["signature"]["instructions"]),
                tuple((text(field["prefix"]), text(field["description"])) for field in part["signature"]["fields"]),
                tuple(demo for found in part["demos"] if (demo := _capture_demo(dict(found), known)) is not None),
            )
            for name, part in state.items()
        },
    )


def _capture_demo(found: Mapping[str, object], known: tuple[Field, ...]) -> dict[str, object] | None:
    allowed = {"augmented", *(field.name for field in known)}
    try:
        return _read_demo(Place({key: plain(found[key]) for key in found if key in allowed}, "demo"), known)
    except ValidationError:
        return None


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


# -- writing ----------------------------------------------------------------------------------------------------------


def envelope(
    artifact: Artifact,
    *,
    config: Config | None = None,
    scores: Mapping[str, object] | None = None,
    usage: Mapping[str, object] | None = None,
    dataset: str | None = None,
) -> dict[object, object]:
    """The artifact as a term. It names no model, address or key; times are left out, so that the same search on the
    same data has the same id."""
    return atom_keys(
        {
            "format": FORMAT,
            "signature": signature_term(artifact.recipe.signature),
            "module": artifact.recipe.module,
            "optimizer": None if config is None else config.optimizer,
            "config": {} if config is None else _config_term(config),
            "state": {name: _state_term(part) for name, part in artifact.state.items()},
            "scores": atom_keys(scores or {}),
            "usage": atom_keys(usage or {}),
            "dataset": dataset,
            "dspy": dspy.__version__,
        }
    )


def _config_term(config: Config) -> dict[str, object]:
    return {
        "metric": metric_term(config.metric),
        "max_demos": config.max_demos,
        "max_labeled_demos": config.max_labeled_demos,
        "seed": config.seed,
        "options": dict(config.options),
    }


def _state_term(part: Predictor) -> dict[str, object]:
    return {
        "demos": [dict(demo) for demo in part.demos],
        "signature": {
            "instructions": part.instructions,
            "fields": [{"prefix": prefix, "description": description} for prefix, description in part.fields],
        },
    }


def pack(term: object) -> tuple[str, bytes]:
    """The id and the bytes of an envelope: the id is the content's, so equal programs have equal ids."""
    data = term_to_binary(term, deterministic=True)
    return f"program:{hashlib.sha256(data).hexdigest()}", data


def dataset_sha256(examples: Iterable[Mapping[str, object]]) -> str:
    """The name of the training data by its content: what was read, however the host spelled it."""
    return hashlib.sha256(term_to_binary([dict(item) for item in examples], deterministic=True)).hexdigest()


# -- reading ----------------------------------------------------------------------------------------------------------


def unpack(program_id: str, data: bytes) -> Artifact:
    """The artifact of stored bytes. Raises `ValidationError` when they are not what the id names."""
    found = f"program:{hashlib.sha256(data).hexdigest()}"
    if found != program_id:
        raise ValidationError(f"the {len(data)} bytes stored as {program_id} are those of {found}", "program")
    return read_envelope(Place(binary_to_term(data), "program"))


def read_envelope(place: Place) -> Artifact:
    """The artifact that an envelope describes. Raises `ValidationError` with the path of the first thing that may not
    be there, has a wrong type, or belongs to another format or signature."""
    entries = place.only(_ENVELOPE)
    for name in _REQUIRED:
        place.required(entries, name)
    if entries["format"].integer() != FORMAT:
        raise entries["format"].refused(f"the format {FORMAT}")
    if isinstance(entries["signature"].term, bytes | str):
        raise entries["signature"].refused("a map")
    signature = parse_signature(entries["signature"])
    module = entries["module"].choice(MODULES)
    made = recipe(signature, module, place.path)
    for name in set(_ENVELOPE) - set(_REQUIRED):
        if name in entries:
            plain_term(entries[name])  # of no effect on the program, yet data and not too deep
    predictors = [name for name, _ in made.build().named_parameters()]
    state = entries["state"].only(predictors)
    return Artifact(made, {name: _read_predictor(entries["state"].required(state, name), made) for name in predictors})


def _read_predictor(place: Place, made: Recipe) -> Predictor:
    entries = place.only(("demos", "signature"))
    described = place.required(entries, "signature")
    parts = described.only(("instructions", "fields"))
    fields = list(described.required(parts, "fields").items())
    known = (*made.inputs, *made.outputs)
    if len(fields) != len(known):
        raise parts["fields"].refused(f"a list of {len(known)} fields, as in the signature")
    demos = list(place.required(entries, "demos").items())
    if len(demos) > _MAX_DEMOS:
        raise entries["demos"].refused(f"at most {_MAX_DEMOS} demos")
    return Predictor(
        described.required(parts, "instructions").text(),
        tuple(_read_field(field) for field in fields),
        tuple(_read_demo(demo, known) for demo in demos),
    )


def _read_field(place: Place) -> tuple[str, str]:
    entries = place.only(("prefix", "description"))
    return place.required(entries, "prefix").text(), place.required(entries, "description").text()


def _read_demo(place: Place, known: tuple[Field, ...]) -> dict[str, object]:
    types = {field.name: field.type for field in known}
    demo: dict[str, object] = {}
    for name, found in place.only((*types, "augmented")).items():
        demo[name] = found.boolean() if name == "augmented" else read_value(found, types[name])
    return demo
