"""What a frame says, in a line: its kind, verb, id, error and a summary. Knows the messages of both wires.

A message of the host's wire and one of a worker's differ in shape: a worker runs one job at a time, so that its wire
names no ids. What fits neither is shown as the term that it is; what is no term, with the offset at which it stopped
making sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.codec.notation import to_elixir
from erlbridge.errors import BridgeError, DecodeError
from erlbridge.tools.repl.blocks import one_line
from erlbridge.wire.messages import Credit, Request, Result, parse_incoming

SUMMARY_CHARACTERS: Final = 300


class Kind(Enum):
    """What a frame is to the one who waits."""

    REQUEST = "request"
    ANSWER = "answer"
    EVENT = "event"
    CONTROL = "control"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Said:
    """What a frame says.

    `head` is the verb of a request, else the message's first atom. `key` is the id as bytes, equal for equal ids, and
    None where there is none; `id` its notation. `error` is the error's type, and `serialization_error` of a broken
    frame.
    """

    kind: Kind
    head: str
    summary: str
    key: bytes | None = None
    id: str = ""
    error: str | None = None
    offset: int | None = None


def decoded(data: bytes) -> object:
    """A frame's term. Raises `DecodeError`."""
    return binary_to_term(data)


def id_key(term: object) -> bytes:
    """Bytes that are equal for ids that are."""
    return term_to_binary(term, deterministic=True)


def said(data: bytes, *, inward: bool, worker: bool) -> Said:
    """What a frame says that went `inward`, from the host to the node (or of a `worker`'s wire from the node to the
    worker), or the other way."""
    try:
        term = decoded(data)
    except DecodeError as error:
        return Said(Kind.BROKEN, "broken", error.message, error=DecodeError.error_type, offset=error.offset)
    if worker:
        return _to_worker(term) if inward else _from_worker(term)
    return _from_host(term) if inward else _from_node(term)


def short(term: object, limit: int = SUMMARY_CHARACTERS) -> str:
    """A term's notation on one line, elided."""
    return one_line(to_elixir(term, limit=limit), limit)


def _of(kind: Kind, head: str, about: object, request_id: object, *, error: str | None = None) -> Said:
    summary = about if isinstance(about, str) else short(about)
    return Said(kind, head, one_line(summary, SUMMARY_CHARACTERS), id_key(request_id), short(request_id, 80), error)


def _plain(kind: Kind, head: str, about: object = "") -> Said:
    return Said(kind, head, one_line(about if isinstance(about, str) else short(about), SUMMARY_CHARACTERS))


def _odd(term: object) -> Said:
    return _plain(Kind.CONTROL, "term", term)


# -- the host's wire


def _from_host(term: object) -> Said:
    try:
        message = parse_incoming(term)
    except BridgeError as error:
        return Said(Kind.REQUEST, "malformed", error.message, *_id_of(term), error=error.error_type)
    match message:
        case Request(verb, request_id, payload):
            return _of(Kind.REQUEST, verb, payload, request_id)
        case Credit(count):
            return _plain(Kind.CONTROL, "credit", f"{count} more events")
        case Result(call_id, ok, value):
            return _plain(
                Kind.CONTROL, "result", f"of call {short(call_id, 40)}: {'ok' if ok else 'error'} {short(value)}"
            )


def _id_of(term: object) -> tuple[bytes | None, str]:
    if isinstance(term, tuple) and len(term) >= 3:
        return id_key(term[1]), short(term[1], 80)
    return None, ""


def _from_node(term: object) -> Said:
    match term:
        case (Atom() as tag, request_id, result) if str(tag) == "ok":
            return _of(Kind.ANSWER, "ok", result, request_id)
        case (Atom() as tag, request_id, failure) if str(tag) == "error":
            kind, text = _failure(failure)
            return _of(Kind.ANSWER, "error", text, request_id, error=kind)
        case (Atom() as tag, request_id, Mapping() as state) if str(tag) == "progress":
            return _of(Kind.EVENT, "progress", _progress(state), request_id)
        case (Atom() as tag, request_id, Mapping() as piece) if str(tag) in ("chunk", "data_chunk"):
            return _of(Kind.EVENT, str(tag), piece, request_id)
        case (Atom() as tag, call_id, request_id, name, arguments) if str(tag) == "call":
            return _of(
                Kind.EVENT, "call", f"call {short(call_id, 40)}: {short(name, 60)} of {short(arguments)}", request_id
            )
        case (Atom() as tag, level, text, metadata) if str(tag) == "log":
            job = _field(metadata, "job")
            line = f"{short(level, 20).removeprefix(':')}: {_text(text)}"
            return _plain(Kind.EVENT, "log", line) if job is None else _of(Kind.EVENT, "log", line, job)
        case (Atom() as tag, Mapping() as info) if str(tag) == "ready":
            told = ", ".join(
                f"{name} {_text(_field(info, name))}" for name in ("version", "os_pid", "workers", "codec")
            )
            return _plain(Kind.EVENT, "ready", told)
        case (Atom() as tag, *rest):
            return _plain(Kind.EVENT, str(tag), tuple(rest))
        case _:
            return _odd(term)


# -- a worker's wire


def _to_worker(term: object) -> Said:
    match term:
        case (Atom() as tag, Atom() as verb, payload, _) if str(tag) == "run":
            return _plain(Kind.REQUEST, str(verb), payload)
        case (Atom() as tag, *rest):
            return _plain(Kind.CONTROL, str(tag), tuple(rest))
        case Atom():
            return _plain(Kind.CONTROL, str(term))
        case _:
            return _odd(term)


def _from_worker(term: object) -> Said:
    match term:
        case (Atom() as tag, result) if str(tag) == "ok":
            return _plain(Kind.ANSWER, "ok", result)
        case (Atom() as tag, failure) if str(tag) == "error":
            kind, text = _failure(failure)
            return Said(Kind.ANSWER, "error", one_line(text, SUMMARY_CHARACTERS), error=kind)
        case (Atom() as tag, Mapping() as state) if str(tag) == "progress":
            return _plain(Kind.EVENT, "progress", _progress(state))
        case (Atom() as tag, *rest):
            return _plain(Kind.EVENT, str(tag), tuple(rest) if len(rest) != 1 else rest[0])
        case _:
            return _odd(term)


# -- what maps hold


def _field(term: object, name: str) -> object:
    if not isinstance(term, Mapping):
        return None
    found = term.get(Atom(name))
    return term.get(name.encode()) if found is None else found


def _text(term: object) -> str:
    match term:
        case bytes():
            return term.decode(errors="replace")
        case Atom():
            return str(term)
        case float():
            return f"{term:.4g}"
        case _:
            return short(term)


def _failure(failure: object) -> tuple[str, str]:
    kind = _field(failure, "error_type")
    if kind is None:
        return "unknown", short(failure)
    return _text(kind), f"{_text(kind)}: {_text(_field(failure, 'message'))}"


def _progress(state: object) -> str:
    stage, done, total = (_field(state, name) for name in ("stage", "done", "total"))
    line = f"{_text(stage)} {_text(done)} of {'?' if total is None else _text(total)}"
    for name in ("score", "best_score", "message"):
        if (value := _field(state, name)) is not None:
            line += f", {name} {_text(value)}"
    return line
