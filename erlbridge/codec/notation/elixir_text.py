"""Strings, charlists and binaries as Elixir shows them: what is printable, and how the rest of it is escaped."""

from __future__ import annotations

import re

ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\v": "\\v",
    "\f": "\\f",
    "\r": "\\r",
    "\x1b": "\\e",
    "\x7f": "\\d",
    "\\": "\\\\",
    "\0": "\\0",
    "\ufeff": "\\uFEFF",
}

_UNPRINTABLE = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x80-\x9f\ud800-\udfff\ufffe\uffff]")
_ESCAPED = {quote: re.compile(rf"[\x00-\x1f\x7f-\x9f\\\ufeff\ufffe\uffff{quote}]|#(?={{)") for quote in ('"', "'")}


def quoted(text: str, quote: str, room: int) -> str:
    """The text between quotes, escaped; of more than `room` characters the first ones, and `<> ...`."""
    cut = len(text) > room
    shown = _ESCAPED[quote].sub(lambda found: _escape(found[0]), text[:room] if cut else text)
    return f"{quote}{shown}{quote} <> ..." if cut else f"{quote}{shown}{quote}"


def _escape(character: str) -> str:
    known = ESCAPES.get(character)
    if known is not None:
        return known
    if character in "\"'#":
        return "\\" + character
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\x{{{code:X}}}"


def shown_binary(data: bytes, room: int) -> str:
    """A binary as a string if all of it is printable, else as its bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and not _UNPRINTABLE.search(text):
        return quoted(text, '"', room)
    if len(data) > room:
        return f"<<{', '.join(map(str, data[:room]))}, ...>>"
    return f"<<{', '.join(map(str, data))}>>"
