"""DSPy signatures from ours, and back into terms.

Knows how field types become Python annotations and how a signature is written for the host. DSPy's string parser,
which imports what a string names, is never called: a `dspy.Signature` is always made from a dict of fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Literal, Optional

import dspy  # type: ignore[import-untyped]

from erlbridge.core.bounds import describe
from erlbridge.core.field_types import FieldType, innermost
from erlbridge.core.modules import module_term
from erlbridge.core.pipelines import Pipeline
from erlbridge.core.schemas import needs_schema, schema_term
from erlbridge.core.signatures import Field, Signature, field_term
from erlbridge.programs.objects import build_model
from erlbridge.wire.vocabulary import atom_keys

REASONING: Final = "reasoning"
"""The output that `chain_of_thought` puts before the signature's own."""

_SCALARS: Final[dict[str, Any]] = {"string": str, "integer": int, "number": float, "boolean": bool, "any": Any}


def annotation(kind: FieldType, name: str = "value") -> Any:
    """The Python type that DSPy's adapters describe to the model and parse its answer into.

    Bounds are left to the field's constraints, which are described to the model: an annotated `str` would be parsed as
    JSON. Inside of objects they are part of the model's schema and are enforced.

    Args:
        name: What the value is; an object's model is called after it.

    >>> annotation(FieldType("list", FieldType("integer")))
    list[int]
    """
    items: Any = Any if kind.items is None or kind.kind == "object" else annotation(kind.items, name)
    match kind.kind:
        case "object":
            return build_model(kind, name)
        case "enum":
            return Literal[kind.values]
        case "list":
            return list[items]
        case "map":
            return dict[str, items]
        case "optional":
            return Optional[items]  # noqa: UP045 - `items` is a value here, `items | None` fails for Any and Literal
        case scalar:
            return _SCALARS[scalar]


def build_signature(signature: Signature) -> type[Any]:
    """The `dspy.Signature` class with these fields, types, descriptions, constraints and instructions."""
    fields: dict[str, tuple[Any, Any]] = {}
    for field in signature.input_fields:
        fields[field.name] = (annotation(field.type, field.name), _described(field, dspy.InputField, asked=False))
    for field in signature.output_fields:
        fields[field.name] = (annotation(field.type, field.name), _described(field, dspy.OutputField, asked=True))
    name = signature.name if signature.name and signature.name.isidentifier() else "Task"
    built: type[Any] = dspy.Signature(fields, _instructions(signature), signature_name=name)
    return built


def _instructions(signature: Signature) -> str:
    """The signature's own, or those that DSPy gives one without, for which it would make a class more each time."""
    if signature.instructions is not None:
        return signature.instructions
    before, between, after = _default_wording()
    inputs, outputs = (
        ", ".join(f"`{field.name}`" for field in side) for side in (signature.input_fields, signature.output_fields)
    )
    return f"{before}{inputs}{between}{outputs}{after}"


@cache
def _default_wording() -> tuple[str, str, str]:
    """DSPy's default instructions, before, between and behind the names of inputs and outputs."""
    one = dspy.Signature({"a": (str, dspy.InputField()), "b": (str, dspy.OutputField())})
    before, _, rest = one.instructions.partition("`a`")
    between, _, after = rest.partition("`b`")
    return before, between, after


def _described(field: Field, make: Callable[..., Any], *, asked: bool) -> Any:
    made = make() if field.description is None else make(desc=field.description)
    constraints = _constraints(field.type, asked=asked)
    if constraints:
        made.json_schema_extra["constraints"] = constraints  # where DSPy's adapters look for them
    return made


def _constraints(kind: FieldType, *, asked: bool) -> str:
    """What the adapter does not say about a type: bounds, and an input's schema (an output's it shows itself)."""
    if not needs_schema(kind) or kind.kind == "enum":
        return ""
    inner = innermost(kind)
    if inner.bounds and inner.items is None:
        return describe(inner.bounds)
    if asked and not _bounded_outside_of_objects(inner):
        return ""
    return f"as in the JSON schema {json.dumps(schema_term(kind), ensure_ascii=False)}"


def _bounded_outside_of_objects(kind: FieldType) -> bool:
    if bool(kind.bounds):
        return True
    return kind.kind != "object" and kind.items is not None and _bounded_outside_of_objects(kind.items)


def signature_term(signature: Signature, name_of: Callable[[str], object] = str) -> dict[object, object]:
    """The signature as a map `%{name, instructions, input_fields, output_fields}` that `parse_signature` reads back.

    Args:
        signature: The signature, with the instructions to show.
        name_of: How a field's name is written; the host's own spelling for results, plain text for artifacts.
    """
    return atom_keys(
        {
            "name": signature.name,
            "instructions": signature.instructions,
            "input_fields": [field_term(field, name_of) for field in signature.input_fields],
            "output_fields": [field_term(field, name_of) for field in signature.output_fields],
        }
    )


def pipeline_term(pipeline: Pipeline) -> dict[object, object]:
    """The pipeline as a map `%{name, steps, outputs}` that `parse_pipeline` reads back, every source written out."""
    return atom_keys(
        {
            "name": pipeline.name,
            "steps": [
                atom_keys(
                    {
                        "name": step.name,
                        "signature": signature_term(step.signature),
                        "module": None if step.module is None else module_term(step.module),
                        "from": {wanted: str(source) for wanted, source in step.sources.items()},
                    }
                )
                for step in pipeline.steps
            ],
            "outputs": [str(source) for _, source in pipeline.outputs],
        }
    )
