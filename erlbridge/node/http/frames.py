"""The last frames of the host's wire as a page shows them: what kind each is, and its term as text, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from erlbridge.codec import Atom, binary_to_term
from erlbridge.codec.notation import to_elixir
from erlbridge.errors import BridgeError
from erlbridge.node.http.chronicle import Frame
from erlbridge.node.http.views import name_of
from erlbridge.wire.messages import Term

_SECRET: Final = ("api_key", "authorization", "password", "passwd", "secret", "token", "credential")
"""A map's value is not shown where its key ends in one of these."""
_REDACTED: Final = Atom("redacted")
_DEPTH: Final = 64


def view(frame: Frame) -> dict[str, Any]:
    """A frame as JSON has it; see `erlbridge.node.http`."""
    kind, text = "", ""
    if frame.size > len(frame.head):
        text = f"{frame.size} bytes, too long to be shown here"
    else:
        try:
            term = binary_to_term(frame.head, max_bytes=len(frame.head))
        except BridgeError as error:
            kind, text = "broken", str(error)
        else:
            kind, text = _kind(term), written(redacted(term))
    return {
        "number": frame.number,
        "at": frame.at,
        "outgoing": frame.outgoing,
        "bytes": frame.size,
        "kind": kind,
        "text": text,
    }


def written(term: Term) -> str:
    """A term as text, in Elixir's notation."""
    return to_elixir(term, limit=_MOST_CHARACTERS)


_MOST_CHARACTERS: Final = 8_000


def _kind(term: Term) -> str:
    first = term[0] if isinstance(term, tuple) and term else None
    return str(first) if isinstance(first, Atom) else "map" if isinstance(term, Mapping) else "other"


def redacted(term: Term, depth: int = _DEPTH) -> Term:
    """A term without the values that keys call secret; what is deeper than anything of ours is left out."""
    match term:
        case tuple() | list() if depth:
            return type(term)(redacted(item, depth - 1) for item in term)
        case Mapping() if depth:
            return {
                key: _REDACTED if _is_secret(key) else redacted(value, depth - 1)
                for key, value in ((_hashable(key), value) for key, value in term.items())
            }
        case tuple() | list() | Mapping():
            return Atom("too_deep")
        case _:
            return term


def _hashable(key: Term) -> Any:
    """Keys of an Erlang map may be maps; for showing, their names do."""
    try:
        hash(key)
    except TypeError:
        return name_of(key)
    return key


def _is_secret(key: Term) -> bool:
    return isinstance(key, Atom | bytes | str) and name_of(key).lower().endswith(_SECRET)
