"""Signatures as the host writes them: a map of fields, or a safe `"question, context: list[string] -> answer: float"`.

Knows fields and types as values; evaluates nothing, imports no DSPy. `programs.signatures` turns these into DSPy's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.core.bounds import KEYWORDS, check_patterns, parse_bounds
from erlbridge.core.field_types import STRING, FieldType, Reading, bounded, innermost, optional
from erlbridge.core.schemas import needs_schema, parse_enum, parse_schema, schema_term
from erlbridge.core.type_text import parse_type, type_text
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_SIGNATURE_CHARACTERS
from erlbridge.wire.place import Place, given
from erlbridge.wire.vocabulary import atom_keys

__all__ = ["Field", "FieldType", "Signature", "parse_signature"]  # a field's type is read with its field

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
_ENCLOSING: Final = re.compile(r"[\[\]'\"]")
_BOUND_KEYS: Final = (*KEYWORDS, "length", "enum")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature."""

    name: str
    type: FieldType = STRING
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out, and how the task is described."""

    input_fields: tuple[Field, ...]
    output_fields: tuple[Field, ...]
    instructions: str | None = None
    name: str | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What was understood otherwise than the host may have meant it, such as a type that is not known here."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """Inputs, then outputs."""
        return self.input_fields + self.output_fields


def parse_signature(place: Place, reading: Reading | None = None) -> Signature:
    """The signature at a place: a map, or text with an arrow. Raises `ValidationError` with the path.

    Args:
        reading: Bounds several signatures together, such as those of a pipeline.
    """
    reading = Reading() if reading is None else reading
    warned = len(reading.warnings)
    if isinstance(place.term, bytes | str):
        inputs, outputs = _parse_text(place, reading)
        return Signature(inputs, outputs, warnings=tuple(reading.warnings[warned:]))
    entries = place.only(_SIGNATURE_KEYS)
    seen: dict[str, str] = {}
    inputs = _parse_fields(entries, "input_fields", place, seen, reading)
    outputs = _parse_fields(entries, "output_fields", place, seen, reading)
    instructions = next((entries[key] for key in ("instructions", "description") if given(entries, key)), None)
    return Signature(
        inputs,
        outputs,
        None if instructions is None else instructions.text(),
        entries["name"].name() if given(entries, "name") else None,
        tuple(reading.warnings[warned:]),
    )


def check_signature(signature: Signature, path: str) -> None:
    """Checks what takes a worker's time: the patterns. Raises `ValidationError` with the field's name."""
    for item in signature.fields:
        check_patterns(item.type, f"{path}.{item.name}")


def _parse_fields(
    entries: dict[str, Place], key: str, parent: Place, seen: dict[str, str], reading: Reading
) -> tuple[Field, ...]:
    place = parent.required(entries, key)
    count = len(place.elements())
    if count == 0:
        raise place.refused("at least one field")
    if count > _MAX_FIELDS:
        raise place.refused(f"at most {_MAX_FIELDS} fields")
    fields = []
    for item in place.items():
        found = parse_field(item, reading)
        checked_name(found.name, f"{item.path}.name" if isinstance(item.term, Mapping) else item.path, seen)
        fields.append(found)
    return tuple(fields)


def parse_field(place: Place, reading: Reading) -> Field:
    """The field at a place: a name, or a map of name, type and description. Raises `ValidationError` with the path.

    Whether the name can be a signature's is the caller's matter: an agent's tools have fields, too.

    Args:
        reading: Bounds the types of several fields together, and takes warnings.
    """
    if not isinstance(place.term, Mapping):
        return Field(place.name())
    entries = place.only(_FIELD_KEYS)
    return Field(
        place.required(entries, "name").name(),
        _parse_field_type(entries, reading),
        entries["description"].text() if given(entries, "description") else None,
    )


def checked_name(name: str, path: str, seen: dict[str, str]) -> str:
    """The name, if it can be a field's and no other field has it; `seen` holds the place of each name."""
    if not _IDENTIFIER.match(name):
        raise ValidationError(
            f"field name `{name[:60]}`: expected a letter, then letters, digits and underscores", path
        )
    if name in _RESERVED:
        raise ValidationError(f"field name `{name}` is taken by DSPy itself; choose another", path)
    if name in seen:
        raise ValidationError(f"field name `{name}` is there twice, first at {seen[name]}", path)
    seen[name] = path
    return name


