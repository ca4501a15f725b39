"""Jobs that several requests wait for: those that came with the same `idempotency_key` while it was in flight, or ask
for the same of the cache.

The first asker's request is the job's own, as its `Entry` holds it; the others follow it. Each has its own id, deadline
and answer. When the first one goes away, a follower takes its place and the job goes on; it ends with its last asker.
Works on the scheduler's own entries, queue, deadlines, calls and nesting; knows no worker but its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from erlbridge.core.calls import OpenCalls
from erlbridge.core.deadlines import Deadlines
from erlbridge.core.events import Action, Allow, Answer, Joined, Refuse
from erlbridge.core.nesting import Nesting
from erlbridge.core.queue import Entry, FairQueue
from erlbridge.core.results import Identity, conflict, shared
from erlbridge.errors import BridgeError, Cancelled, DeadlineExceeded, Overloaded
from erlbridge.limits import MAX_ASKERS
from erlbridge.wire.messages import Request, Term

_GOES_ON: Final = "the job goes on for others who have asked for the same"


@dataclass(frozen=True, slots=True, eq=False)
class Follower:
    """A request that waits for a job which another one began. `from_start` is whether no piece of an output can have
    passed it by."""

    key: bytes
    request: Request
    deadline: float | None
    from_start: bool


@dataclass(slots=True, eq=False)
class Flight:
    """A job that others may join, and those who did, in the order in which they came.

    Attributes:
        from_start: Whether the entry's own request has been there from the start.
        told: The deadline that its worker knows of.
    """

    entry: Entry
    identity: Identity
    followers: dict[bytes, Follower] = field(default_factory=dict)
    from_start: bool = True
    told: float | None = None

    @property
    def name(self) -> str | bytes | None:
        """What others join it by: its idempotency key, or else what the cache knows it as. Nobody joins a nested one,
        which runs in its parent's place."""
        return None if self.entry.parent is not None else name_of(self.entry.request, self.identity)

    @property
    def open(self) -> bool:
        """Whether the job still goes on for those who want it."""
        entry = self.entry
        return not (entry.answered or entry.cancelled or entry.late)

    def time(self) -> tuple[int | None, float | None]:
        """How long the job may take: the longest deadline of all its askers, in ms and as a point in time."""
        askers: list[Entry | Follower] = [self.entry, *self.followers.values()]
        if any(asker.deadline is None for asker in askers):
            return None, None
        last = max(askers, key=lambda asker: asker.deadline or 0.0)
        return last.request.meta.deadline_ms, last.deadline


def name_of(request: Request, identity: Identity) -> str | bytes | None:
    """What a request is known by to others that ask for the same: text is an idempotency key."""
    key = request.meta.idempotency_key
    return identity.cached_as if key is None else key


