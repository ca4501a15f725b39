"""What a node answers, as a host reads it: error maps become the bridge's own errors again.

The other direction is `messages`. Knows shapes; a node of another version may say more than is known here, and less.
"""

from __future__ import annotations

from collections.abc import Mapping

from erlbridge.codec import Atom
from erlbridge.errors import BridgeError, LMFailed, ValidationError


def named(term: object) -> dict[str, object]:
    """A map's entries by the text of their keys, atoms or binaries alike; none where it is no map.

    >>> named({Atom("score"): 0.5, b"name": b"x"})
    {'score': 0.5, 'name': b'x'}
    """
    if not isinstance(term, Mapping):
        return {}
    return {text(key): value for key, value in term.items()}


def text(term: object) -> str:
    """The text of an atom or a binary; of anything else what Python shows."""
    match term:
        case bytes():
            return term.decode(errors="replace")
        case Atom() | str():
            return str(term)
        case _:
            return repr(term)


def parse_error(term: object) -> BridgeError:
    """The error that an error map stands for, in the class that owns its `error_type`; never raises.

    `context` is by name, with its values as terms. One that nobody owns is a `BridgeError` without a type.
    """
    entries = named(term)
    owner = BridgeError.owners.get(text(entries.get("error_type")), BridgeError)
    message = text(entries["message"]) if "message" in entries else f"an error without a message: {term!r:.200}"
    context = named(entries.get("context"))
    trace = entries.get("traceback")
    retry = entries.get("retry_after_ms")
    retry_after_ms = retry if isinstance(retry, int) else None
    if owner is ValidationError:
        path = text(context.get("path", b"request"))
        refused = ValidationError(message.removeprefix(f"{path}: "), path)
        refused.context = context
        return refused
    if owner is LMFailed:
        kind = text(context.get("kind", b"unknown"))
        failed = LMFailed(message, kind=kind, transient=entries.get("retryable") is True, retry_after_ms=retry_after_ms)
        failed.context = context
        failed.traceback = None if trace is None else text(trace)
        return failed
    return owner(
        message, context=context, traceback=None if trace is None else text(trace), retry_after_ms=retry_after_ms
    )
