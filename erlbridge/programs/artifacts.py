"""Compiled programs as terms: one envelope, written by us and read back with suspicion.

Knows the envelope's format and what may stand in it. DSPy's own states are not trusted: an `lm` with an `api_base` in
one would send the operator's key to another host, and a state loads without complaint into another signature. So a
state is rebuilt field by field from an allow-list; nothing is unpickled, imported or evaluated.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.codec import binary_to_term, tags, term_to_binary
from erlbridge.core.configs import Config
from erlbridge.core.ensembles import parse_members, parse_reduction
from erlbridge.core.examples import plain as plain_term
from erlbridge.core.examples import read_fields, read_value
from erlbridge.core.metrics import metric_term
from erlbridge.core.modules import PREDICT, module_term, parse_module
from erlbridge.core.pipelines import parse_pipeline
from erlbridge.core.signatures import Field, Signature, check_signature, parse_signature
from erlbridge.errors import BridgeError, ValidationError
from erlbridge.programs.ensembles import EnsembleRecipe, ensemble_recipe
from erlbridge.programs.modules import Blueprint, Recipe, recipe
from erlbridge.programs.pipelines import PipelineRecipe
from erlbridge.programs.predictions import plain, text
from erlbridge.programs.signatures import pipeline_term, signature_term
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom_keys

FORMAT: Final = 1

_LIST: Final = struct.Struct(">BBI")
"""How the term of a list begins: the format's version, the list's tag, and how many elements it has."""

_ABOUT: Final = ("optimizer", "config", "scores", "usage", "dataset", "dspy")
"""What an envelope says about how its program came to be; of no effect on the program."""

_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "signature": ("module", "state", "examples"),
    "pipeline": ("state", "examples"),
    "members": ("reduce",),
}
"""The kinds of programs by the key that makes one, and the keys beside it."""

_MAX_DEMOS: Final = 10_000
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})")


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

    def build(self) -> Any:
        """A new program in this state, by way of DSPy's own loader."""
        program = self.recipe.build()
        program.load_state({name: _dspy_state(part) for name, part in self.state.items()})
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
    return capture(made, made.build().dump_state(), made.signature.warnings)


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
    predictors = dict(made.build().named_parameters())
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
            **_program_term(artifact),
            "optimizer": None if config is None else config.optimizer,
            "config": {} if config is None else _config_term(config),
            "scores": atom_keys(scores or {}),
            "usage": atom_keys(usage or {}),
            "dataset": dataset,
        }
    )


def _program_term(artifact: Artifact) -> dict[str, object]:
    """What of an envelope makes the program."""
    made = artifact.recipe
    term: dict[str, object] = {"format": FORMAT, "dspy": dspy.__version__}
    match made:
        case Recipe():
            term |= {"signature": signature_term(made.signature), "module": module_term(made.module)}
        case PipelineRecipe():
            term |= {"pipeline": pipeline_term(made.pipeline)}
        case EnsembleRecipe():
            members = [atom_keys(_program_term(member)) for member in members_of(artifact)]
            return term | {"members": members, "reduce": made.reduce}
        case other:
            raise AssertionError(f"{type(other).__name__} is not written here")
    if made.examples:
        term["examples"] = [dict(example) for example in made.examples]
    return term | {"state": {name: _state_term(part) for name, part in artifact.state.items()}}


