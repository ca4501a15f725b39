"""Compiled programs as terms and bytes: one envelope, written by us and read back with suspicion.

Knows the envelope's format and what may stand in it. Nothing that it holds is unpickled, imported or evaluated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import dspy  # type: ignore[import-untyped]

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.configs import Config
from erlbridge.core.ensembles import parse_members, parse_reduction
from erlbridge.core.examples import plain as plain_term
from erlbridge.core.examples import read_fields
from erlbridge.core.metrics import metric_term
from erlbridge.core.modules import PREDICT, module_term, parse_module
from erlbridge.core.pipelines import parse_pipeline
from erlbridge.core.signatures import Field, check_signature, parse_signature
from erlbridge.errors import BridgeError, ValidationError
from erlbridge.programs.artifacts import Artifact, Predictor, joined, members_of, read_demo
from erlbridge.programs.ensembles import EnsembleRecipe
from erlbridge.programs.modules import Blueprint, Recipe, recipe
from erlbridge.programs.pipelines import PipelineRecipe
from erlbridge.programs.signatures import pipeline_term, signature_term
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom_keys

FORMAT: Final = 1

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
        tuple(read_demo(demo, known) for demo in demos),
    )


def _read_field(place: Place) -> tuple[str, str]:
    entries = place.only(("prefix", "description"))
    return place.required(entries, "prefix").text(), place.required(entries, "description").text()
