"""Elixir's notation to terms: literals, and what `to_elixir` writes. Nothing is evaluated."""

from __future__ import annotations

import re

from erlbridge.codec.atoms import Atom
from erlbridge.codec.notation.building import Bits, improper, make_map, named, read_arity
from erlbridge.codec.notation.elixir_atoms import OPERATORS
from erlbridge.codec.notation.elixir_numbers import read_number_or_range
from erlbridge.codec.notation.elixir_structs import SIGILS, set_struct, with_hidden
from erlbridge.codec.notation.escapes import characters, read_escape, read_heredoc, read_quoted
from erlbridge.codec.notation.identifiers import read_identifier
from erlbridge.codec.notation.reader import Cursor, checked_name, read
from erlbridge.codec.terms import Export
from erlbridge.limits import MAX_DEPTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from erlbridge.codec.notation.reader import Reading

_BLANK = re.compile(r"(?:\s+|#(?!PID<|Port<|Reference<|Function<|Local<)[^\n]*)+")
_ALIAS = re.compile(r"[A-Z][A-Za-z0-9_]*(?:\.[A-Z][A-Za-z0-9_]*)*")
_NAME = re.compile(r"[^\W\d][\w@]*[?!]?")
_OPERATOR = re.compile("|".join(re.escape(name) for name in sorted(OPERATORS | {"::"}, key=len, reverse=True)))
_KEY_END = re.compile(r":(?=\s)")
_SIGIL = re.compile(r"~([a-zA-Z]+)")
_SIGIL_ENDS = {"(": ")", "[": "]", "{": "}", "<": ">", "/": "/", "|": "|", '"': '"', "'": "'"}
_LONE_BYTES = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}
_WORDS = {"nil": None, "true": True, "false": False}


def from_elixir(text: str, *, max_depth: int = MAX_DEPTH) -> object:
    """The term that the text writes in Elixir's notation.

    Read are literals (numbers, atoms, aliases, strings, charlists and heredocs with their escapes, `~c`, `~s`, lists,
    keyword lists, tuples, maps, structs, bitstrings with sizes, `&Mod.fun/1`), comments, and what `inspect/2` shows of
    processes, ports, references, dates, ranges and sets. A struct is the map that it is: fields that are not written
    get no defaults.

    Raises:
        NotationError: The text is no term; it says where and what was expected.

    >>> from_elixir('%{ok: ["yes", {1, 0x2}]}')
    {Atom('ok'): [b'yes', (1, 2)]}
    """
    return read(Cursor(text, _BLANK), _value, max_depth)


def _value(cursor: Cursor) -> object:  # noqa: RET503 - what fails never returns
    cursor.skip_blank()
    start = cursor.pos
    first = cursor.text[start : start + 1]
    if first.isdecimal() and first.isascii():
        return read_number_or_range(cursor, 1, start)
    match first:
        case "":
            cursor.expected("a term")
        case '"' | "'":
            return _text(cursor)
        case ":":
            return _atom(cursor)
        case "[":
            cursor.pos += 1
            return _list(cursor)
        case "{":
            cursor.pos += 1
            return _tuple(cursor)
        case "%":
            cursor.pos += 1
            return _map(cursor)
        case "<" if cursor.take("<<"):
            return _bits(cursor, start)
        case "-" | "+":
            cursor.pos += 1
            cursor.skip_blank()
            return read_number_or_range(cursor, -1 if first == "-" else 1, start)
        case "?":
            return _character(cursor)
        case "~":
            return _sigil(cursor)
        case "&":
            cursor.pos += 1
            return _capture(cursor)
        case "#":
            return read_identifier(cursor)
    if "A" <= first <= "Z":
        return _alias(cursor)
    word = cursor.match(_NAME)
    if word is not None and word[0] in _WORDS:
        return _WORDS[word[0]]
    cursor.pos = start
    if word is not None:
        cursor.fail(f"expected a term, got `{word[0][:40]}`; nothing is evaluated, and an atom is `:{word[0][:40]}`")
    cursor.expected("a term")


# -- characters


def _character(cursor: Cursor) -> int:
    cursor.pos += 1
    if cursor.pos >= len(cursor.text):
        cursor.expected("a character behind `?`")
    character = cursor.text[cursor.pos]
    cursor.pos += 1
    if character != "\\":
        return ord(character)
    piece = read_escape(cursor, erlang=False)
    return piece if isinstance(piece, int) else ord(piece or "\n")


# -- atoms and text


