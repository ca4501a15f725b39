"""A request for a worker on its way to the scheduler: refused before anything is spent, answered where the same has
been done before, else checked and encoded before a worker is taken.

What needs nothing of the disk goes its way at once. What does is held by the scheduler, with its id and its deadline,
while the disk's thread looks for its stored result, its datasets and its programs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NoReturn, TypeAlias

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core import events
from erlbridge.core.caching import asks_for_cache, cached_identity, calls_functions
from erlbridge.core.datasets import with_datasets
from erlbridge.core.jobs import Job, endpoints, parse_job, stored_programs
from erlbridge.core.results import Identity, identity
from erlbridge.core.scheduler import Scheduler
from erlbridge.core.sharing import name_of
from erlbridge.errors import BridgeError, Overloaded, SerializationError
from erlbridge.limits import MAX_QUEUED_BYTES, MAX_WAITING_DISK_REQUESTS, MAX_WORKER_FRAME_BYTES
from erlbridge.node.claiming import claim_of
from erlbridge.node.host import Host, key_of
from erlbridge.node.stock import Stock
from erlbridge.wire.messages import Request, Term, parse_incoming
from erlbridge.wire.place import Place

_RUN: Final = Atom("run")
_FIRST_LOOK_S: Final = 0.2
_MOST_LOOK_S: Final = 1.0
"""How soon, and how seldom at last, it is looked again for what another node is doing."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What was answered before."""

    result: Term


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that a worker can run. `claim` is one that was taken for it; `waits` is one that another job has."""

    frame: bytes
    programs: tuple[str, ...]
    endpoints: tuple[str, ...]
    cached: bool = False
    claim: str | None = None
    waits: str | None = None


_Found: TypeAlias = _Stored | _Ready | BridgeError


@dataclass(slots=True)
class _Waiting:
    """A held request whose answer another job is about to give."""

    request: Request
    identity: Identity
    ready: _Ready
    look_at: float
    pause_s: float = _FIRST_LOOK_S
    asked: bool = False


class Intake:
    """Takes requests for workers.

    Args:
        host: Hears what is refused at once.
        step: Has the scheduler hear of an event.
        caches: Whether requests that do not say are answered from the cache.
        library: The versions that results come from.
        max_frame_bytes: What a frame may hold, unpacked.
    """

    def __init__(
        self,
        host: Host,
        scheduler: Scheduler,
        stock: Stock,
        step: Callable[[events.Event], None],
        *,
        caches: bool,
        library: str,
        max_frame_bytes: int,
    ) -> None:
        self._host = host
        self._scheduler = scheduler
        self._stock = stock
        self._step = step
        self._caches = caches
        self._library = library
        self._max_frame_bytes = max_frame_bytes
        self._tickets = itertools.count(1)
        self._held_bytes: dict[int, int] = {}
        self._waiting: dict[int, _Waiting] = {}

    def take(self, key: bytes, request: Request, frame: bytes | memoryview) -> None:
        """Sees to a request that came in this frame. Raises `BridgeError` for one that is wrong."""
        parent = self._parent_key(request)
        if failure := self._scheduler.admission.unwelcome(key, parent):
            # Not raised: an error that its own frames hold keeps the request in memory until the collector comes.
            self._host.refuse(request.id, failure)
            return
        asked = self._identity(request)
        sharing = self._scheduler.in_flight.sharing
        # A nested request joins no job: it might be the very one that waits for it.
        if asked is not None and parent is None and sharing.find(name_of(request, asked)) is not None:
            self._step(events.Joined(key, request.bare(), asked))
        elif self._may_be_known(request, asked) or _names_datasets(request.payload):
            self._hold(key, request, frame, parent, asked)
        elif failure := self._scheduler.admission.no_room(nested=parent is not None):
            self._host.refuse(request.id, failure)
        else:
            job = parse_job(request.verb, request.payload)
            if stored_programs(job):
                self._hold(key, request, frame, parent, asked)
            else:
                ready = _encoded(request, job, (), {})
                self._refuse_too_much(len(ready.frame))
                self._submit(key, request, ready, parent=parent, identity=asked)

    # -- what it asks for

    def _identity(self, request: Request) -> Identity | None:
        """What a request asks for, where others may ask for the same; else None, since it costs to know."""
        cached = self._stock.cache.on and asks_for_cache(request, self._caches)
        if request.meta.idempotency_key is None:
            return cached_identity(request, self._library) if cached else None
        found = identity(request.verb, request.payload)
        if not cached:
            return found
        return replace(found, cached_as=cached_identity(request, self._library).cached_as)

    def _may_be_known(self, request: Request, asked: Identity | None) -> bool:
        has_key = request.meta.idempotency_key is not None and self._stock.results.on
        return asked is not None and (has_key or asked.cached_as is not None)

    def _parent_key(self, request: Request) -> bytes | None:
        parent = request.meta.parent
        if parent is None:
            return None
        if not self._host.may_have(parent):
            raise Place(parent, "meta.parent").refused("the id of a request, of at most an eighth of a frame")
        return key_of(parent)

    # -- what needs the disk

    def _hold(
        self, key: bytes, request: Request, frame: bytes | memoryview, parent: bytes | None, asked: Identity | None
    ) -> None:
        self._refuse_too_much(len(frame))
        if len(self._held_bytes) >= (limit := max(MAX_WAITING_DISK_REQUESTS, self._scheduler.max_queue)):
            raise Overloaded(
                f"{len(self._held_bytes)} requests wait for what is stored, limit {limit}; try again later",
                context={"waiting": len(self._held_bytes), "limit": limit},
                retry_after_ms=100,
            )
        ticket = next(self._tickets)
        only_asks = request.bare()
        # A payload as a value can be ten times as large: one is held so, for the thread that is most often free, and
        # those behind it as they came.
        find = partial(self._found_of_frame, bytes(frame)) if self._held_bytes else partial(self._found, request)
        self._held_bytes[ticket] = len(frame)
        self._step(events.Held(ticket, key, only_asks, parent, asked))
        self._stock.disk.run(
            request.verb,
            lambda: find(asked, nested=parent is not None),
            lambda found: self._go_on(ticket, only_asks, asked, found),
        )

    def _found_of_frame(self, frame: bytes, asked: Identity | None, *, nested: bool) -> _Stored | _Ready:
        request = parse_incoming(binary_to_term(frame, max_bytes=self._max_frame_bytes))
        assert isinstance(request, Request)  # noqa: S101 - it was one before
        return self._found(request, asked, nested=nested)

    def _found(self, request: Request, asked: Identity | None, *, nested: bool) -> _Stored | _Ready:
        """All that the disk has to say of a request; on its thread."""
        if asked is not None and (stored := self._stored(request, asked)) is not None:
            return stored
        named: dict[str, bytes] = {}
        job = parse_job(request.verb, self._stock.shelves.with_datasets(request.payload, named))
        programs = {name: self._stock.shelves.get(name) for name in stored_programs(job)}
        ready = _encoded(request, job, tuple(programs), named | programs)
        if asked is None or asked.cached_as is None:
            return ready
        if any(calls_functions(content) for name, content in programs.items() if name.startswith("program:")):
            return ready
        ready = replace(ready, cached=True)
        # What is nested waits for nobody: whoever has the claim might wait for its parent's worker.
        return ready if nested else self._claimed(request, asked, ready)

    def _stored(self, request: Request, asked: Identity, *, again: bool = False) -> _Stored | None:
        """What was answered under the request's key, or to the same question."""
        key = request.meta.idempotency_key
        if key is not None and (result := self._stock.results.answer_to(key, asked)) is not None:
            return _Stored(result)
        if asked.cached_as is None or (result := self._stock.cache.find(asked, request.verb, again=again)) is None:
            return None
        if key is not None:
            self._stock.results.put(key, request.verb, result, asked)
        return _Stored(result)

    def _claimed(self, request: Request, asked: Identity, ready: _Ready) -> _Stored | _Ready:
        """Takes the claim on a question of which nothing is stored; on the disk's thread."""
        claim = claim_of(asked.cached_as)
        if not self._stock.claiming.take(claim):
            return replace(ready, waits=claim)
        stored = None
        try:
            # Whoever had it may have answered since it was looked for.
            stored = self._stored(request, asked, again=True)
        except BaseException:
            self._stock.claiming.release(claim)  # nobody else would
            raise
        if stored is not None:
            self._stock.claiming.release(claim)
            return stored
        return replace(ready, claim=claim, waits=None)

    def _go_on(self, ticket: int, request: Request, asked: Identity | None, found: _Found) -> None:
        """The disk has spoken of a held request, which may have been answered meanwhile."""
        entry = self._scheduler.in_flight.held.get(ticket)
        if isinstance(found, _Ready) and found.waits is not None and entry is not None:
            assert asked is not None  # noqa: S101 - without, nobody can answer the same
            before = self._waiting.get(ticket)
            pause_s = _FIRST_LOOK_S if before is None else min(2 * before.pause_s, _MOST_LOOK_S)
            self._waiting[ticket] = _Waiting(request, asked, found, time.monotonic() + pause_s, pause_s)
            return
        self._forget(ticket)
        claim = found.claim if isinstance(found, _Ready) else None
        failure: BridgeError | None = found if isinstance(found, BridgeError) else None
        if isinstance(found, _Ready) and entry is not None:
            failure = self._too_much(len(found.frame))
        if claim is not None and (entry is None or failure is not None):
            self._stock.claiming.give_back(claim)
        if entry is None:
            return
        if failure is not None:
            self._step(events.Unfit(ticket, failure))
        elif isinstance(found, _Stored):
            self._step(events.Known(ticket, found.result))
        elif isinstance(found, _Ready):
            if claim is not None:
                self._stock.claiming.note(claim, entry, time.monotonic())
            self._submit(entry.key, entry.request, found, ticket=ticket)

    def _forget(self, ticket: int) -> None:
        self._waiting.pop(ticket, None)
        self._held_bytes.pop(ticket, None)

    # -- what others are doing

    def due_at(self) -> float | None:
        """When `look` has something to do; None when nothing is waited for."""
        if not self._waiting:
            return None
        return min((waiting.look_at for waiting in self._waiting.values() if not waiting.asked), default=None)

    def look(self, now: float) -> None:
        """Looks again for what another job is about to answer."""
        for ticket, waiting in list(self._waiting.items()):
            if ticket not in self._scheduler.in_flight.held:
                self._forget(ticket)
            elif not waiting.asked and waiting.look_at <= now:
                waiting.asked = True
                self._look_again(ticket, waiting)

    def _look_again(self, ticket: int, waiting: _Waiting) -> None:
        request, asked, ready = waiting.request, waiting.identity, waiting.ready

        def found() -> _Stored | _Ready:
            return self._stored(request, asked, again=True) or self._claimed(request, asked, ready)

        self._stock.disk.run(request.verb, found, lambda found: self._go_on(ticket, request, asked, found))

    # -- what a worker may run

    def _submit(
        self,
        key: bytes,
        request: Request,
        ready: _Ready,
        *,
        parent: bytes | None = None,
        identity: Identity | None = None,
        ticket: int | None = None,
    ) -> None:
        # The payload stands in the frame; as a value it can be ten times as large, and nobody reads it now.
        bare, frame, programs, endpoints = request.bare(), ready.frame, ready.programs, ready.endpoints
        self._step(events.Submitted(key, bare, frame, programs, endpoints, parent, identity, ticket, ready.cached))

    def _refuse_too_much(self, frame_bytes: int) -> None:
        if failure := self._too_much(frame_bytes):
            raise failure

    def _too_much(self, frame_bytes: int) -> Overloaded | None:
        held = self._scheduler.in_flight.frame_bytes + sum(self._held_bytes.values())
        if not held or held + frame_bytes <= MAX_QUEUED_BYTES:
            return None
        return Overloaded(
            f"jobs of {held} bytes wait for a worker, limit {MAX_QUEUED_BYTES}; try again later, or send less data",
            context={"limit": MAX_QUEUED_BYTES},
            retry_after_ms=1000,
        )


def _encoded(request: Request, job: Job, programs: tuple[str, ...], stored: dict[str, bytes]) -> _Ready:
    """A job with the stored things that it names, among them these programs, as its worker gets it. Raises
    `SerializationError`."""
    frame = term_to_binary((_RUN, Atom(request.verb), request.payload, stored))
    if len(frame) > MAX_WORKER_FRAME_BYTES:
        raise SerializationError(
            f"the job is {len(frame)} bytes for its worker, limit {MAX_WORKER_FRAME_BYTES}; send less data",
            context={"limit": MAX_WORKER_FRAME_BYTES},
        )
    return _Ready(frame, programs, endpoints(job))


class _Named(Exception):
    """A dataset was named."""


def _names_datasets(payload: Term) -> bool:
    """Whether a payload names datasets. Raises `ValidationError` for a name that is none."""

    def find(_name: str) -> NoReturn:
        raise _Named

    try:
        with_datasets(payload, find)
    except _Named:
        return True
    return False
