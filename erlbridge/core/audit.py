"""The audit log's lines: what one says of a request and its outcome, and how each is chained to the one before.

A line is canonical JSON (ASCII, sorted keys, no spaces) of a flat record. Besides its fields it holds

    sequence  1 for a chain's first line, then one more for each
    prev      SHA-256 of the bytes of the line before, without its newline; 64 zeros for the first
    sum       SHA-256 of this line's own bytes with `"sum":""` in it

so that a change is found where it was made (`sum`) and cannot be mended there without changing every line behind it
(`prev`). Nothing of a payload, a result, a message or a traceback goes in: fields are named here one by one, and each
is a bounded number, a hash, a published name, or text that `meta` holds to say who asks. Knows no clock and no file;
`audit_check` reads what this writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from erlbridge.codec import Atom
from erlbridge.errors import BridgeError
from erlbridge.wire.messages import Meta, Request, Term
from erlbridge.wire.vocabulary import ATOMS, VERBS

if TYPE_CHECKING:
    import hashlib

FORMAT: Final = 1
"""Said by the first line of every file. A reader refuses a format that it does not know."""

ORIGIN: Final = "0" * 64
"""`prev` of a chain's first line."""

Value: TypeAlias = str | int | float
Record: TypeAlias = dict[str, Value]

_MOST_CHARACTERS: Final = 128
"""Of what a host says about itself; a name, not a text."""
_MOST: Final = 2**63 - 1
_NO_SUM: Final = b'"sum":""'
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?\Z", re.DOTALL)
_PROGRAM: Final = re.compile(r"program:[0-9a-f]{64}\Z")
_KEYS: Final = {
    name: Atom(name)
    for name in (
        "metrics",
        "optimization_metrics",
        "cached",
        "lm_calls",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "program_id",
        "error_type",
        "context",
        "reason",
    )
}


# -- what is known of a request --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Handled:
    """A request from its frame to its answer.

    Attributes:
        key: The canonical bytes of its id.
        request: None when the frame held none.
        request_bytes, request_sha256: Of the frame as it came; no sum where others vouch for the bytes.
        unsummed: That frame, where no line will tell of the request unless it fails, and it is not summed before.
        arrived_at, sent_at: On a monotonic clock; `sent_at` is when a worker got it.
        worker: The number of that worker.
        earlier: What came under the same id before and is not answered yet. The later one is refused for it, at once.
    """

    key: bytes
    request: Request | None
    request_bytes: int
    request_sha256: str | None
    arrived_at: float
    sent_at: float | None = None
    worker: int | None = None
    earlier: Handled | None = None
    unsummed: bytes | None = None

    def record(self, answer: tuple[Term, ...] | None, answer_bytes: int, answer_sha256: str, now: float) -> Record:
        """What the log says once `answer` has gone out; None when the host was gone before there was one."""
        summed = self.request_sha256 if self.unsummed is None else digest(self.unsummed)
        found: Record = {
            "event": "request",
            "id_sha256": digest(self.key)[:16],
            "request_bytes": self.request_bytes,
            **({} if summed is None else {"request_sha256": summed}),
            "duration_ms": _ms(now - self.arrived_at),
        }
        if self.request is not None:
            found |= _asked(self.request)
        if self.worker is not None and self.sent_at is not None:
            found |= {"worker": self.worker, "waited_ms": _ms(self.sent_at - self.arrived_at)}
        if answer is None:
            return found | {"outcome": "unanswered"}
        return found | {"answer_bytes": answer_bytes, "answer_sha256": answer_sha256} | _came_of(answer)


def digest(content: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal digits."""
    return _sha256()(content).hexdigest()


@cache
def _sha256() -> Callable[[bytes | memoryview], hashlib._Hash]:
    import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

    return hashlib.sha256


def _asked(request: Request) -> Record:
    found: Record = {}
    if request.verb in VERBS:
        found["verb"] = request.verb
    if type(request.id) is int and abs(request.id) <= _MOST:
        found["id"] = request.id
    return found | _who(request.meta)


def _who(meta: Meta) -> Record:
    found: Record = {}
    for name, text in (("source", meta.source), ("version", meta.version)):
        if text is not None:
            found[name] = text[:_MOST_CHARACTERS]
    if meta.trace is not None and (trace := _TRACEPARENT.match(meta.trace)):
        found["trace_id"] = trace[1]
    return found


def _came_of(answer: tuple[Term, ...]) -> Record:
    """Outcome, cost and program of an answer: `{:ok, id, result}` or `{:error, id, error}`."""
    kind, _, term = answer
    if str(kind) == "ok":
        metrics = _of(term, "metrics")
        found = _cost(_of(term, "optimization_metrics") if metrics is None else metrics) | {"outcome": "ok"}
        name = _of(term, "program_id")
        if isinstance(name, str | bytes):
            text = name if isinstance(name, str) else name.decode("latin-1")
            if _PROGRAM.match(text):
                found["program_id"] = text
        return found
    context = _of(term, "context")
    error_type, reason = str(_of(term, "error_type")), str(_of(context, "reason"))
    found = _cost(context) | {"outcome": error_type if error_type in BridgeError.owners else "unknown"}
    if reason in ATOMS:
        found["reason"] = reason
    return found


def _cost(metrics: Term) -> Record:
    """What was spent for this answer; one that somebody has paid for before costs nothing."""
    found: Record = {}
    if _of(metrics, "cached") is True:
        return found
    for name in ("lm_calls", "input_tokens", "output_tokens"):
        count = _of(metrics, name)
        if type(count) is int and 0 <= count <= _MOST:
            found[name] = count
    cost = _of(metrics, "cost_usd")
    if type(cost) in (int, float) and isinstance(cost, int | float) and 0 <= cost <= _MOST:
        found["cost_usd"] = float(cost)
    return found


def _of(term: Term, name: str) -> Term:
    return term.get(_KEYS[name]) if isinstance(term, Mapping) else None


def _ms(span_s: float) -> float:
    return round(span_s * 1000, 3)


# -- lines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chain:
    """The end of a chain: its length, and the SHA-256 of its last line.

    >>> line, chain = Chain().line({"event": "opened", "format": 1}, time_ns=0)
    >>> chain.sequence, chain.head == digest(line)
    (1, True)
    """

    sequence: int = 0
    head: str = ORIGIN

    def line(self, record: Record, time_ns: int) -> tuple[bytes, Chain]:
        """The next line, without its newline, and the chain that ends with it; `time_ns` counts from 1970."""
        link: Record = {"sequence": self.sequence + 1, "prev": self.head, "time": timestamp(time_ns), "sum": ""}
        line = rendered(record | link)
        line = line.replace(_NO_SUM, f'"sum":"{digest(line)}"'.encode(), 1)
        return line, Chain(self.sequence + 1, digest(line))


def rendered(record: Mapping[str, object]) -> bytes:
    """A record as canonical JSON. Raises `ValueError` for what JSON has no form for."""
    return _ENCODER.encode(record).encode("ascii")


def own_sum(line: bytes, claimed: str) -> bool:
    """Whether a line's `sum` is that of its bytes."""
    return digest(line.replace(f'"sum":"{claimed}"'.encode(), _NO_SUM, 1)) == claimed


_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
"""One for all lines: `json.dumps` makes a new one for each."""


def timestamp(time_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{_to_the_second(seconds)}.{rest // 10**6:03d}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    """Lines come by the thousand a second; this is a fifth of what one costs otherwise."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