def _parse_field_type(entries: dict[str, Place], reading: Reading) -> FieldType:
    kind = _parse_declared(entries, reading)
    for key in ("validation", "constraints"):
        if given(entries, key):
            kind = _constrained(kind, entries[key], reading)
    required = entries["required"].boolean() if given(entries, "required") else True
    return kind if required else optional(kind)


def _parse_declared(entries: dict[str, Place], reading: Reading) -> FieldType:
    if given(entries, "enum"):
        return parse_enum(entries["enum"])
    if given(entries, "schema"):
        return parse_schema(entries["schema"], reading)
    if not given(entries, "type"):
        return STRING
    declared = entries["type"]
    if declared.name() == "enum":
        constrained = (entries[key].entries() for key in ("validation", "constraints") if given(entries, key))
        if any("enum" in found for found in constrained):
            return STRING  # the values stand there
        raise declared.refused("`enum` beside the type, a list of the allowed values")
    return parse_type(declared.name(), declared.path, reading)


def _constrained(kind: FieldType, place: Place, reading: Reading) -> FieldType:
    """The type with the bounds of its `validation` or `constraints`; an enum there takes the type's place."""
    entries = place.only(_BOUND_KEYS)
    if given(entries, "enum"):
        found = parse_enum(entries["enum"])
        return optional(found) if kind.kind == "optional" else found
    return bounded(kind, parse_bounds(entries, innermost(kind), reading, place.path))


def _parse_text(place: Place, reading: Reading) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    text = place.text()
    if len(text) > MAX_SIGNATURE_CHARACTERS:
        raise place.refused(f"at most {MAX_SIGNATURE_CHARACTERS} characters")
    sides = list(_split(text, "->"))
    if len(sides) != 2:
        raise place.refused('"inputs -> outputs" with one arrow')
    seen: dict[str, str] = {}
    return _parse_side(sides[0], place, seen, reading), _parse_side(sides[1], place, seen, reading)


def _parse_side(text: str, place: Place, seen: dict[str, str], reading: Reading) -> tuple[Field, ...]:
    fields: list[Field] = []
    for part in _split(text, ","):
        name, colon, declared = part.partition(":")
        if not name.strip():
            raise place.refused("a name between the commas on each side of the arrow")
        if len(fields) == _MAX_FIELDS:
            raise place.refused(f"at most {_MAX_FIELDS} fields on each side")
        kind = parse_type(declared, place.path, reading) if colon else STRING
        fields.append(Field(checked_name(name.strip(), place.path, seen), kind))
    return tuple(fields)


def _split(text: str, mark: str) -> Iterable[str]:
    """The parts between the marks that stand outside of brackets and quotes."""
    return _split_outside(text, mark) if _ENCLOSING.search(text) else text.split(mark)


def _split_outside(text: str, mark: str) -> Iterator[str]:
    depth, quote, start, index = 0, "", 0, 0
    while index < len(text):
        character = text[index]
        if quote:
            index += character == "\\"  # and what it escapes
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif depth == 0 and text.startswith(mark, index):
            yield text[start:index]
            start = index + len(mark)
            index = start - 1
        else:
            depth += (character == "[") - (character == "]")
        index += 1
    yield text[start:]


def field_term(field: Field, name_of: Callable[[str], object] = str) -> dict[object, object]:
    """The field as a map that `parse_field` reads back, its name as `name_of` writes it."""
    values = list(field.type.values) if field.type.kind == "enum" else None
    term = {
        "name": name_of(field.name),
        "type": type_text(field.type),
        "description": field.description,
        "enum": values,
    }
    if needs_schema(field.type):
        term["schema"] = schema_term(field.type)
    return atom_keys(term)