def _quoted_name(cursor: Cursor) -> str:
    start = cursor.pos
    quote = cursor.text[start]
    cursor.pos += 1
    # `inspect/2` writes a character from U+0080 to U+009F as the one byte that it is not in UTF-8.
    name = read_quoted(cursor, quote).decode(errors="surrogateescape")
    return checked_name(cursor, name.translate(_LONE_BYTES), start)


def _atom(cursor: Cursor) -> object:
    start = cursor.pos
    cursor.pos += 1
    if cursor.text[cursor.pos : cursor.pos + 1] in ('"', "'"):
        return named(_quoted_name(cursor))
    found = cursor.match(_NAME) or cursor.match(_OPERATOR)
    if found is None:
        cursor.expected("an atom's name behind `:`")
    return named(checked_name(cursor, found[0], start))


def _alias_name(cursor: Cursor) -> str:
    start = cursor.pos
    found = cursor.match(_ALIAS)
    if found is None:
        cursor.expected("a module's name")
    name = found[0] if found[0] == "Elixir" or found[0].startswith("Elixir.Elixir") else f"Elixir.{found[0]}"
    if found[0].startswith("Elixir.") and not found[0].startswith("Elixir.Elixir"):
        name = found[0]
    return checked_name(cursor, name, start)


def _alias(cursor: Cursor) -> object:
    start = cursor.pos
    name = _alias_name(cursor)
    if name == "Elixir.MapSet" and cursor.text.startswith(".new(", cursor.pos):
        cursor.pos += 5
        return _set(cursor)
    if cursor.text[cursor.pos : cursor.pos + 1] in (".", "("):
        cursor.fail("expected a term, got a call; nothing is evaluated", start)
    return Atom(name)


def _text(cursor: Cursor) -> object:
    start = cursor.pos
    quote = cursor.text[start]
    if cursor.take(quote * 3):
        data = read_heredoc(cursor, quote * 3)
    else:
        cursor.pos += 1
        data = read_quoted(cursor, quote)
    return data if quote == '"' else [ord(each) for each in characters(cursor, data, start)]


def _sigil(cursor: Cursor) -> object:
    start = cursor.pos
    found = cursor.match(_SIGIL)
    name = found[1] if found else ""
    if name not in ("c", "C", "s", "S") and name not in SIGILS:
        cursor.fail(f"sigil `~{name}` is not read; known are ~c ~C ~s ~S ~{' ~'.join(SIGILS)}", start)
    opening = cursor.text[cursor.pos : cursor.pos + 1]
    if cursor.text.startswith(opening * 3, cursor.pos) and opening in ('"', "'") and name in "cs":
        cursor.pos += 3
        data = read_heredoc(cursor, opening * 3)
    else:
        end = _SIGIL_ENDS.get(opening) if opening else None
        if end is None:
            cursor.expected("a delimiter behind the sigil")
        cursor.pos += 1
        if name in ("c", "s"):
            data = read_quoted(cursor, end)
        else:
            close = cursor.text.find(end, cursor.pos)
            if close < 0:
                cursor.fail(f"no closing `{end}` for the sigil that stands here", start)
            data = cursor.text[cursor.pos : close].encode(errors="surrogatepass")
            cursor.pos = close + len(end)
    if name in SIGILS:
        struct = SIGILS[name](data.decode(errors="replace"))
        if struct is None:
            cursor.fail(f"no date or time that ~{name} stands for", start)
        return struct
    return data if name in "sS" else [ord(each) for each in characters(cursor, data, start)]


# -- containers


def _key(cursor: Cursor) -> object:
    """The key of a keyword list or map that stands here, `...` (a value that no key has) if none does."""
    cursor.skip_blank()
    start = cursor.pos
    first = cursor.text[start : start + 1]
    if first in {'"', "'"}:
        end = _end_of_quotes(cursor.text, start)
        if not _KEY_END.match(cursor.text, end):
            return ...
        name = _quoted_name(cursor)
    else:
        found = cursor.match(_NAME) or cursor.match(_OPERATOR)
        if found is None or not _KEY_END.match(cursor.text, cursor.pos):
            cursor.pos = start
            return ...
        name = checked_name(cursor, found[0], start)
    cursor.pos += 1
    return named(name)


_QUOTED = {
    quote: re.compile(rf"{quote}[^{quote}\\]*+(?:\\.[^{quote}\\]*+)*+{quote}", re.DOTALL) for quote in ('"', "'")
}


def _end_of_quotes(text: str, start: int) -> int:
    found = _QUOTED[text[start]].match(text, start)
    return found.end() if found else len(text)


