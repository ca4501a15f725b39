"""Terms as values of JSON, for a page that shows them. Bounded in depth; never fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from erlbridge.codec import Atom
from erlbridge.wire.messages import Term
from erlbridge.wire.place import shown

_DEPTH: Final = 8


def plain(term: Term, depth: int = _DEPTH) -> Any:
    """A term as JSON has it: atoms and binaries are texts, nil is null; what is deeper, or none of these, is shown as
    text."""
    match term:
        case None | bool() | int() | float():
            return term
        case Atom():
            return str(term)
        case str():
            return term
        case bytes():
            return term.decode(errors="replace")
        case list() | tuple() if depth:
            return [plain(item, depth - 1) for item in term]
        case Mapping() if depth:
            return {name_of(key): plain(value, depth - 1) for key, value in term.items()}
        case _:
            return shown(term)


def name_of(key: Term) -> str:
    """A map's key as a text."""
    found = plain(key, 0)
    return found if isinstance(found, str) else str(found)


def text_of(value: object, characters: int) -> str:
    """At most so many characters of a text: its beginning, or with a negative number its end."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if len(text) <= abs(characters):
        return text
    return f"{text[:characters]}…" if characters > 0 else f"…{text[characters:]}"
