"""Numbers in Elixir's notation, and the ranges that begin with one."""

from __future__ import annotations

import re

from erlbridge.codec.notation.elixir_structs import range_struct
from erlbridge.codec.notation.reader import Cursor, digits_value, float_value

_NUMBER = re.compile(
    r"(?P<float>[0-9]+(?:_[0-9]+)*\.[0-9]+(?:_[0-9]+)*(?:[eE][+-]?[0-9]+(?:_[0-9]+)*)?)"
    r"|0x(?P<hex>[0-9A-Fa-f]+(?:_[0-9A-Fa-f]+)*)|0o(?P<octal>[0-7]+(?:_[0-7]+)*)|0b(?P<binary>[01]+(?:_[01]+)*)"
    r"|(?P<decimal>[0-9]+(?:_[0-9]+)*)"
)
_AFTER_NUMBER = re.compile(r"[\w]")


def read_number_or_range(cursor: Cursor, sign: int, start: int) -> object:
    """The number that stands here, behind its sign, or the range that it begins. `start` is where the sign is."""
    first = _number(cursor, sign)
    if type(first) is not int or not cursor.text.startswith("..", cursor.pos) or cursor.seen().startswith("`...`"):
        return first
    cursor.pos += 2
    last = _signed(cursor)
    step = _signed(cursor) if cursor.take("//") else (1 if first <= last else -1)
    if not step:
        cursor.fail("a range with a step of 0", start)
    return range_struct(first, last, step)


def _number(cursor: Cursor, sign: int) -> int | float:
    start = cursor.pos
    found = cursor.match(_NUMBER)
    if found is None:
        cursor.expected("a number")
    kind = found.lastgroup
    assert kind is not None  # noqa: S101 - every branch of the pattern has a name
    if _AFTER_NUMBER.match(cursor.text, cursor.pos):
        cursor.expected("the end of the number")
    if kind == "float":
        return sign * float_value(cursor, found[0], start)
    base = {"hex": 16, "octal": 8, "binary": 2, "decimal": 10}[kind]
    return sign * digits_value(cursor, found[kind], base, start)


def _signed(cursor: Cursor) -> int:
    sign = -1 if cursor.take("-") else 1
    cursor.skip_blank()
    start = cursor.pos
    value = _number(cursor, sign)
    if type(value) is not int:
        cursor.fail("expected an integer in a range, got a float", start)
    return value
