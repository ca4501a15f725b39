"""Signatures as the host writes them: a map of fields, or a safe `"question, context: list[string] -> answer: float"`.

Knows fields and types as values; evaluates nothing, imports no DSPy. `programs.signatures` turns these into DSPy's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_ENUM_VALUES, MAX_SIGNATURE_CHARACTERS
from erlbridge.wire.place import Place, nearest

_SCALARS: Final = {
    "string": "string", "str": "string", "text": "string",
    "integer": "integer", "int": "integer",
    "number": "number", "float": "number",
    "boolean": "boolean", "bool": "boolean",
    "array": "list", "list": "list",
    "object": "map", "dict": "map", "map": "map",
    "any": "any",
}  # fmt: skip
_CONTAINERS: Final = {
    "list": "list",
    "array": "list",
    "dict": "map",
    "map": "map",
    "object": "map",
    "optional": "optional",
}
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_RESERVED: Final = frozenset(
    # Names that DSPy's Predict, Module, Signature and Example, and pydantic below them, take for themselves; they
    # refuse or, worse, shadow them. A test runs a program with every name that these classes know.
    (
        "config", "lm", "signature", "demos", "augmented", "self", "instructions", "fields", "input_fields",
        "output_fields", "base", "completions", "dspy_split", "dspy_uuid", "instance", "new_signature", "model_config",
        "model_fields", "model_dump", "model_dump_json", "model_validate", "model_validate_json",
        "model_validate_strings",
    )
)  # fmt: skip
_FIELD_KEYS: Final = (
    "name",
    "type",
    "description",
    "schema",
    "enum",
    "template",
    "validation",
    "constraints",
    "required",
)
_SIGNATURE_KEYS: Final = ("name", "instructions", "description", "input_fields", "output_fields")
_MAX_FIELDS: Final = 64
_MAX_TYPE_DEPTH: Final = 16


@dataclass(frozen=True, slots=True)
class FieldType:
    """A field's type. `kind` is string, integer, number, boolean, list, map, optional, enum or any.

    `items` is the element type of a list, the value type of a map, or what an optional wraps; `values` an enum's.
    """

    kind: str = "string"
    items: FieldType | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature."""

    name: str
    type: FieldType = FieldType()
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out, and how the task is described."""

    input_fields: tuple[Field, ...]
    output_fields: tuple[Field, ...]
    instructions: str | None = None
    name: str | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """Inputs, then outputs."""
        return self.input_fields + self.output_fields


def parse_signature(place: Place) -> Signature:
    """The signature at a place: a map, or text with an arrow. Raises `ValidationError` with the path."""
    if isinstance(place.term, bytes | str):
        return _parse_text(place)
    entries = place.only(_SIGNATURE_KEYS)
    inputs = _parse_fields(entries, "input_fields", place)
    outputs = _parse_fields(entries, "output_fields", place)
    instructions = entries.get("instructions") or entries.get("description")
    name = entries.get("name")
    return _checked(
        Signature(
            inputs,
            outputs,
            None if instructions is None or instructions.term is None else instructions.text(),
            None if name is None or name.term is None else name.name(),
        ),
        place,
    )


def _parse_fields(entries: dict[str, Place], key: str, parent: Place) -> tuple[Field, ...]:
    place = parent.required(entries, key)
    count = len(place.elements())
    if count == 0:
        raise place.refused("at least one field")
    if count > _MAX_FIELDS:
        raise place.refused(f"at most {_MAX_FIELDS} fields")
    return tuple(parse_field(item) for item in place.items())


def parse_field(place: Place) -> Field:
    """The field at a place: a name, or a map of name, type and description. Raises `ValidationError` with the path."""
    if not isinstance(place.term, Mapping):
        return Field(place.name())
    entries = place.only(_FIELD_KEYS)
    description = entries.get("description")
    return Field(
        place.required(entries, "name").name(),
        _parse_field_type(entries),
        None if description is None or description.term is None else description.text(),
    )


def _parse_field_type(entries: dict[str, Place]) -> FieldType:
    enum = entries.get("enum")
    schema = entries.get("schema")
    declared = entries.get("type")
    if enum is not None and enum.term is not None:
        return _parse_enum(enum)
    if schema is not None and schema.term is not None:
        return _parse_schema(schema, _MAX_TYPE_DEPTH)
    if declared is None or declared.term is None:
        return FieldType()
    if declared.name() == "enum":
        raise declared.refused("`enum` beside the type, a list of the allowed values")
    return parse_type(declared.name(), declared.path)


def _parse_enum(place: Place) -> FieldType:
    if len(place.elements()) > MAX_ENUM_VALUES:
        raise place.refused(f"at most {MAX_ENUM_VALUES} values")
    values = tuple(value.name() for value in place.items())
    if not values or len(set(values)) != len(values):
        raise place.refused("a list of distinct values")
    return FieldType("enum", values=values)


def _parse_schema(place: Place, depth: int) -> FieldType:
    """The part of JSON Schema that decides a Python type: `enum`, `type` and `items`; a map's inside stays open."""
    if depth == 0:
        raise place.refused(f"a schema nested at most {_MAX_TYPE_DEPTH} deep")
    entries = place.entries()
    if "enum" in entries:
        return _parse_enum(entries["enum"])
    if "type" not in entries:
        return FieldType("map") if "properties" in entries else FieldType("any")
    kind = parse_type(entries["type"].name(), entries["type"].path)
    if kind.kind == "list" and "items" in entries:
        return FieldType("list", _parse_schema(entries["items"], depth - 1))
    return kind


