"""What can happen to a node, and what it can be told to do about it: the scheduler's events and actions.

Events are participles, actions imperatives; both are values. Knows what they carry; decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from erlbridge.errors import BridgeError, ProcessCrashed
from erlbridge.wire.messages import Request, Term

# -- events: what happened ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request for a worker, checked and encoded. `key` is the canonical bytes of its id."""

    key: bytes
    request: Request
    frame: bytes


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The host wants the request with `target_key` to end."""

    id: Term
    target_key: bytes


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The host (or a signal, then `ids` is empty) wants the node to end within `grace_s`."""

    ids: tuple[Term, ...]
    grace_s: float


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
class Tick:
    """Nothing happened but time."""


Event: TypeAlias = Submitted | CancelAsked | ShutdownAsked | Forked | Booted | Finished | Died | Tick


# -- actions: what to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a worker under this number."""

    worker: int


@dataclass(frozen=True, slots=True)
class Send:
    """Give a worker its job."""

    worker: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ask a worker to stop its job at the next model call."""

    worker: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that did not stop in time."""

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
class Exit:
    """End the node."""

    code: int


Action: TypeAlias = Fork | Send | Interrupt | Kill | Answer | Refuse | Exit
