"""The requests in flight, each from its coming to its one answer: held while the disk looks, waiting, or at a worker.

What knows of a request while it is there (its deadline, who follows it, the calls of its job, who is nested in it) is
told here of its coming and its end, and nowhere else. Knows no worker but its number, and whose turn it is not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from erlbridge.core.calls import OpenCalls
from erlbridge.core.deadlines import Deadlines
from erlbridge.core.events import Answer, Refuse
from erlbridge.core.nesting import Nesting
from erlbridge.core.queue import Entry, FairQueue
from erlbridge.core.results import Identity
from erlbridge.core.sharing import Follower, Sharing
from erlbridge.errors import BridgeError
from erlbridge.wire.messages import Term


@dataclass(slots=True)
class InFlight:
    """Works on the scheduler's own queue, calls and nesting.

    Attributes:
        entries: Every request that a job is for, by key; those who follow one are `sharing`'s.
        held: Those that wait for what the disk has to say, by ticket.
        frame_bytes: Bytes of the jobs that wait for a worker.
    """

    queue: FairQueue
    calls: OpenCalls
    nesting: Nesting
    sharing: Sharing = field(init=False)
    entries: dict[bytes, Entry] = field(init=False, default_factory=dict)
    held: dict[int, Entry] = field(init=False, default_factory=dict)
    deadlines: Deadlines[bytes] = field(init=False, default_factory=Deadlines)
    frame_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.sharing = Sharing(self.entries, self.queue, self.deadlines, self.calls, self.nesting)

    def __contains__(self, key: bytes) -> bool:
        """Whether a request with this key is there, be it that it follows another."""
        return key in self.entries or self.sharing.followed(key) is not None

    # -- on its way

    def enter(self, entry: Entry, identity: Identity | None) -> None:
        """A request is in flight from now on; others may ask for the same by its identity."""
        span_ms = entry.request.meta.deadline_ms
        self.entries[entry.key] = entry
        if entry.parent is not None:
            self.nesting.expect(entry)
        if span_ms is not None:
            entry.deadline = entry.arrived_at + span_ms / 1000
            self.deadlines.set(entry.key, entry.deadline)
        if identity is not None:
            self.sharing.begin(entry, identity)

    def hold(self, entry: Entry, ticket: int) -> None:
        """It waits for what the disk has to say."""
        entry.ticket = ticket
        self.held[ticket] = entry

    def release(self, ticket: int) -> Entry | None:
        """The disk has said it; None when the request has been answered meanwhile."""
        entry = self.held.pop(ticket, None)
        if entry is not None:
            entry.ticket = None
        return entry

    def wait(self, entry: Entry) -> None:
        """It waits for a worker."""
        self.frame_bytes += len(entry.frame)
        if entry.parent is not None:
            self.nesting.add(entry)
        else:
            self.queue.add(entry)

    def let_go(self, entry: Entry) -> None:
        """A worker has its job; a queue of large ones must not be held twice."""
        self.frame_bytes -= len(entry.frame)
        entry.frame = b""

    # -- its end

    def answer(self, entry: Entry, ok: bool, term: Term) -> list[Answer]:
        """Everybody who waits for the job gets its outcome."""
        followers = self._end(entry)
        return [Answer(entry.request.id, ok, term), *self.sharing.answers(followers, ok, term)]

    def refuse(self, entry: Entry, failure: BridgeError) -> list[Refuse]:
        """Everybody who waits for the job hears why there is no outcome."""
        followers = self._end(entry)
        return [Refuse(request.id, failure) for request in (entry.request, *(one.request for one in followers))]

    def _end(self, entry: Entry) -> list[Follower]:
        """The job is over for everybody who waits for it; gives those who followed it."""
        entry.answered = True
        if entry.number is not None:
            self.queue.remove(entry)
        followers = self.sharing.end(entry)
        self.calls.end(entry.key)
        self.deadlines.drop(entry.key)
        del self.entries[entry.key]
        if entry.ticket is not None:
            del self.held[entry.ticket]
        self.nesting.ended(entry, self.entries.keys())
        self.frame_bytes -= len(entry.frame)
        return followers
