"""DSPy signatures from ours, and back into terms.

Knows how field types become Python annotations and how a signature is written for the host. DSPy's string parser,
which imports what a string names, is never called: a `dspy.Signature` is always made from a dict of fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, Optional

import dspy  # type: ignore[import-untyped]

from erlbridge.core.signatures import Field, FieldType, Signature
from erlbridge.wire.vocabulary import atom_keys

REASONING: Final = "reasoning"
"""The output that `chain_of_thought` puts before the signature's own."""

_SCALARS: Final[dict[str, Any]] = {"string": str, "integer": int, "number": float, "boolean": bool, "any": Any}


def annotation(kind: FieldType) -> Any:
    """The Python type that DSPy's adapters describe to the model and parse its answer into.

    >>> annotation(FieldType("list", FieldType("integer")))
    list[int]
    """
    items: Any = Any if kind.items is None else annotation(kind.items)
    match kind.kind:
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
    """The `dspy.Signature` class with these fields, types, descriptions and instructions."""
    fields: dict[str, tuple[Any, Any]] = {}
    for field in signature.input_fields:
        fields[field.name] = (annotation(field.type), dspy.InputField(**_description(field)))
    for field in signature.output_fields:
        fields[field.name] = (annotation(field.type), dspy.OutputField(**_description(field)))
    name = signature.name if signature.name and signature.name.isidentifier() else "Task"
    built: type[Any] = dspy.Signature(fields, signature.instructions, signature_name=name)
    return built


def _description(field: Field) -> dict[str, str]:
    return {} if field.description is None else {"desc": field.description}


def type_text(kind: FieldType) -> str:
    """A type as `core.signatures.parse_type` reads it; an enum is only named, its values stand beside it.

    >>> type_text(FieldType("map", FieldType("optional", FieldType("number"))))
    'dict[string, optional[number]]'
    """
    inner = "any" if kind.items is None else type_text(kind.items)
    match kind.kind:
        case "list":
            return f"list[{inner}]"
        case "map":
            return f"dict[string, {inner}]"
        case "optional":
            return f"optional[{inner}]"
        case scalar:
            return scalar


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
            "input_fields": [_field_term(field, name_of) for field in signature.input_fields],
            "output_fields": [_field_term(field, name_of) for field in signature.output_fields],
        }
    )


def _field_term(field: Field, name_of: Callable[[str], object]) -> dict[object, object]:
    values = list(field.type.values) if field.type.kind == "enum" else None
    term = {
        "name": name_of(field.name),
        "type": type_text(field.type),
        "description": field.description,
        "enum": values,
    }
    if _hides_enum(field.type):
        term["schema"] = _schema(field.type)
    return atom_keys(term)


def _hides_enum(kind: FieldType) -> bool:
    """Whether an enum stands inside of a list, where the type's text cannot show its values."""
    return kind.items is not None and (kind.items.kind == "enum" or _hides_enum(kind.items))


def _schema(kind: FieldType) -> dict[str, object]:
    if kind.kind == "enum":
        return {"enum": list(kind.values)}
    if kind.kind == "list" and kind.items is not None:
        return {"type": "list", "items": _schema(kind.items)}
    return {"type": type_text(kind)}
