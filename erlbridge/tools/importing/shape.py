"""What becomes of a row: names are changed, texts become the types that are asked for, and the example its term."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.codec import term_to_binary
from erlbridge.core.examples import MAX_INTEGER_DIGITS
from erlbridge.errors import EncodeError
from erlbridge.limits import MAX_EXAMPLE_BYTES, MAX_KEYS
from erlbridge.tools.importing.json_lines import read_value
from erlbridge.tools.importing.rows import ordered

_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows become examples.

    Attributes:
        names: The field that a name of the file becomes; all others stay what they are.
        types: What a field is to be, one of `TYPES`; all others stay what the file says.
        empty_is_nil: Whether an empty text is nil where a type other than text is asked for, as in tables.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    empty_is_nil: bool = False

    def example(self, values: dict[str, object]) -> bytes:
        """The example's term. Raises `ValueError` with what is wrong.

        >>> Shape({"q": "question"}, {"n": "integer"}).example({"q": "1 + 1", "n": "2"}) == term_to_binary(
        ...     {"n": 2, "question": "1 + 1"}
        ... )
        True
        """
        if self.names:
            values = ordered([(self.names.get(name, name), value) for name, value in values.items()])
        for name, kind in self.types.items():
            if name in values:
                values[name] = self._typed(name, values[name], kind)
        if len(values) > MAX_KEYS:
            raise ValueError(f"expected at most {MAX_KEYS} keys, got {len(values)}")
        try:
            term = term_to_binary(values)
        except EncodeError as error:
            raise ValueError(error.message) from None
        if len(term) > MAX_EXAMPLE_BYTES:
            raise ValueError(f"expected an example of at most {MAX_EXAMPLE_BYTES} bytes, got {len(term)}")
        return term

    def _typed(self, name: str, value: object, kind: str) -> object:
        if value is None or (self.empty_is_nil and value == "" and kind != "text"):
            return None
        try:
            return TYPES[kind](value)
        except ValueError as error:
            detail = f" ({error})" if kind == "json" and isinstance(value, str) else ""
            raise ValueError(f"field {name!r}: expected {_EXPECTED[kind]}, got {_shown(value)}{detail}") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _integer(value: object) -> int:
    match value:
        case bool():
            raise ValueError
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if len(value) <= MAX_INTEGER_DIGITS and value.isascii() and "_" not in value:
            return int(value)
        case _:
            raise ValueError


def _number(value: object) -> int | float:
    match value:
        case bool():
            raise ValueError
        case int() | float():
            return value
        case str() if len(value) <= MAX_INTEGER_DIGITS and value.isascii() and "_" not in value:
            try:
                return int(value)
            except ValueError:
                found = float(value)
            if found - found != 0.0:  # not a number, or infinite
                raise ValueError
            return found
        case _:
            raise ValueError


def _boolean(value: object) -> bool:
    match value:
        case bool():
            return value
        case str() if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        case _:
            raise ValueError


def _json(value: object) -> object:
    return read_value(value) if isinstance(value, str) else value


TYPES: Final[Mapping[str, Callable[[object], object]]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "json": _json,
}
"""What a value becomes; each raises `ValueError` for what it cannot be."""

_EXPECTED: Final = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "json": "JSON",
}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
