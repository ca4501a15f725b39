"""Which job runs where and when, and what is answered: all the node decides, with no clock, process or descriptor.

`Scheduler.step(event, now)` takes what happened and gives what to do. Times are seconds of one monotonic clock, handed
in. Who may come stands in `core.admission`, whose turn it is in `core.queue`, who works in `core.roster`, what may run
at once in `core.quotas`, how all ends in `core.shutdown`; here they meet. That every request gets its one answer is the
work of `core.in_flight`. The frames that a worker gets are bytes to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from erlbridge.core.admission import Admission
from erlbridge.core.calls import OpenCalls
from erlbridge.core.deadlines import earliest
from erlbridge.core.endings import Endings
from erlbridge.core.events import (
    Action,
    Answer,
    Booted,
    Called,
    CancelAsked,
    Died,
    Event,
    Finished,
    Forked,
    Held,
    Joined,
    Known,
    LimitPassed,
    Refuse,
    Return,
    Returned,
    Send,
    ShutdownAsked,
    Stalled,
    Submitted,
    Tick,
    Traced,
    Unfit,
    Unsendable,
)
from erlbridge.core.functions import refused
from erlbridge.core.in_flight import InFlight
from erlbridge.core.nesting import Nesting
from erlbridge.core.pace import Pace
from erlbridge.core.queue import Entry, FairQueue
from erlbridge.core.quotas import Quotas
from erlbridge.core.roster import Roster, Worker
from erlbridge.core.sharing import Follower
from erlbridge.core.shutdown import Shutdown
from erlbridge.core.verdicts import too_late
from erlbridge.errors import (
    BridgeError,
    Cancelled,
    NotFound,
    ShuttingDown,
)
from erlbridge.limits import (
    BOOT_TIMEOUT_S,
    MAX_QUEUE,
    NESTED_WORKERS,
)
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys

EXIT_STOPPED: Final = 0
EXIT_WORKERS_CANNOT_BOOT: Final = 3


@dataclass(slots=True)
class Scheduler:
    """Runs queued requests on workers, one job a worker.

    Args:
        worker_count: Jobs that may run at once.
        max_queue: Requests that may wait.
        spare_workers: Booted workers beside those, for when one has to be replaced.
        verb_limits: Jobs of a verb that may run at once, as `endpoint_limits` for who answers models: `core.quotas`.
        boot_timeout_s: How long a worker may take to boot.
        recycle_after_jobs: Jobs after which a worker is replaced; 0 is never.
        nested_workers: Workers beside all of those, for what Elixir functions ask while jobs wait for them.

    >>> scheduler = Scheduler(worker_count=1)
    >>> scheduler.start(now=0.0)
    [Fork(worker=1)]
    >>> scheduler.step(Booted(1), now=0.1)
    []
    """

    worker_count: int
    max_queue: int = MAX_QUEUE
    spare_workers: int = 0
    verb_limits: Mapping[str, int] = field(default_factory=dict)
    endpoint_limits: Mapping[str, int] = field(default_factory=dict)
    boot_timeout_s: float = BOOT_TIMEOUT_S
    recycle_after_jobs: int = 0
    nested_workers: int = NESTED_WORKERS
    queue: FairQueue = field(init=False, default_factory=FairQueue)
    calls: OpenCalls = field(init=False, default_factory=OpenCalls)
    roster: Roster = field(init=False)
    nesting: Nesting = field(init=False)
    in_flight: InFlight = field(init=False)
    admission: Admission = field(init=False)
    _quotas: Quotas = field(init=False)
    _endings: Endings = field(init=False)
    _pace: Pace = field(init=False, default_factory=Pace)
    _shutdown: Shutdown = field(init=False, default_factory=Shutdown)
    steps: int = field(init=False, default=0)
    """How much has happened; as long as this stays, so does everything here."""
    _due: tuple[int, float | None] = field(init=False, default=(-1, None))
    """The next deadline, and at which of the steps: each of the loop's rounds asks for it, and most bring no event."""

    def __post_init__(self) -> None:
        self.roster = Roster(self.worker_count, self.spare_workers, self.boot_timeout_s, self.recycle_after_jobs)
        self.nesting = Nesting(self.nested_workers)
        self.in_flight = InFlight(self.queue, self.calls, self.nesting)
        self._quotas = Quotas(self.verb_limits, self.endpoint_limits)
        self.admission = Admission(
            self.max_queue, self.in_flight, self.roster, self._quotas, self._pace, self._shutdown
        )
        self._endings = Endings(self.roster, self._quotas, self.calls, self.in_flight.refuse)

    # -- what others ask

    @property
    def workers(self) -> dict[int, Worker]:
        """Every worker that has been forked and is not known to be gone, by number."""
        return self.roster.workers

    def start(self, now: float) -> list[Action]:
        """The workers to begin with."""
        self.steps += 1
        return [*self.roster.top_up(now, self.roster.full)]

    def next_deadline(self) -> float | None:
        """The time at which `step(Tick(), …)` has something to do, None when only an event can bring that."""
        if self._due[0] != self.steps:
            self._due = self.steps, earliest((self._next_expiry(), self.roster.next_fork(), self._shutdown.at))
        return self._due[1]

    def entry_of(self, worker: int) -> Entry | None:
        """The request that a worker runs and that still wants to hear of it."""
        found = self.workers.get(worker)
        return None if found is None or found.entry is None or found.entry.answered else found.entry

    def askers_of(self, worker: int, *, from_start: bool = False) -> list[Entry | Follower]:
        """The requests that wait for the job of a worker; of its outputs' pieces hear those that have been there
        `from_start`."""
        entry = self.entry_of(worker)
        return [] if entry is None else list(self.in_flight.sharing.askers(entry, from_start=from_start))

    def running_at(self, worker: int) -> Entry | None:
        """The request whose job a worker has, answered or not."""
        found = self.workers.get(worker)
        return None if found is None else found.entry

    def step(self, event: Event, now: float) -> list[Action]:
        """What to do about an event, and about every deadline that has passed by `now`."""
        self.steps += 1
        actions = [*self._handle(event, now)]
        if (due := self._next_expiry()) is not None and due <= now:
            actions += self._expire(now)
        if self.roster.cannot_boot and not self._shutdown.over:
            # The code means: do not restart, it would be no better.
            actions += self._leave(EXIT_WORKERS_CANNOT_BOOT, self.roster.last_death)
        if not self._shutdown.over:
            actions += self.roster.retire(now)
            actions += self._dispatch(now)
            if self.nesting.waiting:
                actions += self._untangle()
            usual = self.roster.full + self.nesting.lent
            actions += self.roster.top_up(now, self._still_wanted() if self._shutdown.asked else usual)
            actions += self.roster.shrink(now, usual)
            if self._shutdown.due(now, idle=not self.in_flight.entries):
                actions += self._leave(EXIT_STOPPED, ShuttingDown("the node shut down before the job was done"))
        return actions

    # -- events

    def _handle(self, event: Event, now: float) -> Iterable[Action]:
        match event:
            case Submitted():
                return self._submit(event, now)
            case Finished():
                return self._finish(event, now)
            case Held():
                return self._hold(event, now)
            case Known():
                entry = self.in_flight.held.get(event.ticket)
                return () if entry is None else self.in_flight.answer(entry, True, event.term)
            case Unfit():
                entry = self.in_flight.held.get(event.ticket)
                return () if entry is None else self.in_flight.refuse(entry, event.failure)
            case Joined():
                return self._join(event, now)
            case CancelAsked():
                return self._cancel(event, now)
            case ShutdownAsked():
                return self._shutdown.ask(event, now)
            case Forked():
                if worker := self.workers.get(event.worker):
                    worker.os_pid = event.os_pid
                return ()
            case Booted():
                self.roster.booted(event.worker, now)
                return ()
            case Died():
                return self._endings.bury(event)
            case Traced():
                return self._endings.hear_stack(event, now)
            case LimitPassed():
                return self._endings.hold_to_limit(event, now)
            case Stalled():
                return self._endings.end_stalled(event, now)
            case Called():
                return self._call(event, now)
            case Returned():
                return self.calls.close(event)
            case Unsendable():
                return self.calls.refuse(event.call_id, refused(event.failure))
            case Tick():
                return ()
            case _:
                assert_never(event)

    def _hold(self, event: Held, now: float) -> Iterator[Refuse]:
        """A request is in flight, whose ids, deadline and followers are looked after from now on."""
        if failure := self.admission.unwelcome(event.key, event.parent):
            yield Refuse(event.request.id, failure)
            return
        entry = Entry(event.key, event.request, b"", now, None, parent=event.parent)
        self.in_flight.enter(entry, event.identity)
        self.in_flight.hold(entry, event.ticket)

    def _submit(self, event: Submitted, now: float) -> list[Refuse]:
        if event.ticket is not None:
            return self._release(event, event.ticket)
        request = event.request
        nested = event.parent is not None
        # It runs in the place of one that has been counted, and must not wait for that one to end.
        quotas = () if nested else self._quotas.of(request.verb, event.endpoints)
        unwelcome = self.admission.unwelcome(event.key, event.parent)
        if failure := unwelcome or self.admission.no_room(nested=nested, quotas=quotas):
            return [Refuse(request.id, failure)]
        entry = Entry(event.key, request, event.frame, now, None, event.programs, quotas, parent=event.parent)
        self.in_flight.enter(entry, event.identity)
        self.in_flight.wait(entry)
        return []

    def _release(self, event: Submitted, ticket: int) -> list[Refuse]:
        """The disk has said what a held request needs; one that has been answered meanwhile is not there any more."""
        entry = self.in_flight.release(ticket)
        if entry is None:
            return []
        nested = entry.parent is not None
        entry.quotas = () if nested else self._quotas.of(entry.request.verb, event.endpoints)
        if failure := self.admission.no_room(nested=nested, quotas=entry.quotas):
            return self.in_flight.refuse(entry, failure)
        entry.frame, entry.programs, entry.cached = event.frame, event.programs, event.cached
        self.in_flight.wait(entry)
        return []

    def _join(self, event: Joined, now: float) -> Iterator[Action]:
        if failure := self.admission.unwelcome(event.key):
            yield Refuse(event.request.id, failure)
        else:
            yield from self.in_flight.sharing.join(event, now)

    def _cancel(self, event: CancelAsked, now: float) -> Iterator[Action]:
        sharing, entry = self.in_flight.sharing, self.in_flight.entries.get(event.target_key)
        flight = sharing.followed(event.target_key)
        if not event.unheard:
            yield _told_of_cancel(event.id, found=flight is not None or entry is not None)
        if flight is not None:
            yield from sharing.cancel(flight, event.target_key, now)
            return
        if entry is None:
            return
        if flight := sharing.wanted(entry):
            yield from sharing.cancel(flight, entry.key, now)
        elif entry.worker is None:
            yield from self.in_flight.refuse(entry, Cancelled("cancelled while it waited for a worker"))
        elif not entry.cancelled:
            entry.cancelled = True
            yield from self._endings.interrupt(self.workers[entry.worker], now)

    def _finish(self, event: Finished, now: float) -> Iterable[Action]:
        worker = self.workers.get(event.worker)
        if worker is None or worker.entry is None:
            return ()
        entry = worker.entry
        self._pace.note(now - entry.sent_at)
        self._quotas.give(entry.quotas)
        self.roster.end(worker, now)
        if entry.answered:
            return ()
        if entry.cancelled and event.ok:
            done = Cancelled("the job finished while it was being cancelled", context={"result": event.term})
            return self.in_flight.refuse(entry, done)
        return self.in_flight.answer(entry, event.ok, event.term)

    def _call(self, event: Called, now: float) -> Iterator[Action]:
        entry = self.entry_of(event.worker)
        if entry is None or entry.cancelled:
            over = Cancelled("the job is over, or being stopped")
            yield Return(event.worker, event.number, refused(over))
        else:
            yield from self.calls.open(entry.key, entry.request.id, event, now)

    # -- what time brings

    def _next_expiry(self) -> float | None:
        """When `_expire` has something to do."""
        return earliest((self.in_flight.deadlines.next(), self.calls.next_deadline(), self.roster.next_change()))

    def _expire(self, now: float) -> Iterator[Action]:
        yield from self.calls.expire(now)
        sharing, entries = self.in_flight.sharing, self.in_flight.entries
        for key in self.in_flight.deadlines.due(now):
            if flight := sharing.followed(key) or sharing.wanted(entries[key]):
                yield from sharing.pass_deadline(flight, key, now)
                continue
            entry = entries[key]
            if entry.worker is None:
                yield from self.in_flight.refuse(entry, too_late(entry))
            else:
                yield from self._endings.pass_deadline(entry, now)
        yield from self._endings.look_after(now)

    # -- what follows from any event

    def _still_wanted(self) -> int:
        """How many workers a node keeps that is going away: it replaces only those that its work needs."""
        busy = sum(worker.entry is not None for worker in self.roster.lasting())
        waiting = len(self.queue) + len(self.nesting.waiting)
        return min(self.worker_count + self.nesting.lent, waiting + busy)

    def _dispatch(self, now: float) -> list[Send]:
        sent = []
        while (entry := self._next()) is not None:
            worker = self.roster.choose(entry)
            self._quotas.take(entry.quotas)
            self.roster.begin(worker, entry, now)
            deadline_ms, deadline = entry.request.meta.deadline_ms, entry.deadline
            if flight := self.in_flight.sharing.of(entry):
                deadline_ms, deadline = flight.time()
                flight.told = deadline
            left_s = None if deadline is None else deadline - now
            sent.append(Send(worker.number, entry.frame, deadline_ms, left_s))
            self.in_flight.let_go(entry)
        return sent

    def _next(self) -> Entry | None:
        """The request that gets a worker now, if one is free for it; others wait for what is nested."""
        if self.nesting.waiting and self.roster.free_for_nested(self.nesting.lent):
            return self.nesting.take()
        return self.queue.take(self._quotas.allows) if len(self.queue) and self.admission.free else None

    def _untangle(self) -> Iterator[Action]:
        """Refuses nested requests where otherwise all would wait for each other."""
        while self.nesting.waiting and self.roster.running >= self.worker_count + self.nesting.lent:
            running = [worker.entry for worker in self.workers.values() if worker.entry is not None]
            if (entry := self.nesting.one_too_many(running)) is None:
                return
            yield from self.in_flight.refuse(entry, self.admission.entangled())

    def _leave(self, code: int, failure: BridgeError) -> list[Action]:
        """The node ends; what is unfinished hears why, and who asked for the end, that it has come."""
        unfinished = list(self.in_flight.entries.values())
        refusals = [refusal for entry in unfinished for refusal in self.in_flight.refuse(entry, failure)]
        return [*refusals, *self._shutdown.end(code, len(refusals))]


def _told_of_cancel(request_id: Term, *, found: bool) -> Answer | Refuse:
    """What who asked for a cancel gets to hear."""
    if found:
        return Answer(request_id, True, atom_keys({"status": atom("cancelling")}))
    return Refuse(request_id, NotFound("no request with this id is in flight; it may have been answered already"))
