"""What a field's value may be: types and bounds as values, and what fits into what. Reads and writes no text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from erlbridge.errors import ValidationError

MAX_TYPE_DEPTH: Final = 16
"""Deepest nesting of a type. A model that shall fill in more than this is asked for something else."""

MAX_TYPE_PARTS: Final = 1000
"""Most lists, maps, objects and properties in the types of one signature; each of them stands in every prompt."""

MAX_PATTERNS: Final = 32
"""Most patterns of one signature. A compiled pattern may take 10 MB."""

MAX_PATTERN_CHARACTERS: Final = 500
"""Longest pattern."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a value must keep to beside its type; None is no bound. All bounds are inclusive.

    Lengths count characters of a text, `items` elements of a list. A pattern is searched for anywhere in the text.
    """

    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    min_items: int | None = None
    max_items: int | None = None

    def __bool__(self) -> bool:
        return self != _NO_BOUNDS


_NO_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Property:
    """One entry of an object that its schema names. One that is not required may be left out, or be nil."""

    name: str
    type: FieldType
    required: bool = True
    description: str | None = None


@dataclass(frozen=True, slots=True)
class FieldType:
    """A field's type. `kind` is string, integer, number, boolean, list, map, object, optional, enum or any.

    `items` is the element type of a list, the value type of a map, what an optional wraps, or the type of the entries
    that an object does not name (None: there must be none). `values` are an enum's, `properties` an object's.
    """

    kind: str = "string"
    items: FieldType | None = None
    values: tuple[str | int, ...] = ()
    properties: tuple[Property, ...] = ()
    bounds: Bounds = _NO_BOUNDS


ANY: Final = FieldType("any")
STRING: Final = FieldType("string")


@dataclass(slots=True)
class Reading:
    """What has been read of one signature or pipeline so far: the counts that bound it, and what the host should know.

    Attributes:
        warnings: What was understood otherwise than it may have been meant, with its path.
    """

    warnings: list[str] = field(default_factory=list)
    parts: int = 0
    patterns: int = 0

    def part(self, path: str) -> None:
        """One more part of a type. Raises `ValidationError` when there are too many."""
        self.parts += 1
        if self.parts > MAX_TYPE_PARTS:
            raise ValidationError(f"the types of one signature have more than {MAX_TYPE_PARTS} parts", path)

    def pattern(self, path: str) -> None:
        """One more pattern. Raises `ValidationError` when there are too many."""
        self.patterns += 1
        if self.patterns > MAX_PATTERNS:
            raise ValidationError(f"expected at most {MAX_PATTERNS} patterns in one signature", path)


def optional(kind: FieldType) -> FieldType:
    """The type that takes nil as well.

    >>> optional(optional(FieldType("integer"))) == optional(FieldType("integer"))
    True
    """
    return kind if kind.kind == "optional" else FieldType("optional", kind)


def innermost(kind: FieldType) -> FieldType:
    """The type inside of an optional, or the type itself."""
    return innermost(kind.items or ANY) if kind.kind == "optional" else kind


def bounded(kind: FieldType, bounds: Bounds) -> FieldType:
    """The type with these bounds, which go inside of an optional."""
    if kind.kind == "optional":
        return replace(kind, items=bounded(kind.items or ANY, bounds))
    return replace(kind, bounds=bounds)


def fits(given: FieldType, wanted: FieldType) -> bool:
    """Whether every value of the one type can stand for a value of the other. Bounds are left to the values.

    >>> fits(FieldType("integer"), FieldType("number")), fits(FieldType("string"), FieldType("integer"))
    (True, False)
    """
    if ANY.kind in (given.kind, wanted.kind):
        return True
    if wanted.kind == "optional":
        return fits(innermost(given), innermost(wanted))
    if given.kind == "optional":
        return False
    match given.kind, wanted.kind:
        case ("integer", "number"):
            return True
        case ("enum", "enum"):
            return set(given.values) <= set(wanted.values)
        case ("enum", "string"):
            return all(isinstance(value, str) for value in given.values)
        case ("enum", "integer" | "number"):
            return all(isinstance(value, int) for value in given.values)
        case ("object", "object"):
            return _object_fits(given, wanted)
        case ("object", "map"):
            inner = [entry.type for entry in given.properties] + ([] if given.items is None else [given.items])
            return all(fits(kind, wanted.items or ANY) for kind in inner)
        case ("list", "list") | ("map", "map"):
            return fits(given.items or ANY, wanted.items or ANY)
        case _:
            return given.kind == wanted.kind


def _object_fits(given: FieldType, wanted: FieldType) -> bool:
    known = {entry.name: entry for entry in given.properties}
    for entry in wanted.properties:
        found = known.get(entry.name)
        if found is None:
            if entry.required:
                return False
        elif not fits(found.type, entry.type) or (entry.required and not found.required):
            return False
    rest = {entry.name for entry in given.properties} - {entry.name for entry in wanted.properties}
    return wanted.items is not None or not rest
