"""The last frames of the host's wire as a page shows them: what kind each is, and its term as text, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from erlbridge.codec import Atom, binary_to_term
from erlbridge.codec.notation import to_elixir
from erlbridge.errors import BridgeError
from erlbridge.node.http.chronicle import Frame
from erlbridge.wire.messages import Term
from erlbridge.wire.redaction import Redaction


def view(frame: Frame, redaction: Redaction) -> dict[str, Any]:
    """A frame as JSON has it, and without what a capture hides; see `erlbridge.node.http`."""
    kind, text = "", ""
    if frame.size > len(frame.head):
        text = f"{frame.size} bytes, too long to be shown here"
    else:
        try:
            term = binary_to_term(frame.head, max_bytes=len(frame.head))  # before anything unpacks more of it
            if (clean := redaction.clean(frame.head)) is not frame.head:
                term = binary_to_term(clean)
        except BridgeError as error:
            kind, text = "broken", str(error)
        else:
            kind, text = _kind(term), written(term)
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
