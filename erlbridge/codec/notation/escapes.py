"""Quoted text in either notation: where it ends, and what its escapes stand for."""

from __future__ import annotations

import re

from erlbridge.errors import NotationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from erlbridge.codec.notation.reader import Cursor

_SIMPLE = dict(zip("abtnvfresd", "\a\b\t\n\v\f\r\x1b \x7f", strict=True))
_ELIXIR = _SIMPLE | {"0": "\0"}
_ERLANG = {key: value for key, value in _SIMPLE.items() if key != "a"}
_OCTAL = re.compile(r"[0-7]{1,3}")
_HEX = re.compile(r"\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2})")
_SHORT_HEX = re.compile(r"\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{1,2})")
_UNICODE = re.compile(r"\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{4})")
_STOPS: dict[tuple[str, bool], re.Pattern[str]] = {}


def read_escape(cursor: Cursor, *, erlang: bool) -> str | int:
    """What the escape behind a backslash stands for: text, or a byte (Elixir's `\\xHH`)."""
    start = cursor.pos - 1
    if cursor.pos >= len(cursor.text):
        cursor.expected("a character behind the backslash")
    letter = cursor.text[cursor.pos]
    if erlang and "0" <= letter <= "7":
        found = cursor.match(_OCTAL)
        return chr(int(found[0], 8)) if found else ""
    cursor.pos += 1
    if letter == "x" or (letter == "u" and not erlang):
        pattern = _UNICODE if letter == "u" else _HEX if erlang else _SHORT_HEX
        found = cursor.match(pattern)
        if found is None:
            cursor.expected(f"hexadecimal digits behind `\\{letter}`")
        code = int(found[1] or found[2], 16)
        if letter == "x" and not erlang and found[1] is None:
            return code
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            cursor.fail(f"U+{code:04X} is no character", start)
        return chr(code)
    if letter == "^" and erlang:
        if cursor.pos >= len(cursor.text):
            cursor.expected("a character behind `\\^`")
        cursor.pos += 1
        return chr(ord(cursor.text[cursor.pos - 1]) & 31)
    if letter == "\n":
        return "\n" if erlang else ""
    return (_ERLANG if erlang else _ELIXIR).get(letter, letter)


def read_quoted(cursor: Cursor, end: str, *, erlang: bool = False) -> bytes:
    """The text from here to the quote, as UTF-8 with what bytes its escapes name; goes on behind the quote."""
    start = cursor.pos - len(end)
    out = bytearray()
    stop = _STOPS.get((end, erlang))
    if stop is None:
        stop = _STOPS[end, erlang] = re.compile(rf"{re.escape(end)}|\\" + ("" if erlang else r"|#\{"))
    text = cursor.text
    while True:
        found = stop.search(text, cursor.pos)
        if found is None:
            cursor.fail(f"no closing `{end}` for the one that stands here", start)
        try:
            out += text[cursor.pos : found.start()].encode()
        except UnicodeEncodeError as cause:
            cursor.fail("a lone surrogate is no character", cursor.pos + cause.start)
        cursor.pos = found.end()
        if found[0] == end:
            return bytes(out)
        if found[0] == "#{":
            cursor.fail("nothing is evaluated: write `\\#{` for the characters themselves", found.start())
        piece = read_escape(cursor, erlang=erlang)
        if isinstance(piece, int):
            out.append(piece)
        else:
            out += piece.encode()


def characters(cursor: Cursor, data: bytes, start: int) -> str:
    """The text of these bytes, for what is made of characters."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        cursor.fail("the escapes here make no text in UTF-8", start)


def read_heredoc(cursor: Cursor, end: str) -> bytes:
    """A text between lines of three quotes, less the indentation of the last of them; behind its first three quotes."""
    start = cursor.pos - len(end)
    first = re.compile(r"[ \t]*\r?\n").match(cursor.text, cursor.pos)
    if first is None:
        cursor.fail(f"expected the end of the line behind `{end}`")
    last = re.compile(rf"^([ \t]*){end}", re.MULTILINE).search(cursor.text, first.end())
    if last is None:
        cursor.fail(f"no closing `{end}` on a line of its own", start)
    indent = len(last[1])
    body = cursor.text[first.end() : last.start()]
    if indent:
        body = re.sub(rf"^[ \t]{{1,{indent}}}", "", body, flags=re.MULTILINE)
    inner = type(cursor)(body + end, cursor.blank)
    cursor.pos = last.end()
    try:
        return read_quoted(inner, end)
    except NotationError as error:
        line = cursor.text.count("\n", 0, first.end())
        raise NotationError(error.bare, error.line + line, error.column + indent) from None
