"""The part of JSON Schema that says what a value may be, read into types and written again.

Taken are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `items`, `anyOf` of one type and
null, and the bounds. What only describes (`title`, `default`, `format` …) is passed over; what would change the meaning
and is not known (`$ref`, `oneOf`, `not` …) is refused, so that no value is checked less than the host believes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from erlbridge.core.bounds import KEYWORDS, bounds_term, parse_bounds
from erlbridge.core.field_types import (
    ANY,
    MAX_TYPE_DEPTH,
    FieldType,
    Property,
    Reading,
    bounded,
    innermost,
    optional,
)
from erlbridge.core.type_text import parse_type, type_text
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_ENUM_VALUES
from erlbridge.wire.place import Place, given

MAX_PROPERTY_CHARACTERS: Final = 128
"""Longest name of an object's entry."""

_PASSED: Final = (
    "title", "default", "examples", "format", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment",
)  # fmt: skip
_KNOWN: Final = (
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf", "nullable",
    "description", *KEYWORDS, *_PASSED,
)  # fmt: skip
_REFERENCES: Final = ("$ref", "$defs", "definitions", "$dynamicRef", "$recursiveRef")


def parse_enum(place: Place) -> FieldType:
    """An enum of texts and integers; with nil among them it is optional."""
    if len(place.elements()) > MAX_ENUM_VALUES:
        raise place.refused(f"at most {MAX_ENUM_VALUES} values")
    values = tuple(_enum_value(value) for value in place.items() if value.term is not None)
    if not values or len(set(values)) != len(values):
        raise place.refused("a list of distinct values")
    kind = FieldType("enum", values=values)
    return optional(kind) if len(values) < len(place.elements()) else kind


def _enum_value(place: Place) -> str | int:
    if isinstance(place.term, int) and not isinstance(place.term, bool):
        return place.integer(minimum=-(2**63), maximum=2**63)
    return place.name()


def parse_schema(place: Place, reading: Reading, depth: int = MAX_TYPE_DEPTH) -> FieldType:
    """The type that a schema describes. Raises `ValidationError` with the path of what cannot be taken."""
    if depth == 0:
        raise ValidationError(f"expected a schema nested at most {MAX_TYPE_DEPTH} deep", place.path)
    entries = place.entries()
    if not given(entries, "type"):
        reading.part(place.path)  # else its type is counted where it is read
    for name in _REFERENCES:
        if name in entries:
            raise ValidationError(f"`{name}` is not followed; write the type out where it is used", place.path)
    place.only(_KNOWN)
    kind = _parse_kind(place, entries, reading, depth)
    if given(entries, "nullable") and entries["nullable"].boolean():
        kind = optional(kind)
    return kind


def _parse_kind(place: Place, entries: dict[str, Place], reading: Reading, depth: int) -> FieldType:
    if given(entries, "enum"):
        return parse_enum(entries["enum"])
    if given(entries, "const"):
        return FieldType("enum", values=(_enum_value(entries["const"]),))
    if given(entries, "anyOf"):
        return _parse_any_of(entries["anyOf"], reading, depth)
    kind, nullable = _declared(entries, reading)
    if innermost(kind).kind == "map" and innermost(kind).items is None:
        kind = _parse_object(entries, reading, depth)
    elif kind == FieldType("list") and given(entries, "items"):
        kind = FieldType("list", parse_schema(entries["items"], reading, depth - 1))
    bounds = parse_bounds(entries, innermost(kind), reading, place.path)
    kind = bounded(kind, bounds) if bounds else kind
    return optional(kind) if nullable else kind