def _config_term(config: Config) -> dict[str, object]:
    return {
        "metric": metric_term(config.metric),
        "max_demos": config.max_demos,
        "max_labeled_demos": config.max_labeled_demos,
        "seed": config.seed,
        "options": {name: value for name, value in config.options.items() if name != "programs"},  # they are members
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


class DatasetSum:
    """Names training data by its content: what was read, however the host spelled it. It is the SHA-256 of a list of
    the examples as a term, which is never built.

    >>> summed = DatasetSum(1)
    >>> summed.add({"a": 1})
    >>> summed.hexdigest() == hashlib.sha256(term_to_binary([{"a": 1}])).hexdigest()
    True
    """

    def __init__(self, examples: int) -> None:
        self._sum = hashlib.sha256(_LIST.pack(tags.VERSION_MAGIC, tags.LIST_EXT, examples))

    def add(self, example: Mapping[str, object]) -> None:
        """The next example."""
        self._sum.update(term_to_binary(dict(example), deterministic=True)[1:])

    def hexdigest(self) -> str:
        """The digits, once all examples have been added."""
        whole = self._sum.copy()
        whole.update(bytes((tags.NIL_EXT,)))
        return whole.hexdigest()


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
    artifact, about = _read_program(place, ensembles=True)
    for name in _ABOUT:
        if name in about:
            plain_term(about[name])  # data, and not too deep
    return artifact


def _read_program(place: Place, *, ensembles: bool) -> tuple[Artifact, dict[str, Place]]:
    entries = place.entries()
    kinds = [name for name in _KINDS if name in entries]
    if len(kinds) != 1:
        raise ValidationError(f"expected one of the keys {', '.join(_KINDS)}", place.path)
    place.only(("format", *_ABOUT, kinds[0], *_KINDS[kinds[0]]))
    if place.required(entries, "format").integer() != FORMAT:
        raise entries["format"].refused(f"the format {FORMAT}")
    warning = _version_warning(entries)
    try:
        artifact = _read_kind(kinds[0], place, entries, ensembles=ensembles)
    except BridgeError as error:
        if warning is not None:
            raise ValidationError(f"{warning}, and does not fit: {error.message}", place.path) from error
        raise
    return (artifact if warning is None else replace(artifact, warnings=(*artifact.warnings, warning))), entries


def _version_warning(entries: Mapping[str, Place]) -> str | None:
    """What to say about a program that another minor of DSPy made: its states may mean something else there. It loads
    all the same when every part of it fits."""
    if "dspy" not in entries or entries["dspy"].term is None:
        return None
    found = entries["dspy"].text()
    made, here = _VERSION.match(found), _VERSION.match(dspy.__version__)
    if made is None:
        raise entries["dspy"].refused("a version of DSPy")
    if here is not None and made.groups() == here.groups():
        return None
    return f"the program was made under DSPy {found[:20]}, this node has {dspy.__version__}"


def _read_kind(kind: str, place: Place, entries: dict[str, Place], *, ensembles: bool) -> Artifact:
    if kind == "members":
        if not ensembles:
            raise ValidationError("an ensemble cannot be a member of one", place.path)
        members = [
            (member.path, _read_program(member, ensembles=False)[0]) for member in parse_members(entries["members"])
        ]
        return joined(members, parse_reduction(entries))
    made = _read_recipe(place, entries) if kind == "signature" else _read_pipeline(entries["pipeline"])
    if "examples" in entries:
        rows = list(entries["examples"].items())
        made = made.learned([read_fields(row.only(_names(made)), made.signature.fields, row.path) for row in rows])
    state = place.required(entries, "state")
    predictors = dict(made.build().named_parameters())
    parts = state.only(predictors)
    return Artifact(
        made,
        {
            name: _read_predictor(state.required(parts, name), made.fields_of(name, predictor))
            for name, predictor in predictors.items()
        },
        made.signature.warnings,
    )


def _names(made: Blueprint) -> list[str]:
    return [item.name for item in made.signature.fields]


def _read_recipe(place: Place, entries: dict[str, Place]) -> Blueprint:
    written = entries["signature"]
    if isinstance(written.term, bytes | str):
        raise written.refused("a map")
    signature = parse_signature(written)
    check_signature(signature, written.path)
    return recipe(signature, parse_module(place.required(entries, "module")), place.path)


def _read_pipeline(place: Place) -> Blueprint:
    pipeline = parse_pipeline(place)
    for index, step in enumerate(pipeline.steps):
        check_signature(step.signature, f"{place.path}.steps[{index}].signature")
    return PipelineRecipe(pipeline.with_module(PREDICT, place.path))


def _read_predictor(place: Place, known: tuple[Field, ...]) -> Predictor:
    entries = place.only(("demos", "signature"))
    described = place.required(entries, "signature")
    parts = described.only(("instructions", "fields"))
    fields = list(described.required(parts, "fields").items())
    if len(fields) != len(known):
        raise parts["fields"].refused(f"a list of {len(known)} fields, as in the signature")
    demos = list(place.required(entries, "demos").items())
    if len(demos) > _MAX_DEMOS:
        raise entries["demos"].refused(f"at most {_MAX_DEMOS} demos")
    return Predictor(
        described.required(parts, "instructions").text(),
        tuple(_read_field(item) for item in fields),
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
