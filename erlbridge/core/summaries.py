"""What a list says of a stored program, taken from the beginning of its envelope without building the rest.

Knows the envelope's names. Reads stored bytes as data only: no program is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from erlbridge.codec import binary_to_term, tags, term_to_binary
from erlbridge.errors import BridgeError, DecodeError
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom

LISTED: Final = ("name", "module", "optimizer", "scores")
_MOST_BYTES: Final = 64 * 1024
"""Of a summary. Envelopes come from workers, and nobody has looked at how much stands in them."""

_READ: Final[dict[object, str]] = {
    key: name
    for name in ("signature", "pipeline", "module", "optimizer", "scores")
    for key in (atom(name), name.encode())
}
"""What is read of an envelope, by its keys as a host may have written them. A pipeline has no signature."""
_BEHIND: Final = (atom("state"), b"state")
"""Keys are in order, so behind this one nothing is listed; and it is the one that can be large."""
_VERSION: Final = bytes((tags.VERSION_MAGIC,))
_MAP: Final = bytes((tags.VERSION_MAGIC, tags.MAP_EXT))
_NOTHING: Final = term_to_binary({})


def summarized(envelope: bytes) -> bytes | None:
    """The summary of an envelope, or of its first bytes; None when it needs more of them, or is none."""
    try:
        found = _entries(envelope)
        signature = found.get("signature", found.get("pipeline"))
        name = signature.get(atom("name"), signature.get(b"name")) if isinstance(signature, Mapping) else None
        summary = term_to_binary({b"name": name, **{key.encode(): found.get(key) for key in LISTED[1:]}})
    except BridgeError:
        return None
    return summary if len(summary) <= _MOST_BYTES else _NOTHING


def summary(stored: bytes) -> dict[str, Term]:
    """What `summarized` gave, by name; nothing where it gave nothing."""
    term = binary_to_term(stored) if stored else {}
    known = term if isinstance(term, Mapping) else {}
    return {name: known.get(name.encode()) for name in LISTED}


def _entries(data: bytes) -> dict[str, Term]:
    """What is read of an envelope.

    Raises `DecodeError` when the data end before the last of it: envelopes are written with their keys in order, and
    only what `put_program` took may lack one.
    """
    from erlbridge.codec import skip  # noqa: PLC0415 - the node's start does not wait for it

    if data[:2] != _MAP:
        raise DecodeError("expected a map", 0)
    found: dict[str, Term] = {}
    at = len(_MAP) + 4
    for _ in range(int.from_bytes(data[len(_MAP) : at])):
        key_end = skip(data, at)
        key = binary_to_term(_VERSION + data[at:key_end])
        if key in _BEHIND:
            break
        end = skip(data, key_end)
        if (name := _READ.get(key)) is not None:
            found[name] = binary_to_term(_VERSION + data[key_end:end])
        at = end
    return found