def _declared(entries: dict[str, Place], reading: Reading) -> tuple[FieldType, bool]:
    """What `type` says, and whether it takes null as well (`["string", "null"]`)."""
    if not given(entries, "type"):
        return (FieldType("map") if given(entries, "properties") else ANY), False
    declared = entries["type"]
    if not isinstance(declared.term, list):
        return parse_type(declared.name(), declared.path, reading), False
    names = [(item.name() if item.term is not None else "null", item.path) for item in declared.items()]
    kinds = [(name, path) for name, path in names if name != "null"]
    if len(kinds) != 1:
        raise declared.refused("one type, or one type and null")
    return parse_type(*kinds[0], reading), len(kinds) < len(names)


def _parse_any_of(place: Place, reading: Reading, depth: int) -> FieldType:
    kinds = [item for item in place.items() if not _is_null(item)]
    if len(kinds) != 1:
        raise place.refused("one schema, or one schema and null")
    kind = parse_schema(kinds[0], reading, depth)
    return optional(kind) if len(kinds) < len(place.elements()) else kind


def _is_null(place: Place) -> bool:
    entries = place.entries() if isinstance(place.term, Mapping) else {}
    return set(entries) == {"type"} and (entries["type"].term is None or entries["type"].name() == "null")


def _parse_object(entries: dict[str, Place], reading: Reading, depth: int) -> FieldType:
    rest = _rest(entries, reading, depth)
    named = entries["properties"].entries() if given(entries, "properties") else {}
    required = {item.name() for item in entries["required"].items()} if given(entries, "required") else set()
    if unknown := sorted(required - set(named)):
        raise entries["required"].refused(f"names of properties, `{unknown[0][:60]}` is none")
    if not named and rest is not None:
        return FieldType("map", None if "additionalProperties" not in entries else rest)
    properties = []
    for name, place in named.items():
        if not name or len(name) > MAX_PROPERTY_CHARACTERS:
            raise ValidationError(f"expected a name of 1 to {MAX_PROPERTY_CHARACTERS} characters", place.path)
        kind = parse_schema(place, reading, depth - 1)
        described = place.entries().get("description")
        text = None if described is None or described.term is None else described.text()
        properties.append(Property(name, kind, name in required, text))
    return FieldType("object", rest, properties=tuple(properties))


def _rest(entries: dict[str, Place], reading: Reading, depth: int) -> FieldType | None:
    """The type of the entries that the schema does not name, None when there must be none."""
    if not given(entries, "additionalProperties"):
        return ANY
    place = entries["additionalProperties"]
    if isinstance(place.term, bool):
        return ANY if place.term else None
    return parse_schema(place, reading, depth - 1)


# -- writing ----------------------------------------------------------------------------------------------------------


def needs_schema(kind: FieldType) -> bool:
    """Whether the type has more than its text shows; an enum's values stand beside it, if it is no part."""
    return bool(kind.bounds) or kind.kind == "object" or (kind.items is not None and _hides(kind.items))


def _hides(kind: FieldType) -> bool:
    return kind.kind == "enum" or needs_schema(kind)


def schema_term(kind: FieldType) -> dict[str, object]:
    """The schema that `parse_schema` reads as this type."""
    bounds = bounds_term(kind.bounds)
    match kind.kind:
        case "any":
            return {}
        case "enum":
            return {"enum": list(kind.values)}
        case "optional":
            return {"anyOf": [schema_term(kind.items or ANY), {"type": "null"}]}
        case "list":
            inner = {} if kind.items is None else {"items": schema_term(kind.items)}
            return {"type": "array", **inner, **bounds}
        case "map":
            inner = {} if kind.items is None else {"additionalProperties": schema_term(kind.items)}
            return {"type": "object", **inner}
        case "object":
            rest: object = False if kind.items is None else schema_term(kind.items)
            return {
                "type": "object",
                "properties": {entry.name: _property_term(entry) for entry in kind.properties},
                "required": [entry.name for entry in kind.properties if entry.required],
                "additionalProperties": rest,
            }
        case _:
            return {"type": type_text(kind), **bounds}


def _property_term(entry: Property) -> dict[str, object]:
    described = {} if entry.description is None else {"description": entry.description}
    return {**schema_term(entry.type), **described}