def parse_type(text: str, path: str, depth: int = _MAX_TYPE_DEPTH) -> FieldType:
    """A type as the host writes it: `string`, `list[string]`, `dict[string, number]`, `optional[integer]` …

    Nothing is imported or evaluated; what is not in the table is refused.
    """
    text = text.strip()
    if depth == 0:
        raise ValidationError(f"expected a type nested at most {_MAX_TYPE_DEPTH} deep, got `{text[:60]}`", path)
    if text in _SCALARS:
        return FieldType(_SCALARS[text])
    head, bracket, rest = text.partition("[")
    container = _CONTAINERS.get(head.strip())
    if bracket and rest.endswith("]") and container is not None:
        inner = rest[:-1]
        if container == "map":
            keys, comma, inner = inner.partition(",")
            if not comma or keys.strip() not in ("string", "str"):
                raise ValidationError(f"expected `dict[string, TYPE]`, got `{text[:60]}`", path)
        return FieldType(container, parse_type(inner, path, depth - 1))
    known = [*_SCALARS, "list[TYPE]", "dict[string, TYPE]", "optional[TYPE]"]
    raise ValidationError(f"unknown type `{text[:60]}`{nearest(text, known)}; known are {', '.join(known)}", path)


def _parse_text(place: Place) -> Signature:
    text = place.text()
    if len(text) > MAX_SIGNATURE_CHARACTERS:
        raise place.refused(f"at most {MAX_SIGNATURE_CHARACTERS} characters")
    inputs, arrow, outputs = text.partition("->")
    if not arrow or "->" in outputs:
        raise place.refused('"inputs -> outputs" with one arrow')
    return _checked(Signature(_parse_side(inputs, place), _parse_side(outputs, place)), place)


def _parse_side(text: str, place: Place) -> tuple[Field, ...]:
    fields = []
    for part in _split_top_level(text):
        name, colon, declared = part.partition(":")
        if not name.strip():
            raise place.refused("a name between the commas on each side of the arrow")
        kind = parse_type(declared, place.path) if colon else FieldType()
        fields.append(Field(name.strip(), kind))
    if len(fields) > _MAX_FIELDS:
        raise place.refused(f"at most {_MAX_FIELDS} fields on each side")
    return tuple(fields)


def _split_top_level(text: str) -> list[str]:
    """Splits at commas that stand outside of brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _checked(signature: Signature, place: Place) -> Signature:
    seen: set[str] = set()
    for field in signature.fields:
        if not _IDENTIFIER.match(field.name):
            raise ValidationError(
                f"field name `{field.name[:60]}`: expected a letter, then letters, digits and underscores", place.path
            )
        if field.name in _RESERVED:
            raise ValidationError(f"field name `{field.name}` is taken by DSPy itself; choose another", place.path)
        if field.name in seen:
            raise ValidationError(f"field name `{field.name}` is there twice", place.path)
        seen.add(field.name)
    return signature
