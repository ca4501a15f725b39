"""What can happen to a node, and what it can be told to do about it: the scheduler's events and actions.

Events are participles, actions imperatives; both are values. Knows what they carry; decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from erlbridge.codec import Atom
from erlbridge.core.results import Identity
from erlbridge.errors import BridgeError, ProcessCrashed
from erlbridge.wire.messages import Request, Term

# -- events: what happened ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request for a worker, checked and encoded. `key` is the canonical bytes of its id, `programs` are the stored
    programs that it names, `endpoints` who answers its models, as `core.jobs.endpoints` says it; `parent` the key of
    the request whose Elixir function made this one, if one did. `identity` is what it asks for, where it has an
    idempotency key or is cached. With a `ticket` it is one that was `Held`, and key, request, parent and identity stand
    there. `cached` is whether the cache gets its
    result."""

    key: bytes
    request: Request
    frame: bytes
    programs: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    parent: bytes | None = None
    identity: Identity | None = None
    ticket: int | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A request for a worker needs what lies on a disk before it can be checked: it is in flight, and waits for no
    worker yet. `Submitted`, `Known` or `Unfit` with its `ticket`, a number never used twice, comes later. The rest is
    as in `Submitted`."""

    ticket: int
    key: bytes
    request: Request
    parent: bytes | None = None
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What a held request asks for has been done before; `term` is the result as it is answered."""

    ticket: int
    term: Term


@dataclass(frozen=True, slots=True)
class Unfit:
    """A held request cannot be done, and why."""

    ticket: int
    failure: BridgeError


@dataclass(frozen=True, slots=True)
class Joined:
    """A request for a worker asks for the same as a job that is in flight: by its idempotency key, or in the cache."""

    key: bytes
    request: Request
    identity: Identity


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The host wants the request with `target_key` to end; with `unheard` it is somebody else, who has no wire and gets
    no answer under `id`."""

    id: Term
    target_key: bytes
    unheard: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The host (or a signal, then `ids` is empty) wants the node to end within `grace_s`. `keys` are the ids' canonical
    bytes."""

    ids: tuple[Term, ...]
    grace_s: float
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker process exists."""

    worker: int
    os_pid: int


@dataclass(frozen=True, slots=True)
class Booted:
    """A worker waits for its first job."""

    worker: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker's one outcome for the job it runs: a result term, or an error map as the host shall see it."""

    worker: int
    ok: bool
    term: Term


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone; `cause` says how."""

    worker: int
    cause: ProcessCrashed


@dataclass(frozen=True, slots=True)
class Traced:
    """A worker's stack, as `Trace` asked for it: text, empty when there is none to be had."""

    worker: int
    stack: str


@dataclass(frozen=True, slots=True)
class LimitPassed:
    """A worker uses more than it may. `reason` is one of `vocabulary.CRASH_REASONS`; `context` holds the numbers, under
    published names, for the error of a worker that is killed for it (`hard`)."""

    worker: int
    kind: Literal["soft", "hard"]
    reason: str
    context: Mapping[str, Term] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stalled:
    """A worker's job has shown no sign of life for so long."""

    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Called:
    """A worker's job calls an Elixir function. `number` is the worker's own, never used twice by that worker."""

    worker: int
    number: int
    name: Atom | bytes
    arguments: Term
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """The host's answer to a call: a value (`ok`) or the reason of a failure."""

    call_id: Term
    ok: bool
    term: Term


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A call that could not be put to the host, and why."""

    call_id: int
    failure: BridgeError


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened but time."""


Event: TypeAlias = (
    Submitted
    | Held
    | Known
    | Unfit
    | Joined
    | CancelAsked
    | ShutdownAsked
    | Forked
    | Booted
    | Finished
    | Died
    | Traced
    | LimitPassed
    | Stalled
    | Called
    | Returned
    | Unsendable
    | Tick
)


# -- actions: what to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a worker under this number."""

    worker: int


@dataclass(frozen=True, slots=True)
class Send:
    """Give a worker its job. Of the request's `deadline_ms`, if it has one, `left_s` are left."""

    worker: int
    frame: bytes
    deadline_ms: int | None = None
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """Tell a worker what is left to the job that it runs, now that somebody else waits for it: `left_s` of
    `deadline_ms`, None without a deadline."""

    worker: int
    deadline_ms: int | None
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ask a worker to stop its job at the next model call."""

    worker: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Ask for a worker's stack, to be told as `Traced`; nobody waits for it long."""

    worker: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker: it did not stop or boot in time, passed a limit, or has done its share."""

    worker: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The one answer to a request. `term` is a result (`ok`) or an error map."""

    id: Term
    ok: bool
    term: Term


@dataclass(frozen=True, slots=True)
class Refuse:
    """The one answer to a request, as an error of ours."""

    id: Term
    failure: BridgeError


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the host call an Elixir function for the request with this id."""

    call_id: int
    id: Term
    name: Atom | bytes
    arguments: Term


@dataclass(frozen=True, slots=True)
class Release:
    """Tell the host that nobody waits for a call any more, though its request goes on."""

    call_id: int


@dataclass(frozen=True, slots=True)
class Return:
    """Give a worker the outcome of the call that it numbered so, as `core.functions` writes it."""

    worker: int
    number: int
    outcome: Term


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the host's log."""

    message: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the node."""

    code: int


Action: TypeAlias = (
    Fork | Send | Allow | Interrupt | Trace | Kill | Answer | Refuse | Ask | Release | Return | Warn | Exit
)
