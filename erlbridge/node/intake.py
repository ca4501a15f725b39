"""A request for a worker on its way to the scheduler: refused before anything is spent, answered where the same has
been done before, else checked and encoded before a worker is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core import events
from erlbridge.core.jobs import endpoints, parse_job, stored_programs
from erlbridge.core.results import Identity, identity
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import Overloaded, SerializationError
from erlbridge.limits import MAX_QUEUED_BYTES, MAX_WORKER_FRAME_BYTES
from erlbridge.node.host import Host, key_of
from erlbridge.node.shelves import Shelves
from erlbridge.store.results import Results
from erlbridge.wire.messages import Request
from erlbridge.wire.place import Place

_RUN: Final = Atom("run")


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes requests for workers. `host` hears what is refused or answered at once."""

    host: Host
    scheduler: Scheduler
    shelves: Shelves
    results: Results

    def take(self, key: bytes, request: Request, now: float) -> list[events.Action]:
        """What is to be done about a request. Raises `BridgeError` for one that is wrong."""
        parent = self._parent_key(request)
        name = request.meta.idempotency_key
        # A nested request joins no job: it might be the very one that waits for it.
        runs = parent is None and self.scheduler.sharing.find(name) is not None
        known = runs or self.results.has(name)
        if failure := self.scheduler.unwelcome(key, parent) if known else self.scheduler.refusal(key, parent):
            # Not raised: an error that its own frames hold keeps the request in memory until the collector comes.
            self.host.refuse(request.id, failure)
            return []
        same = None if name is None else identity(request.verb, request.payload)
        if runs and same is not None:
            return self.scheduler.step(events.Joined(key, replace(request, payload=None), same), now)
        if known and same is not None and (found := self.results.answer_to(request, same)) is not None:
            self.host.answer(request.id, found)
            return []
        return self.scheduler.step(self._submitted(key, request, parent, same), now)

    def store(self, outcome: events.Finished) -> None:
        """Keeps what a job has given, before anybody hears of it."""
        entry = self.scheduler.entry_of(outcome.worker)
        flight = None if entry is None or entry.cancelled else self.scheduler.sharing.of(entry)
        if outcome.ok and flight is not None:
            self.results.put(flight.entry.request, outcome.term, flight.identity)

    def _submitted(self, key: bytes, request: Request, parent: bytes | None, same: Identity | None) -> events.Submitted:
        stored: dict[str, bytes] = {}
        job = parse_job(request.verb, self.shelves.with_datasets(request.payload, stored))
        programs = stored_programs(job)
        stored |= {name: self.shelves.get(name) for name in programs}
        frame = term_to_binary((_RUN, Atom(request.verb), request.payload, stored))
        if len(frame) > MAX_WORKER_FRAME_BYTES:
            raise SerializationError(
                f"the job is {len(frame)} bytes for its worker, limit {MAX_WORKER_FRAME_BYTES}; send less data",
                context={"limit": MAX_WORKER_FRAME_BYTES},
            )
        self._refuse_too_much(len(frame))
        # The payload stands in the frame; as a value it can be ten times as large, and nobody reads it any more.
        return events.Submitted(key, replace(request, payload=None), frame, programs, endpoints(job), parent, same)

    def _parent_key(self, request: Request) -> bytes | None:
        parent = request.meta.parent
        if parent is None:
            return None
        if not self.host.may_have(parent):
            raise Place(parent, "meta.parent").refused("the id of a request, of at most an eighth of a frame")
        return key_of(parent)

    def _refuse_too_much(self, frame_bytes: int) -> None:
        held = self.scheduler.frame_bytes
        if held and held + frame_bytes > MAX_QUEUED_BYTES:
            raise Overloaded(
                f"jobs of {held} bytes wait for a worker, limit {MAX_QUEUED_BYTES}; try again later, or send less data",
                context={"limit": MAX_QUEUED_BYTES},
                retry_after_ms=1000,
            )