def _keywords(cursor: Cursor, key: object, end: str) -> Generator[None, Any, list[tuple[object, object]]]:
    """The pairs from the first key, which is read, to the end of what they stand in."""
    pairs: list[tuple[object, object]] = []
    while True:
        value = yield
        pairs.append((key, value))
        if cursor.take(end):
            return pairs
        cursor.need(",", f"or `{end}` behind a value")
        if cursor.take(end):
            return pairs
        key = _key(cursor)
        if key is ...:
            cursor.expected("a key such as `name: `, as only keys follow the first")


def _values(cursor: Cursor, end: str) -> Generator[None, Any, Any]:
    """The values up to the end of what they stand in; pairs with keys become one list at their end."""
    values: list[object] = []
    if cursor.take(end):
        return values
    while True:
        key = _key(cursor)
        if key is not ...:
            pairs = yield from _keywords(cursor, key, end)
            return (values, pairs)
        values.append((yield))
        if end == "]" and cursor.take("|"):
            tail = yield
            cursor.need(end, "behind a list's tail")
            return improper(values, tail)
        if cursor.take(end):
            return values
        cursor.need(",", f"or `{end}` behind a value")
        if cursor.take(end):
            return values


def _list(cursor: Cursor) -> Reading:
    found = yield from _values(cursor, "]")
    if type(found) is tuple:
        values, pairs = found
        return values + pairs
    return found


def _tuple(cursor: Cursor) -> Reading:
    found = yield from _values(cursor, "}")
    if type(found) is tuple:
        values, pairs = found
        return (*values, pairs)
    return tuple(found)


def _map(cursor: Cursor) -> Reading:
    start = cursor.pos - 1
    pairs: list[tuple[object, object]] = []
    cursor.skip_blank()
    if "A" <= cursor.text[cursor.pos : cursor.pos + 1] <= "Z":
        pairs.append((Atom("__struct__"), Atom(_alias_name(cursor))))
    elif cursor.text.startswith(":", cursor.pos):
        pairs.append((Atom("__struct__"), _atom(cursor)))
    cursor.need("{", "behind `%`")
    if cursor.take("}"):
        return make_map(cursor, pairs, start)
    while True:
        key = _key(cursor)
        if key is not ...:
            pairs += yield from _keywords(cursor, key, "}")
            return make_map(cursor, with_hidden(pairs), start)
        key = yield
        cursor.need("=>", "behind a key")
        value = yield
        pairs.append((key, value))
        if cursor.take("}"):
            return make_map(cursor, pairs, start)
        cursor.need(",", "or `}` behind a value")
        if cursor.take("}"):
            return make_map(cursor, pairs, start)


def _set(cursor: Cursor) -> Reading:
    start = cursor.pos
    members = yield
    cursor.need(")", "behind the members")
    if type(members) is not list:
        cursor.fail("expected a list of members", start)
    return set_struct(make_map(cursor, [(member, []) for member in members], start))


_SIZE = re.compile(r"\s*::\s*(?:(?:integer-)?size\(\s*([0-9]{1,9})\s*\)|([0-9]{1,9})|(utf8|binary|integer)(?!\w))")


def _bits(cursor: Cursor, start: int) -> Reading:
    bits = Bits(cursor, start)
    if cursor.take(">>"):
        return bits.value()
    while True:
        bits.take_run()
        cursor.skip_blank()
        at = cursor.pos
        value = yield
        size = cursor.match(_SIZE)
        if size is None and cursor.text.startswith("::", cursor.pos):
            cursor.pos += 2
            cursor.expected("a size such as `size(3)` or `3`, or `utf8`, `binary`, `integer`")
        if type(value) is int:
            bits.add(value, int(size[1] or size[2] or 8) if size else 8, at)
        elif type(value) is bytes and (size is None or size[3] in ("utf8", "binary")):
            bits.extend(value)
        else:
            cursor.fail("expected an integer or a string between `<<` and `>>`", at)
        if cursor.take(">>"):
            return bits.value()
        cursor.need(",", "or `>>` behind a value")


# -- functions


def _capture(cursor: Cursor) -> object:
    cursor.skip_blank()
    start = cursor.pos
    module = _atom(cursor) if cursor.text.startswith(":", start) else Atom(_alias_name(cursor))
    if not cursor.text.startswith(".", cursor.pos):
        cursor.expected("`.` between module and function")
    cursor.pos += 1
    if cursor.text[cursor.pos : cursor.pos + 1] in ('"', "'"):
        name = _quoted_name(cursor)
    else:
        found = cursor.match(_NAME) or cursor.match(_OPERATOR)
        if found is None:
            cursor.expected("a function's name")
        name = checked_name(cursor, found[0], start)
    arity = read_arity(cursor)
    if type(module) is not Atom:
        module = Atom({None: "nil", True: "true", False: "false"}[module])  # type: ignore[index]
    return Export(module, Atom(name), arity)
