"""The last frames of the host's wire as a page shows them: what kind each is, and its term as text, without secrets."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from erlbridge.codec import Atom, binary_to_term
from erlbridge.codec.notation import to_elixir
from erlbridge.codec.tags import COMPRESSED, VERSION_MAGIC
from erlbridge.errors import BridgeError
from erlbridge.node.http.chronicle import Frame
from erlbridge.wire.messages import Term
from erlbridge.wire.redaction import Redaction

_MOST_CHARACTERS: Final = 8_000
_MOST_BYTES: Final = 64 * 1024
"""Of a term, which may come compressed."""


class FrameViews:
    """Frames as JSON has them, see `erlbridge.node.http`, their secrets written over. Each is written out once, which
    takes milliseconds, however often it is looked at. For one thread."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._known: dict[int, dict[str, Any]] = {}

    def of(self, frames: Sequence[Frame]) -> list[dict[str, Any]]:
        """The views of these frames; of others nothing is kept."""
        new = [frame for frame in frames if frame.number not in self._known]
        clean = self._redaction.clean_all([b"" if _is_long(frame) else frame.head for frame in new])
        known = self._known | {frame.number: _view(frame, head) for frame, head in zip(new, clean, strict=True)}
        self._known = {frame.number: known[frame.number] for frame in frames}
        return list(self._known.values())


def _view(frame: Frame, head: bytes) -> dict[str, Any]:
    kind, text = "", ""
    if not head and frame.size:
        text = f"{frame.size} bytes, too long to be shown here"
    else:
        try:
            term = binary_to_term(head, max_bytes=_MOST_BYTES)
        except BridgeError as error:
            kind, text = "broken", str(error)
        else:
            kind, text = _kind(term), to_elixir(term, limit=_MOST_CHARACTERS)
    return {
        "number": frame.number,
        "at": frame.at,
        "outgoing": frame.outgoing,
        "bytes": frame.size,
        "kind": kind,
        "text": text,
    }


def _is_long(frame: Frame) -> bool:
    """Whether there is more of a term than is kept, or would be if it were unpacked."""
    if frame.size > len(frame.head):
        return True
    if frame.head[:2] != bytes((VERSION_MAGIC, COMPRESSED)):
        return False
    try:
        return len(zlib.decompressobj().decompress(frame.head[6:], _MOST_BYTES + 1)) > _MOST_BYTES
    except zlib.error:
        return False  # it will be shown as broken


def _kind(term: Term) -> str:
    first = term[0] if isinstance(term, tuple) and term else None
    return str(first) if isinstance(first, Atom) else "map" if isinstance(term, Mapping) else "other"
