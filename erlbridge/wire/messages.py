"""What the frames say: terms become requests and controls, answers and events become terms.

Knows the shape of every message of the wire contract; knows no verb's payload and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from erlbridge.codec import Atom, TermMap, term_to_binary
from erlbridge.errors import BridgeError, EncodeError, ValidationError
from erlbridge.limits import MAX_META_BYTES, MAX_PRIORITY, MAX_SPAN_MS
from erlbridge.wire.place import Place, listed, shown
from erlbridge.wire.vocabulary import atom, atom_keys

Term: TypeAlias = object
"""Any value that the codec decodes to or encodes from."""

PROTOCOL: Final = 1

_CREDIT: Final = Atom("credit")
_READY: Final = atom("ready")
_OK: Final = atom("ok")
_ERROR: Final = atom("error")
_PROGRESS: Final = atom("progress")
_LOG: Final = atom("log")
_TELEMETRY: Final = atom("telemetry")
_CHUNK: Final = atom("chunk")
_TEXT: Final = atom("text")
_CALL: Final = atom("call")
_CALL_OVER: Final = atom("call_over")
_DATA_CHUNK: Final = atom("data_chunk")
_TRANSFER: Final = atom("transfer")


# Of these two no field is set again. Frozen at run time too, they would take three times as long to make.


@dataclass(slots=True, unsafe_hash=True)
class Meta:
    """What a request says about itself. `deadline_ms` is a span, counted from arrival; `priority` is at most
    `MAX_PRIORITY` from 0, higher first; `source` is who asks, for turns between callers; `traceparent` the span that
    those of the job are below, as W3C's Trace Context writes it; `parent` the id of the request whose Elixir function
    makes this one, nil for none."""

    deadline_ms: Final[int | None] = None
    idempotency_key: Final[str | None] = None
    progress: Final[bool] = True
    priority: Final[int] = 0
    source: Final[str | None] = None
    version: Final[str | None] = None
    trace: Final[str | None] = None
    traceparent: Final[str | None] = None
    parent: Final[Term] = None


_NO_META: Final = Meta()


@dataclass(slots=True, unsafe_hash=True)
class Request:
    """One request of the host. `id` is any term and goes back exactly as it came."""

    verb: Final[str]
    id: Final[Term]
    payload: Final[Term]
    meta: Final[Meta] = _NO_META

    def bare(self) -> Request:
        """The request without its payload, for whoever keeps it: as a value that can be ten times its frame."""
        return Request(self.verb, self.id, None, self.meta)


@dataclass(frozen=True, slots=True)
class Credit:
    """The host grants the node `count` more events."""

    count: int


@dataclass(frozen=True, slots=True)
class Result:
    """The host's answer to a `{:call, call_id, …}`: a value (`ok`) or the reason of a failure."""

    call_id: Term
    ok: bool
    term: Term


class Malformed(ValidationError):
    """A term that is not a request; `id` is the request's where one could be read, else None."""

    def __init__(self, message: str, path: str, id: Term) -> None:  # noqa: A002 - the wire's own name
        super().__init__(message, path)
        self.id = id


def parse_incoming(term: Term) -> Request | Credit | Result:
    """The request or control that a term stands for: `{verb, id, payload}`, the same with meta, `{:credit, n}`,
    `{:result, call_id, outcome}` or the message map of `Pipeline.DSPy.MessageProtocol`.

    Raises `Malformed`, which carries the id wherever one can be read.
    """
    try:
        return _parse(term)
    except ValidationError as error:
        raise Malformed(error.message.removeprefix(f"{error.path}: "), error.path, _id_of(term)) from None


def _parse(term: Term) -> Request | Credit | Result:
    if isinstance(term, tuple):
        # By length first: a pattern would look at every shape for each of the requests, which are most of what comes.
        match len(term):
            case 4:
                verb, request_id, payload, meta = term
                return Request(_verb(verb), request_id, payload, _parse_meta(Place(meta, "meta")))
            case 3:
                verb, request_id, payload = term
                name = _verb(verb)
                if name == "result":
                    return _parse_result(request_id, payload)
                return Request(name, request_id, payload, _NO_META)
            case 2 if term[0] == _CREDIT:
                return Credit(Place(term[1], "credit").integer(minimum=1))
    elif isinstance(term, Mapping):
        return _parse_map(Place(term, "request"))
    raise Place(term, "request").refused("{verb, id, payload}, {verb, id, payload, meta} or a message map")


def _verb(term: Term) -> str:
    return str(term) if isinstance(term, Atom) else Place(term, "verb").atom()


def _parse_result(call_id: Term, outcome: Term) -> Result:
    """An outcome of another shape is a failure like any other: somebody waits for it."""
    match outcome:
        case (Atom() as tag, term) if str(tag) in ("ok", "error"):
            return Result(call_id, str(tag) == "ok", term)
        case _:
            unfit = f"expected {{:ok, value}} or {{:error, reason}}, got {shown(outcome)}"
            return Result(call_id, False, unfit.encode())


def _parse_map(place: Place) -> Request:
    entries = place.entries()
    for name in ("message_id", "request_type", "payload"):
        if name not in entries:
            raise ValidationError(f"expected the key `{name}`, got {listed(entries)}", "request")
    metadata = entries.get("metadata")
    meta = _NO_META if metadata is None or metadata.term is None else _parse_meta(metadata)
    return Request(entries["request_type"].name(), entries["message_id"].term, entries["payload"].term, meta)


def _parse_meta(place: Place) -> Meta:
    """What else it holds is the host's own, and passes."""
    told = {
        name: read(Place(value, f"{place.path}.{name}"))
        for name, value in place.named().items()
        if value is not None and (read := _META.get(name)) is not None
    }
    return Meta(**told) if told else _NO_META


