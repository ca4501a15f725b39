"""JSON Lines: one object on each line.

The standard library's parser, since it keeps every digit of a long integer and tells the place of an error; what it
takes beyond JSON (NaN, a key that stands twice) is refused.
"""

from __future__ import annotations

import json
from typing import Final

from erlbridge.core.examples import MAX_INTEGER_DIGITS
from erlbridge.tools.importing.lines import lines
from erlbridge.tools.importing.rows import BadRow, Input, Row, Rows, Unreadable, ordered

MAX_DEPTH: Final = 64
"""Deepest nesting of a value, as of any example's."""

_SHOWN_CHARACTERS: Final = 40


def read_rows(source: Input) -> Rows:
    """The objects of a file. Empty lines are passed over."""
    for number, line in lines(source.stream):
        if isinstance(line, BadRow):
            yield line
        elif line and not line.isspace():
            yield _row(number, line.rstrip())


def read_value(text: str) -> object:
    """One value of JSON, whose maps have their keys in order. Raises `ValueError` with what is wrong."""
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    return _DECODER.decode(text)


def _row(number: int, line: str) -> Row | BadRow:
    try:
        value = read_value(line)
    except json.JSONDecodeError as error:
        if number == 1 and line.strip() in ("[", "{"):
            raise Unreadable(
                "expected a JSON object on each line, got JSON over several lines; jq -c '.[]' makes lines of an array",
                1,
            ) from None
        problem = error.msg[:1].lower() + error.msg[1:].replace("xpecting", "xpected")
        return BadRow(number, f"no JSON: {problem}, got {_shown(line, error.pos)}", error.pos + 1)
    except ValueError as error:
        if str(error).startswith("Exceeds the limit"):
            return BadRow(number, f"expected an integer of at most {MAX_INTEGER_DIGITS} digits")
        return BadRow(number, str(error))
    if not isinstance(value, dict):
        hint = "; jq -c '.[]' makes lines of an array" if isinstance(value, list) else ""
        return BadRow(number, f"expected a JSON object, got {_kind(value)}{hint}")
    return Row(number, value)


def _shown(line: str, at: int) -> str:
    rest = line[at : at + _SHOWN_CHARACTERS].strip()
    return repr(rest) if rest else "the end of the line"


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case list():
            return "an array"
        case _:
            return "a number"


def _check_depth(text: str) -> None:
    """Raises `ValueError` for what nests too deep: before the parser, which would recurse, sees it."""
    depth = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH + 1:  # the object that the line is does not count
                raise ValueError(f"expected values nested at most {MAX_DEPTH} deep")
        elif character in "]}":
            depth -= 1


def _constant(name: str) -> object:
    raise ValueError(f"expected a number, got {name}, which JSON does not know")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=ordered, parse_constant=_constant)
