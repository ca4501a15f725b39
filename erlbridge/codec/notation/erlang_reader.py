"""Erlang's notation to terms: literals, and what `to_erlang` writes. Nothing is evaluated."""

from __future__ import annotations

import re

from erlbridge.codec.atoms import Atom
from erlbridge.codec.notation.building import Bits, improper, make_map, named, read_arity
from erlbridge.codec.notation.erlang_text import RESERVED
from erlbridge.codec.notation.escapes import characters, read_escape, read_quoted
from erlbridge.codec.notation.identifiers import read_identifier
from erlbridge.codec.notation.reader import Cursor, checked_name, digits_value, float_value, read
from erlbridge.codec.terms import Export
from erlbridge.limits import MAX_DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from erlbridge.codec.notation.reader import Reading

_BLANK = re.compile(r"(?:\s+|%[^\n]*)+")
_NUMBER = re.compile(
    r"(?P<float>[0-9]+(?:_[0-9]+)*\.[0-9]+(?:_[0-9]+)*(?:[eE][+-]?[0-9]+(?:_[0-9]+)*)?)"
    r"|(?P<base>[0-9]{1,2})#(?P<based>[0-9A-Za-z]+(?:_[0-9A-Za-z]+)*)"
    r"|(?P<decimal>[0-9]+(?:_[0-9]+)*)"
)
_NAME = re.compile(r"[a-z\xdf-\xf6\xf8-\xff][A-Za-z0-9_@\xc0-\xd6\xd8-\xf6\xf8-\xff]*")
_VARIABLE = re.compile(r"[A-Z_\xc0-\xd6\xd8-\xde][\w@]*")
_SIZE = re.compile(r"\s*:\s*([0-9]{1,9})|\s*/\s*(utf8|binary|integer|unsigned-integer)(?!\w)")


def from_erlang(text: str, *, max_depth: int = MAX_DEPTH) -> object:
    """The term that the text writes in Erlang's notation.

    Read are literals (numbers also as `16#ff` and `$a`, atoms, strings, lists, tuples, maps, binaries with sizes and
    `/utf8`, `fun m:f/1`), comments, and what Erlang shows of processes, ports and references. A dot may end the term.

    Raises:
        NotationError: The text is no term; it says where and what was expected.

    >>> from_erlang('#{ok => [<<"yes">>, {1, 16#2}]}.')
    {Atom('ok'): [b'yes', (1, 2)]}
    """
    cursor = Cursor(text, _BLANK)
    return read(cursor, _value, max_depth, dot=True)


def _value(cursor: Cursor) -> object:  # noqa: RET503 - what fails never returns
    cursor.skip_blank()
    start = cursor.pos
    first = cursor.text[start : start + 1]
    if first.isdecimal() and first.isascii():
        return _number(cursor, 1)
    match first:
        case "":
            cursor.expected("a term")
        case '"':
            return _string(cursor)
        case "'":
            return named(_quoted_name(cursor))
        case "[":
            cursor.pos += 1
            return _list(cursor)
        case "{":
            cursor.pos += 1
            return _tuple(cursor)
        case "#" if cursor.take("#{"):
            return _map(cursor, start)
        case "<" if cursor.take("<<"):
            return _bits(cursor, start)
        case "#" | "<":
            return read_identifier(cursor)
        case "-" | "+":
            cursor.pos += 1
            cursor.skip_blank()
            return _number(cursor, -1 if first == "-" else 1)
        case "$":
            return _character(cursor)
    word = cursor.match(_NAME)
    if word is not None:
        if word[0] == "fun":
            return _fun(cursor)
        if word[0] in RESERVED:
            cursor.fail(f"`{word[0]}` is reserved, as an atom it is `'{word[0]}'`", start)
        return named(checked_name(cursor, word[0], start))
    variable = cursor.match(_VARIABLE)
    if variable is not None:
        cursor.fail(
            f"expected a term, got the variable `{variable[0][:40]}`; nothing is evaluated, and an atom is"
            f" `'{variable[0][:40]}'`",
            start,
        )
    cursor.expected("a term")


