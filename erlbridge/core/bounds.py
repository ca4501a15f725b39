"""Bounds as a request writes them (`validation`, `constraints`, JSON Schema), and their check on values.

Patterns are those of Rust's `regex`: they take time linear in the text, whatever the pattern, and know neither
look-around nor back-references. The engine is the one in `pydantic_core`, which later holds the model's own answers to
them. It is imported by the worker only, which compiles a pattern before it is used: that may take a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Final

from erlbridge.core.field_types import MAX_PATTERN_CHARACTERS, MAX_PATTERNS, Bounds, FieldType, Reading
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, given

KEYWORDS: Final[Mapping[str, str]] = {
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minimum": "minimum",
    "maximum": "maximum",
    "minItems": "min_items",
    "maxItems": "max_items",
}
"""JSON Schema's keyword for each bound."""

_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern"),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "list": ("minItems", "maxItems"),
}
_MAX_COUNT: Final = 2**31
_PAIRS: Final = (("min_length", "max_length"), ("minimum", "maximum"), ("min_items", "max_items"))


def parse_bounds(entries: Mapping[str, Place], kind: FieldType, reading: Reading, path: str) -> Bounds:
    """The bounds among the entries of a schema or of `constraints`, added to those that the type has.

    Args:
        entries: May hold other keys, which are left alone; `length: %{min, max}` counts characters or elements.
        kind: The type that they are to hold for. A bound that it does not know is refused.
    """
    found: dict[str, object] = {}
    allowed = _OF_KIND.get(kind.kind, ())
    for keyword, name in KEYWORDS.items():
        if given(entries, keyword):
            if keyword not in allowed:
                known = ", ".join(allowed) or "none"
                raise ValidationError(
                    f"`{keyword}` is no bound of the type {kind.kind}; it knows {known}", entries[keyword].path
                )
            found[name] = _read(keyword, entries[keyword], reading)
    if given(entries, "length"):
        found |= _length(entries["length"], kind)
    bounds = replace(kind.bounds, **found)  # type: ignore[arg-type]
    for least, most in _PAIRS:
        low, high = getattr(bounds, least), getattr(bounds, most)
        if low is not None and high is not None and low > high:
            raise ValidationError(f"the least, {low}, is above the most, {high}", path)
    return bounds


def _read(keyword: str, place: Place, reading: Reading) -> object:
    if keyword == "pattern":
        reading.pattern(place.path)
        pattern = place.text()
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise place.refused(f"a pattern of at most {MAX_PATTERN_CHARACTERS} characters")
        return pattern
    if keyword in ("minimum", "maximum"):
        place.number()
        return place.term
    return place.integer(minimum=0, maximum=_MAX_COUNT)


def _length(place: Place, kind: FieldType) -> dict[str, object]:
    names = {"string": ("min_length", "max_length"), "list": ("min_items", "max_items")}.get(kind.kind)
    if names is None:
        raise ValidationError(f"`length` is no bound of the type {kind.kind}", place.path)
    entries = place.only(("min", "max"))
    return {
        name: entries[key].integer(minimum=0, maximum=_MAX_COUNT)
        for key, name in zip(("min", "max"), names, strict=True)
        if given(entries, key)
    }


def bounds_term(bounds: Bounds) -> dict[str, object]:
    """The bounds as JSON Schema writes them."""
    return {word: value for word, name in KEYWORDS.items() if (value := getattr(bounds, name)) is not None}


def describe(bounds: Bounds) -> str:
    """The bounds in words, for the model.

    >>> describe(Bounds(min_length=1, max_length=80))
    'at least 1 character, at most 80 characters'
    """
    words = {
        "min_length": "at least {} character{s}",
        "max_length": "at most {} character{s}",
        "pattern": "matches the pattern {}",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "min_items": "at least {} item{s}",
        "max_items": "at most {} item{s}",
    }
    found = ((field.name, getattr(bounds, field.name)) for field in fields(bounds))
    return ", ".join(
        words[name].format(value, s="" if value == 1 else "s") for name, value in found if value is not None
    )


def check_text(place: Place, value: str, bounds: Bounds) -> None:
    """Raises `ValidationError` with the place when a text is out of bounds."""
    _check_count(place, len(value), (bounds.min_length, bounds.max_length), "text of at {} {} characters")
    if bounds.pattern is not None and not compiled(bounds.pattern)(value):
        raise place.refused(f"text that matches the pattern `{bounds.pattern}`")


def check_number(place: Place, value: float, bounds: Bounds) -> None:
    """Raises `ValidationError` with the place when a number is out of bounds."""
    if bounds.minimum is not None and value < bounds.minimum:
        raise place.refused(f"at least {bounds.minimum}")
    if bounds.maximum is not None and value > bounds.maximum:
        raise place.refused(f"at most {bounds.maximum}")


def check_items(place: Place, count: int, bounds: Bounds) -> None:
    """Raises `ValidationError` with the place when a list is too short or too long."""
    _check_count(place, count, (bounds.min_items, bounds.max_items), "a list of at {} {} elements")


def _check_count(place: Place, count: int, bounds: tuple[int | None, int | None], expected: str) -> None:
    least, most = bounds
    if least is not None and count < least:
        raise ValidationError(f"expected {expected.format('least', least)}, got {count}", place.path)
    if most is not None and count > most:
        raise ValidationError(f"expected {expected.format('most', most)}, got {count}", place.path)


@lru_cache(MAX_PATTERNS)
def compiled(pattern: str) -> Callable[[object], bool]:
    """Whether a text has a part that matches. Raises `ValueError` for what is no pattern or would grow too large."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema  # noqa: PLC0415 - see above

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    except SchemaError as error:
        raise ValueError(str(error).splitlines()[-1].strip()) from None


def check_patterns(kind: FieldType, path: str) -> None:
    """Compiles every pattern of a type. Raises `ValidationError` for one that is none."""
    if kind.bounds.pattern is not None:
        try:
            compiled(kind.bounds.pattern)
        except ValueError as error:
            raise ValidationError(
                f"`{kind.bounds.pattern[:60]}` is no pattern that can be used here ({error}); patterns are those of "
                "Rust's regex, without look-around and back-references",
                path,
            ) from None
    if kind.items is not None:
        check_patterns(kind.items, path)
    for entry in kind.properties:
        check_patterns(entry.type, f"{path}.{entry.name}")