@dataclass(slots=True)
class Sharing:
    """The jobs that others may join while they are in flight, by what they are joined by and by the ids of all who
    ask."""

    entries: dict[bytes, Entry]
    queue: FairQueue
    deadlines: Deadlines[bytes]
    calls: OpenCalls
    nesting: Nesting
    _of_key: dict[str | bytes, Flight] = field(default_factory=dict)
    _of_id: dict[bytes, Flight] = field(default_factory=dict)

    # -- who asks

    def find(self, name: str | bytes | None) -> Flight | None:
        """The job that a request of this name (`name_of`) may join; one that is being stopped is none."""
        flight = None if name is None else self._of_key.get(name)
        return flight if flight is not None and flight.open else None

    def of(self, entry: Entry) -> Flight | None:
        """The flight of a job, None when it has neither key nor place in the cache."""
        return self._of_id.get(entry.key)

    def followed(self, key: bytes) -> Flight | None:
        """The job that the request with this id follows; None when it follows none."""
        flight = self._of_id.get(key)
        return flight if flight is not None and key in flight.followers else None

    def wanted(self, entry: Entry) -> Flight | None:
        """The flight of a job that goes on when its own asker goes, since others wait for it; None when it ends."""
        flight = self.of(entry)
        return flight if flight is not None and flight.followers else None

    def askers(self, entry: Entry, *, from_start: bool = False) -> Iterator[Entry | Follower]:
        """Everybody who waits for a job, or only those who have been there from its start."""
        flight = self.of(entry)
        if flight is None:
            yield entry
            return
        if flight.from_start or not from_start:
            yield entry
        for follower in flight.followers.values():
            if follower.from_start or not from_start:
                yield follower

    # -- who comes

    def begin(self, entry: Entry, identity: Identity) -> None:
        """A request that others may ask for too begins a job."""
        flight = Flight(entry, identity)
        self._of_id[entry.key] = flight
        if flight.name is not None:
            self._of_key[flight.name] = flight

    def join(self, event: Joined, now: float) -> Iterator[Action]:
        """A request waits for the job of its key too, or is refused for asking for something else."""
        meta = event.request.meta
        flight = self.find(name_of(event.request, event.identity))
        assert flight is not None  # noqa: S101 - whoever says so has found it in this very moment
        waiting = len(flight.followers) + 1
        if flight.identity.fingerprint != event.identity.fingerprint:
            yield Refuse(event.request.id, conflict(flight.entry.request.verb))
        elif waiting >= MAX_ASKERS:
            text = f"{waiting} requests wait for this job, limit {MAX_ASKERS}; ask again when it is done"
            context = {"waiting": waiting, "limit": MAX_ASKERS}
            yield Refuse(event.request.id, Overloaded(text, context=context, retry_after_ms=1000))
        else:
            deadline = None if meta.deadline_ms is None else now + meta.deadline_ms / 1000
            if deadline is not None:
                self.deadlines.set(event.key, deadline)
            flight.followers[event.key] = Follower(event.key, event.request, deadline, flight.entry.worker is None)
            self._of_id[event.key] = flight
            yield from self._tell_time(flight, now)

    # -- who goes

    def cancel(self, flight: Flight, key: bytes, now: float) -> Iterator[Action]:
        """One of several who wait for a job does not want it any more."""
        yield from self._leave(flight, key, Cancelled(f"cancelled; {_GOES_ON}"), now)

    def pass_deadline(self, flight: Flight, key: bytes, now: float) -> Iterator[Action]:
        """The deadline of one of several who wait for a job has passed."""
        follower = flight.followers.get(key)
        request = flight.entry.request if follower is None else follower.request
        context = {"deadline_ms": request.meta.deadline_ms}
        yield from self._leave(flight, key, DeadlineExceeded(f"the deadline passed; {_GOES_ON}", context=context), now)

    def end(self, entry: Entry) -> list[Follower]:
        """The job is over; gives who followed it, and waits for an answer."""
        flight = self._of_id.pop(entry.key, None)
        if flight is None:
            return []
        if flight.name is not None and self._of_key.get(flight.name) is flight:
            del self._of_key[flight.name]
        for follower in flight.followers:
            del self._of_id[follower]
            self.deadlines.drop(follower)
        return list(flight.followers.values())

    @staticmethod
    def answers(followers: list[Follower], ok: bool, term: Term) -> list[Answer]:
        """What those who followed a job are answered: its outcome, which somebody else has paid for. It is one value to
        all of them."""
        outcome = shared(term) if ok and followers else term
        return [Answer(follower.request.id, ok, outcome) for follower in followers]

    def _leave(self, flight: Flight, key: bytes, failure: BridgeError, now: float) -> Iterator[Action]:
        self.deadlines.drop(key)
        if follower := flight.followers.pop(key, None):
            del self._of_id[key]
            yield Refuse(follower.request.id, failure)
        else:
            yield Refuse(flight.entry.request.id, failure)
            yield from self._promote(flight)
        yield from self._tell_time(flight, now)

    def _promote(self, flight: Flight) -> Iterator[Action]:
        """The first follower takes the place of the job's own request."""
        entry, left = flight.entry, flight.entry.key
        waits = entry.number is not None
        if waits:  # it stands where its asker's priority and source say
            self.queue.remove(entry)
        del self._of_id[left], self.entries[left]
        heir = flight.followers.pop(next(iter(flight.followers)))
        entry.key, entry.request, entry.deadline = heir.key, heir.request, heir.deadline
        flight.from_start = heir.from_start
        self.entries[entry.key] = entry
        if waits:
            self.queue.add(entry)
        self.nesting.move(left, entry.key, self.entries.values())
        yield from self.calls.move(left, entry.key, entry.request.id)

    def _tell_time(self, flight: Flight, now: float) -> Iterator[Allow]:
        """A worker stops by itself shortly before its job's deadline, which is that of the last who waits."""
        deadline_ms, deadline = flight.time()
        if flight.entry.worker is not None and deadline != flight.told:
            flight.told = deadline
            yield Allow(flight.entry.worker, deadline_ms, None if deadline is None else deadline - now)