def _number(cursor: Cursor, sign: int) -> int | float:
    start = cursor.pos
    if cursor.text.startswith("$", start):
        return sign * _character(cursor)
    found = cursor.match(_NUMBER)
    if found is None:
        cursor.expected("a number")
    if found["float"]:
        return sign * float_value(cursor, found[0], start)
    if found["decimal"]:
        return sign * digits_value(cursor, found["decimal"], 10, start)
    base = int(found["base"])
    if not 2 <= base <= 36:
        cursor.fail(f"base {base}, expected 2 to 36", start)
    for digit in set(found["based"]) - {"_"}:
        if int(digit, 36) >= base:
            cursor.fail(f"`{digit}` is no digit in base {base}", start)
    return sign * digits_value(cursor, found["based"], base, start)


def _character(cursor: Cursor) -> int:
    cursor.pos += 1
    if cursor.pos >= len(cursor.text):
        cursor.expected("a character behind `$`")
    character = cursor.text[cursor.pos]
    cursor.pos += 1
    return ord(read_escape(cursor, erlang=True)) if character == "\\" else ord(character)  # type: ignore[arg-type]


def _quoted_name(cursor: Cursor) -> str:
    start = cursor.pos
    cursor.pos += 1
    return checked_name(cursor, characters(cursor, read_quoted(cursor, "'", erlang=True), start), start)


def _name(cursor: Cursor, what: str) -> str:
    cursor.skip_blank()
    start = cursor.pos
    if cursor.text.startswith("'", start):
        return _quoted_name(cursor)
    found = cursor.match(_NAME)
    if found is None:
        cursor.expected(what)
    return checked_name(cursor, found[0], start)


def _string(cursor: Cursor) -> list[object]:
    """A string, or several that stand side by side, which are one."""
    start = cursor.pos
    codes: list[object] = []
    while cursor.take('"'):
        codes += map(ord, characters(cursor, read_quoted(cursor, '"', erlang=True), start))
    return codes


def _values(cursor: Cursor, end: str) -> Generator[None, Any, Any]:
    values: list[object] = []
    if cursor.take(end):
        return values
    while True:
        values.append((yield))
        if end == "]" and cursor.take("|"):
            tail = yield
            cursor.need(end, "behind a list's tail")
            return improper(values, tail)
        if cursor.take(end):
            return values
        cursor.need(",", f"or `{end}` behind a value")


def _list(cursor: Cursor) -> Reading:
    return (yield from _values(cursor, "]"))


def _tuple(cursor: Cursor) -> Reading:
    values = yield from _values(cursor, "}")
    return tuple(values)


def _map(cursor: Cursor, start: int) -> Reading:
    pairs: list[tuple[object, object]] = []
    if cursor.take("}"):
        return {}
    while True:
        key = yield
        cursor.need("=>", "behind a key")
        value = yield
        pairs.append((key, value))
        if cursor.take("}"):
            return make_map(cursor, pairs, start)
        cursor.need(",", "or `}` behind a value")


def _bits(cursor: Cursor, start: int) -> Reading:
    bits = Bits(cursor, start)
    if cursor.take(">>"):
        return bits.value()
    while True:
        bits.take_run()
        cursor.skip_blank()
        at = cursor.pos
        is_string = cursor.text.startswith('"', at)
        value = yield
        size = cursor.match(_SIZE)
        if type(value) is int:
            bits.add(value, int(size[1] or 8) if size else 8, at)
        elif is_string and type(value) is list:
            _add_string(cursor, bits, value, bool(size and size[2] == "utf8"), at)
        elif type(value) is bytes and size and size[2] == "binary":
            bits.extend(value)
        else:
            cursor.fail("expected an integer or a string between `<<` and `>>`", at)
        if cursor.take(">>"):
            return bits.value()
        cursor.need(",", "or `>>` behind a value")


def _add_string(cursor: Cursor, bits: Bits, codes: list[int], utf8: bool, at: int) -> None:
    if utf8:
        bits.extend("".join(map(chr, codes)).encode())
        return
    wide = next((code for code in codes if code > 0xFF), None)
    if wide is not None:
        cursor.fail(f"U+{wide:04X} takes more than a byte; write `/utf8` behind the string", at)
    bits.extend(bytes(codes))


def _fun(cursor: Cursor) -> Export:
    module = _name(cursor, "a module's name behind `fun`")
    cursor.need(":", "between module and function")
    function = _name(cursor, "a function's name")
    arity = read_arity(cursor)
    return Export(Atom(module), Atom(function), arity)
