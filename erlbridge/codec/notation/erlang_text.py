"""Strings, binaries and atoms as Erlang shows them: what is printable, and how the rest of it is escaped."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BARE_ATOM = re.compile(r"[a-z\xdf-\xf6\xf8-\xff][A-Za-z0-9_@\xc0-\xd6\xd8-\xf6\xf8-\xff]*")
RESERVED = frozenset(
    """after and andalso band begin bnot bor bsl bsr bxor case catch cond div end fun if let not of or orelse receive
    rem try when xor""".split()  # noqa: SIM905 - a list of them takes a page
)
_PRINTABLE = re.compile(r"[\x08-\x0d\x1b\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_ESCAPED = {quote: re.compile(rf"[\x00-\x1f\x7f-\x9f\\{quote}]") for quote in ('"', "'")}
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"} | {
    "\x1b": "\\e",
    "\x7f": "\\d",
    "\\": "\\\\",
}


def is_printable(codes: Sequence[object]) -> bool:
    """Whether a list of these is shown as a string."""
    if any(type(code) is not int or not 0 <= code < 0x110000 for code in codes):
        return False
    return _PRINTABLE.fullmatch("".join(map(chr, codes))) is not None  # type: ignore[arg-type]


def quoted(text: str, quote: str, room: int) -> str:
    """The text between quotes, escaped; of more than `room` characters the first ones, and `...`."""
    cut = len(text) > room
    shown = _ESCAPED[quote].sub(lambda found: _escape(found[0]), text[:room] if cut else text)
    return f"{quote}{shown}{'...' if cut else ''}{quote}"


def _escape(character: str) -> str:
    if character in "\"'":
        return "\\" + character
    return _ESCAPES.get(character) or f"\\{ord(character):03o}"


def atom_text(name: str) -> str:
    """The atom of this name."""
    if _BARE_ATOM.fullmatch(name) and name not in RESERVED:
        return name
    return quoted(name, "'", len(name))


def shown_binary(data: bytes, room: int) -> str:
    """A binary as a string if all of it is printable, else as its bytes."""
    if not data:
        return "<<>>"
    try:
        text, kind = data.decode(), "" if data.isascii() else "/utf8"
    except UnicodeDecodeError:
        text, kind = data.decode("latin-1"), ""
    if _PRINTABLE.fullmatch(text):
        return "<<" + quoted(text, '"', room) + kind + ">>"
    if len(data) > room:
        return f"<<{','.join(map(str, data[:room]))},...>>"
    return f"<<{','.join(map(str, data))}>>"
