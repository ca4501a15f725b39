"""Elixir functions as a request names them, `{:call, name}`, and what their failures are called.

Knows names and how an outcome is written between node and worker; calls nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from erlbridge.codec import Atom
from erlbridge.errors import BridgeError, CallbackFailed, InternalError
from erlbridge.limits import MAX_REASON_CHARACTERS
from erlbridge.wire.messages import Term
from erlbridge.wire.place import Place, shown

_OK: Final = Atom("ok")
_ERROR: Final = Atom("error")
_REFUSED: Final = Atom("refused")


@dataclass(frozen=True, slots=True)
class Function:
    """An Elixir function by the name that the request gave it: an atom or a binary, and it goes back as that."""

    name: Atom | bytes

    @property
    def text(self) -> str:
        """The name, for messages."""
        return str(self.name) if isinstance(self.name, Atom) else self.name.decode()


def names_function(term: Term) -> bool:
    """Whether a term looks like `{:call, name}`; `parse_function` then says whether it is."""
    return isinstance(term, tuple)


def parse_function(place: Place) -> Function:
    """The function at a place: `{:call, name}`. Raises `ValidationError` with the path."""
    match place.term:
        case (Atom() as tag, (Atom() | bytes()) as name) if str(tag) == "call":
            if not Place(name, f"{place.path}[1]").name():
                raise place.refused("{:call, name} with a name that is not empty")
            return Function(name)
        case _:
            raise place.refused("{:call, name}, with an atom or a binary as the name of an Elixir function")


# -- an outcome, from node to worker -----------------------------------------------------------------------------------


def returned(ok: bool, term: Term) -> Term:
    """What the host gave: `{:ok, value}` or `{:error, reason}`."""
    return (_OK if ok else _ERROR, term)


def refused(failure: BridgeError) -> Term:
    """Why the node never asked, or no longer waits: `{:refused, error_type, message, context}`."""
    return (_REFUSED, Atom(failure.error_type), failure.message, failure.context)


def value_of(outcome: Term, function: Atom | bytes) -> Term:
    """The value of an outcome. Raises `CallbackFailed` for the function's own failure, and the node's refusal as the
    error that it is."""
    match outcome:
        case (Atom() as tag, value) if tag == _OK:
            return value
        case (Atom() as tag, reason) if tag == _ERROR:
            raise call_failed(function, f"failed: {reason_text(reason)}")
        case (Atom() as tag, Atom() as error_type, bytes() as message, Mapping() as context) if tag == _REFUSED:
            owner = BridgeError.owners[str(error_type)]
            raise owner(message.decode(), context={key.decode(): value for key, value in context.items()})
        case _:
            raise InternalError(f"the node answered a call with {shown(outcome)}")


def call_failed(function: Atom | bytes, what: str) -> CallbackFailed:
    """The error of an Elixir function; `what` goes on from its name, as in `failed: …`."""
    return CallbackFailed(f"the Elixir function `{Function(function).text}` {what}", context={"name": function})


def reason_text(reason: Term) -> str:
    """A failure's reason in words: a text as it is, an exception by its message, anything else shortly; bounded.

    >>> reason_text(b"no more quota"), reason_text(Atom("timeout")), reason_text((Atom("a"), 1))
    ('no more quota', ':timeout', 'a tuple of 2 elements')
    """
    if isinstance(reason, Mapping):
        found = reason.get(Atom("message"), reason.get(b"message"))
        reason = found if isinstance(found, bytes) else reason
    if not isinstance(reason, bytes):
        return shown(reason)
    text = reason[: 4 * MAX_REASON_CHARACTERS].decode(errors="replace")
    return text if len(text) <= MAX_REASON_CHARACTERS else f"{text[:MAX_REASON_CHARACTERS]}…"
