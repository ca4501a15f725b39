"""Optimized programs as a workflow holds them: what an optimizer changed in a step's program, and nothing else.

Under `dspy_optimized` stand the demos of each predictor, and instructions and fields where they are not those of the
step's signature; the instructions of a program with one predictor stand in the signature itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.configs import Config, parse_config
from erlbridge.core.datasets import Dataset
from erlbridge.core.examples import plain as plain_term
from erlbridge.core.problems import said
from erlbridge.core.signatures import Signature, parse_signature
from erlbridge.core.workflow import Step
from erlbridge.core.workflow_edit import Edit
from erlbridge.errors import ValidationError
from erlbridge.programs.artifacts import Artifact, Predictor
from erlbridge.programs.envelopes import envelope, pack, unpack
from erlbridge.programs.predictions import plain
from erlbridge.programs.signatures import REASONING, signature_term
from erlbridge.programs.work import resolve
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom

_NOT_THE_SEARCH = (
    "lm", "prompt_lm", "teacher_lm", "budget", "num_threads", "cache", "call_timeout_ms",
)  # fmt: skip
"""What of a config decides who answers and how fast, not what is searched for."""


def made_from(step: Step, data: Sequence[list[object] | Dataset | None], config: Mapping[str, object]) -> str:
    """What an optimization's result depends on, as a hash: fields, examples, and how it searches; not instructions,
    which the optimization itself may write."""
    fields = step.signature_term
    if isinstance(fields, Mapping):
        fields = {name: value for name, value in fields.items() if name not in ("instructions", "description")}
    search = {name: value for name, value in config.items() if name not in _NOT_THE_SEARCH}
    # A dataset's name stands for its examples; reading them all for this would take longer than some optimizations.
    named = [part.identity if isinstance(part, Dataset) else part for part in data]
    known = [plain_term(Place(part, "optimization")) for part in (fields, named, search)]
    return f"sha256:{hashlib.sha256(term_to_binary(known, deterministic=True)).hexdigest()}"


def edit(step: Step, signature: Signature, program_id: str, program: bytes, source: str) -> Edit | None:
    """How an optimized program is written into its step; None for an ensemble, which has no place there."""
    term = _envelope(program)
    if "signature" not in term:
        return None
    optimized = unpack(program_id, program)
    fresh = _fresh(signature, term["module"])
    predictors, instructions = {}, None
    for name, part in optimized.state.items():
        block: dict[str, object] = {"demos": [_in_order(demo, signature) for demo in part.demos]}
        before = fresh.state[name]
        if part.fields != before.fields:
            block["fields"] = [{"prefix": prefix, "description": text} for prefix, text in part.fields]
        if part.instructions != before.instructions:
            if len(optimized.state) == 1:
                instructions = part.instructions
            else:
                block["instructions"] = part.instructions
        predictors[name] = block
    scores = term["scores"]
    beside = {"examples": term["examples"]} if "examples" in term else {}  # what a module such as knn answers by
    return Edit(
        step,
        instructions,
        _without_none(plain_term(Place(signature_term(replace(signature, instructions=instructions)), "signature"))),
        {
            "made_from": source,
            "program_id": program_id,
            "optimizer": term["optimizer"],
            "module": term["module"],
            "score_before": scores["score_before"],
            "score_after": scores["score_after"],
            "predictors": predictors,
            **beside,
        },
    )


def optimized_program(step: Step, module: object) -> tuple[str, bytes]:
    """The program that a step's `dspy_optimized` describes, with its id. Raises `ValidationError` with the path.

    Args:
        module: The module of a block that names none.
    """
    assert step.optimized is not None  # noqa: S101 - who asks has looked
    place, path = step.optimized, step.optimized.path
    entries = place.entries()
    given = entries.get("module")
    signature = parse_signature(Place(step.signature_term, f"{step.place.path}.{step.signature_key}"))
    fresh = _fresh(signature, module if given is None else given.term, f"{path}.module")
    predictors = entries["predictors"].only(fresh.state)
    state = {name: _predictor(predictors.get(name), part) for name, part in fresh.state.items()}
    term = envelope(replace(fresh, state=state))
    if "examples" in entries:
        term[atom("examples")] = entries["examples"].term
    program_id, program = pack(term)
    try:
        unpack(program_id, program)  # which reads every demo by its fields' types
    except ValidationError as error:
        inner = error.path.removeprefix("program").replace(".state.", ".predictors.").replace(".signature.", ".")
        raise ValidationError(said(error), f"{path}{inner}") from None
    return program_id, program


def _predictor(place: Place | None, fresh: Predictor) -> Predictor:
    if place is None:
        return fresh
    entries = place.entries()
    demos = entries["demos"].items() if "demos" in entries else iter(())
    fields = fresh.fields
    if "fields" in entries:
        fields = tuple(
            (found.required(parts, "prefix").text(), found.required(parts, "description").text())
            for found in entries["fields"].items()
            for parts in [found.only(("prefix", "description"))]
        )
    instructions = entries["instructions"].text() if "instructions" in entries else fresh.instructions
    return Predictor(instructions, fields, tuple(_entries(demo) for demo in demos))


def _entries(place: Place) -> dict[str, object]:
    return {name: found.term for name, found in place.entries().items()}


def _in_order(demo: Mapping[str, object], signature: Signature) -> object:
    """A demo as one reads it: inputs, what was thought of them, outputs, and that it was bootstrapped."""
    names = [*(item.name for item in signature.input_fields), REASONING]
    names += [item.name for item in signature.output_fields]
    return plain({name: demo[name] for name in sorted(demo, key=[*names, *demo].index)})


def _fresh(signature: Signature, module: object, path: str = "module") -> Artifact:
    """The program of a signature that no optimizer has seen."""
    return resolve(signature, _config(module, path), {})


def _config(module: object, path: str) -> Config:
    try:
        return parse_config(Place({"lm": "offline", "module": module}, "config"), None, count=1, outputs=None)
    except ValidationError as error:
        raise ValidationError(said(error), path) from None


def _envelope(program: bytes) -> dict[str, Any]:

    term = plain_term(Place(binary_to_term(program), "program"))
    assert isinstance(term, dict)  # noqa: S101 - `optimize` has just written it
    return term


def _without_none(value: object) -> Any:
    match value:
        case Mapping():
            return {key: _without_none(item) for key, item in value.items() if item is not None}
        case list():
            return [_without_none(item) for item in value]
        case _:
            return value