def _meta_text(place: Place) -> str:
    if isinstance(place.term, bytes) and len(place.term) > MAX_META_BYTES:
        raise place.refused(f"a text of at most {MAX_META_BYTES} bytes")
    return place.name()


_META: Final[Mapping[str, Callable[[Place], Any]]] = {
    "deadline_ms": lambda place: place.integer(minimum=0, maximum=MAX_SPAN_MS),
    "idempotency_key": _meta_text,
    "progress": Place.boolean,
    "priority": lambda place: place.integer(minimum=-MAX_PRIORITY, maximum=MAX_PRIORITY),
    "source": _meta_text,
    "version": _meta_text,
    "trace": _meta_text,
    "traceparent": _meta_text,
    "parent": lambda place: place.term,
}
"""How each field of `Meta` is read from the entry of its name."""


def _id_of(term: Term) -> Term:
    """The id of something that may not be a request, so that its error finds the caller."""
    if isinstance(term, tuple) and len(term) >= 3:
        return term[1]
    if isinstance(term, dict | TermMap):
        for key, value in term.items():
            if (isinstance(key, Atom) and str(key) == "message_id") or key == b"message_id":
                return value
    return None


# -- what the node says ----------------------------------------------------------------------------------------------


def encode(message: tuple[Term, ...], *, head: int = 2) -> bytes:
    """A message's bytes. Text that is no Unicode, such as half a surrogate pair from a model's JSON, is mended first:
    one odd character must not cost the answer that holds it.

    Args:
        message: A tuple.
        head: Its first elements that never need mending: its kind, and an id that came from a frame, however deep.

    Raises `EncodeError` for what no term stands for.
    """
    try:
        return term_to_binary(message)
    except EncodeError:
        return term_to_binary((*message[:head], *map(_mended, message[head:])))


def _mended(term: Term) -> Term:
    match term:
        case str():
            return term.encode(errors="replace").decode()
        case list():
            return [_mended(element) for element in term]
        case tuple():
            return tuple(_mended(element) for element in term)
        case dict():
            return {_mended(key): _mended(value) for key, value in term.items()}
        case _:
            return term


def ready(info: Mapping[str, Term]) -> tuple[Term, ...]:
    """`{:ready, %{…}}`, the node's first message."""
    return (_READY, atom_keys(info))


def ok(request_id: Term, result: Term) -> tuple[Term, ...]:
    """`{:ok, id, result}`, the one answer to a request that succeeded."""
    return (_OK, request_id, result)


def error(request_id: Term, failure: BridgeError) -> tuple[Term, ...]:
    """`{:error, id, %{error_type: …, …}}`."""
    return (_ERROR, request_id, error_map(failure))


def error_as(request_id: Term, description: Term) -> tuple[Term, ...]:
    """`{:error, id, error}` for an error that a worker has described already."""
    return (_ERROR, request_id, description)


def error_map(failure: BridgeError) -> Term:
    """An error as the host sees it. Context keys must be published names; values any term."""
    return atom_keys(
        {
            "error_type": atom(failure.error_type),
            "message": failure.message,
            "traceback": failure.traceback,
            "context": atom_keys(failure.context),
            "recovery_strategy": atom(failure.recovery_strategy),
            "retryable": failure.retryable,
            "retry_after_ms": failure.retry_after_ms,
        }
    )


def progress(request_id: Term, state: Term) -> tuple[Term, ...]:
    """`{:progress, id, %{stage: …, done: …, total: …, …}}`."""
    return (_PROGRESS, request_id, state)


def chunk(request_id: Term, piece: Mapping[Term, Term]) -> tuple[Term, ...]:
    """`{:chunk, id, %{field: …, text: …, is_last: …}}`."""
    return (_CHUNK, request_id, piece)


def transfer(request_id: Term, name: str, about: Mapping[str, Term]) -> tuple[Term, ...]:
    """`{:ok, id, {:transfer, name, %{…}}}`: the result follows in chunks."""
    return (_OK, request_id, (_TRANSFER, name, atom_keys(about)))


def data_chunk(request_id: Term, chunk: Mapping[str, Term]) -> tuple[Term, ...]:
    """`{:data_chunk, id, %{transfer: …, chunk_index: …, data: …, is_final: …, compression: …}}`."""
    return (_DATA_CHUNK, request_id, atom_keys(chunk))


def joined(earlier: Mapping[Term, Term], later: Mapping[Term, Term]) -> Mapping[Term, Term]:
    """Two pieces of one field's text as one."""
    texts = [piece[_TEXT] for piece in (earlier, later)]
    return {**later, _TEXT: b"".join(text for text in texts if isinstance(text, bytes))}


def call(call_id: int, request_id: Term, name: Atom | bytes, arguments: Term) -> tuple[Term, ...]:
    """`{:call, call_id, id, name, arguments}`: the node asks the host to call an Elixir function."""
    return (_CALL, call_id, request_id, name, arguments)


def call_over(call_id: int) -> tuple[Term, ...]:
    """`{:call_over, call_id}`: nobody waits for the function's value any more."""
    return (_CALL_OVER, call_id)


def telemetry(what: str, measurements: Mapping[str, Term], metadata: Mapping[str, Term]) -> tuple[Term, ...]:
    """`{:telemetry, [:pipeline, :dspy, what], measurements, metadata}`."""
    return (_TELEMETRY, [atom("pipeline"), atom("dspy"), atom(what)], atom_keys(measurements), atom_keys(metadata))


def log(level: str, message: str | bytes, metadata: Mapping[str, Term]) -> tuple[Term, ...]:
    """`{:log, level, message, metadata}`: a line for the host's log, `level` one of `LOG_LEVELS`."""
    return (_LOG, atom(level), message, atom_keys(metadata))
