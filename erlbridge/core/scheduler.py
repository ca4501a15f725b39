"""Which job runs where and when, and what is answered: all the node decides, with no clock, process or descriptor.

`Scheduler.step(event, now)` takes what happened and gives what to do. Times are seconds of one monotonic clock, handed
in. Whose turn it is stands in `core.queue`, who works in `core.roster`, what may run at once in `core.quotas`; here
they meet, and here every request gets its one answer. The frames that a worker gets are bytes to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from erlbridge.core.calls import OpenCalls
from erlbridge.core.deadlines import Deadlines
from erlbridge.core.endings import Endings
from erlbridge.core.events import (
    Action,
    Answer,
    Booted,
    Called,
    CancelAsked,
    Died,
    Event,
    Exit,
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
from erlbridge.core.nesting import Nesting
from erlbridge.core.pace import Pace
from erlbridge.core.queue import Entry, FairQueue
from erlbridge.core.quotas import Quota, Quotas
from erlbridge.core.results import Identity
from erlbridge.core.roster import Roster, Worker
from erlbridge.core.sharing import Follower, Sharing
from erlbridge.core.verdicts import too_late
from erlbridge.errors import (
    BridgeError,
    Cancelled,
    DuplicateId,
    NotFound,
    Overloaded,
    ShuttingDown,
)
from erlbridge.limits import (
    BOOT_TIMEOUT_S,
    MAX_QUEUE,
    MAX_SHUTDOWNS,
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
    roster: Roster = field(init=False)
    entries: dict[bytes, Entry] = field(init=False, default_factory=dict)
    frame_bytes: int = field(init=False, default=0)
    """Bytes of the jobs that wait for a worker."""
    calls: OpenCalls = field(init=False, default_factory=OpenCalls)
    nesting: Nesting = field(init=False)
    sharing: Sharing = field(init=False)
    held: dict[int, Entry] = field(init=False, default_factory=dict)
    """Requests that wait for what the disk has to say, by ticket."""
    _quotas: Quotas = field(init=False)
    _endings: Endings = field(init=False)
    _deadlines: Deadlines[bytes] = field(init=False, default_factory=Deadlines)
    _pace: Pace = field(init=False, default_factory=Pace)
    _stop_at: float | None = field(init=False, default=None)
    _stop_ids: list[Term] = field(init=False, default_factory=list)
    _stop_keys: set[bytes] = field(init=False, default_factory=set)
    _exit_code: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.roster = Roster(self.worker_count, self.spare_workers, self.boot_timeout_s, self.recycle_after_jobs)
        self.nesting = Nesting(self.nested_workers)
        self._quotas = Quotas(self.verb_limits, self.endpoint_limits)
        self.sharing = Sharing(self.entries, self.queue, self._deadlines, self.calls, self.nesting)
        self._endings = Endings(self.roster, self._quotas, self.calls, self._answer_error)

    # -- what others ask

    @property
    def workers(self) -> dict[int, Worker]:
        """Every worker that has been forked and is not known to be gone, by number."""
        return self.roster.workers

    def start(self, now: float) -> list[Action]:
        """The workers to begin with."""
        return list(self.roster.top_up(now, self.roster.full))

    def refusal(self, key: bytes, parent: bytes | None = None) -> BridgeError | None:
        """Why a request with this key cannot be taken now, asked before anything is spent on it; None when it can.
        `parent` is the key of the one whose Elixir function made it."""
        if failure := self.unwelcome(key, parent):
            return failure
        if parent is not None:
            return self._overloaded() if self.nesting.full else None
        return self._overloaded() if self._full() and not self._free() else None

    def unwelcome(self, key: bytes, parent: bytes | None = None) -> BridgeError | None:
        """The same of a request that needs no place, since it joins a job or has been answered before."""
        # What was taken may finish, and with it what it needs for that.
        stopping = self._stop_at is not None and parent not in self.entries
        if stopping or self._exit_code is not None:
            return ShuttingDown("the node is shutting down; send the request to another node or after a restart")
        return self.duplicate(key)

    def duplicate(self, key: bytes) -> BridgeError | None:
        """Why no request of any verb may have this id now; None when it may."""
        if key in self.entries or key in self._stop_keys or self.sharing.followed(key):
            return DuplicateId("this id is still in flight; use a fresh one for each request")
        return None

    def next_deadline(self) -> float | None:
        """The time at which `step(Tick(), …)` has something to do, None when only an event can bring that."""
        times = (self._deadlines.next(), self.roster.next_change(), self.calls.next_deadline(), self._stop_at)
        return min((at for at in times if at is not None), default=None)

    def entry_of(self, worker: int) -> Entry | None:
        """The request that a worker runs and that still wants to hear of it."""
        found = self.workers.get(worker)
        return None if found is None or found.entry is None or found.entry.answered else found.entry

    def askers_of(self, worker: int, *, from_start: bool = False) -> list[Entry | Follower]:
        """The requests that wait for the job of a worker; of its outputs' pieces hear those that have been there
        `from_start`."""
        entry = self.entry_of(worker)
        return [] if entry is None else list(self.sharing.askers(entry, from_start=from_start))

    def running_at(self, worker: int) -> Entry | None:
        """The request whose job a worker has, answered or not."""
        found = self.workers.get(worker)
        return None if found is None else found.entry

    def unready(self) -> str | None:
        """Why a request for a worker had better go to another node; None when it may come."""
        if self._stop_at is not None or self._exit_code is not None:
            return "the node is shutting down"
        return None if self.roster.ready else f"0 of {self.worker_count} workers are ready"

    def status(self) -> tuple[str, str]:
        """How the node is, as health_check says it: `healthy`, `degraded` or `overloaded`, and why."""
        ready = self.roster.ready
        if self._full() and not self._free():
            return "overloaded", f"{len(self.queue)} requests wait, limit {self.max_queue}"
        if ready < self.worker_count:
            return "degraded", f"{ready} of {self.worker_count} workers are ready"
        return "healthy", f"{min(ready, self.worker_count)} of {self.worker_count} workers are ready"

    def step(self, event: Event, now: float) -> list[Action]:
        """What to do about an event, and about every deadline that has passed by `now`."""
        actions = [*self._handle(event, now), *self._expire(now)]
        if self.roster.cannot_boot and self._exit_code is None:
            # The code means: do not restart, it would be no better.
            actions += self._leave(EXIT_WORKERS_CANNOT_BOOT, self.roster.last_death)
        if self._exit_code is None:
            actions += self.roster.retire(now)
            actions += self._dispatch(now)
            actions += self._untangle()
            actions += self.roster.top_up(now, self._wanted_workers())
            actions += self.roster.shrink(now, self.roster.full + self.nesting.lent)
            actions += self._stop(now)
        return actions

    # -- events

    def _handle(self, event: Event, now: float) -> Iterator[Action]:
        match event:
            case Submitted():
                yield from self._submit(event, now)
            case Held():
                yield from self._hold(event, now)
            case Known():
                yield from self._say_known(event)
            case Unfit():
                if entry := self.held.get(event.ticket):
                    yield from self._answer_error(entry, event.failure)
            case Joined():
                yield from self._join(event, now)
            case CancelAsked():
                yield from self._cancel(event, now)
            case ShutdownAsked():
                yield from self._shut_down(event, now)
            case Forked():
                if worker := self.workers.get(event.worker):
                    worker.os_pid = event.os_pid
            case Booted():
                self.roster.booted(event.worker, now)
            case Finished():
                yield from self._finish(event, now)
            case Died():
                yield from self._endings.bury(event)
            case Traced():
                yield from self._endings.hear_stack(event, now)
            case LimitPassed():
                yield from self._endings.hold_to_limit(event, now)
            case Stalled():
                yield from self._endings.end_stalled(event, now)
            case Called():
                yield from self._call(event, now)
            case Returned():
                yield from self.calls.close(event)
            case Unsendable():
                yield from self.calls.refuse(event.call_id, refused(event.failure))
            case Tick():
                pass
            case _:
                assert_never(event)

    def _hold(self, event: Held, now: float) -> Iterator[Refuse]:
        """A request is in flight, whose ids, deadline and followers are looked after from now on."""
        if failure := self.unwelcome(event.key, event.parent):
            yield Refuse(event.request.id, failure)
            return
        entry = self._enter(Entry(event.key, event.request, b"", now, None, parent=event.parent), event.identity)
        entry.ticket = event.ticket
        self.held[event.ticket] = entry

    def _say_known(self, event: Known) -> Iterator[Answer]:
        if entry := self.held.get(event.ticket):
            followers = self._close(entry)
            yield Answer(entry.request.id, True, event.term)
            for follower in followers:
                yield Answer(follower.request.id, True, event.term)

    def _submit(self, event: Submitted, now: float) -> Iterator[Action]:
        if event.ticket is not None:
            yield from self._release(event)
            return
        request = event.request
        nested = event.parent is not None
        # It runs in the place of one that has been counted, and must not wait for that one to end.
        quotas = () if nested else self._quotas.of(request.verb, event.endpoints)
        if failure := self.unwelcome(event.key, event.parent) or self._no_room(nested, quotas):
            yield Refuse(request.id, failure)
            return
        entry = Entry(event.key, request, event.frame, now, None, event.programs, quotas, parent=event.parent)
        self._wait(self._enter(entry, event.identity))

    def _release(self, event: Submitted) -> Iterator[Action]:
        """The disk has said what a held request needs; one that has been answered meanwhile is not there any more."""
        assert event.ticket is not None  # noqa: S101 - whoever asks has seen that it was held
        entry = self.held.pop(event.ticket, None)
        if entry is None:
            return
        entry.ticket = None
        nested = entry.parent is not None
        entry.quotas = () if nested else self._quotas.of(entry.request.verb, event.endpoints)
        if failure := self._no_room(nested, entry.quotas):
            yield from self._answer_error(entry, failure)
            return
        entry.frame, entry.programs, entry.cached = event.frame, event.programs, event.cached
        self._wait(entry)

    def _enter(self, entry: Entry, identity: Identity | None) -> Entry:
        """A request is in flight from now on."""
        span_ms = entry.request.meta.deadline_ms
        self.entries[entry.key] = entry
        if entry.parent is not None:
            self.nesting.expect(entry)
        if span_ms is not None:
            entry.deadline = entry.arrived_at + span_ms / 1000
            self._deadlines.set(entry.key, entry.deadline)
        if identity is not None:
            self.sharing.begin(entry, identity)
        return entry

    def _wait(self, entry: Entry) -> None:
        """A request waits for a worker from now on."""
        self.frame_bytes += len(entry.frame)
        if entry.parent is not None:
            self.nesting.add(entry)
        else:
            self.queue.add(entry)

    def _no_room(self, nested: bool, quotas: tuple[Quota, ...]) -> Overloaded | None:
        """Why a request cannot wait for a worker; None when it can."""
        if nested:
            return self._overloaded() if self.nesting.full else None
        return self._overloaded() if self._full() and not (self._free() and self._quotas.allows(quotas)) else None

    def _join(self, event: Joined, now: float) -> Iterator[Action]:
        if failure := self.unwelcome(event.key):
            yield Refuse(event.request.id, failure)
        else:
            yield from self.sharing.join(event, now)

    def _cancel(self, event: CancelAsked, now: float) -> Iterator[Action]:
        flight, entry = self.sharing.followed(event.target_key), self.entries.get(event.target_key)
        if not event.unheard:
            yield _told_of_cancel(event.id, found=flight is not None or entry is not None)
        if flight is not None:
            yield from self.sharing.cancel(flight, event.target_key, now)
            return
        if entry is None:
            return
        if flight := self.sharing.wanted(entry):
            yield from self.sharing.cancel(flight, entry.key, now)
        elif entry.worker is None:
            self._leave_queue(entry)
            yield from self._answer_error(entry, Cancelled("cancelled while it waited for a worker"))
        elif not entry.cancelled:
            entry.cancelled = True
            yield from self._endings.interrupt(self.workers[entry.worker], now)

    def _shut_down(self, event: ShutdownAsked, now: float) -> Iterator[Action]:
        if self._exit_code is not None:
            yield from self._say_stopped(event.ids, 0)
            return
        if event.ids and len(self._stop_ids) >= MAX_SHUTDOWNS:
            failure = Overloaded(f"{len(self._stop_ids)} shutdowns wait for the end already, limit {MAX_SHUTDOWNS}")
            for request_id in event.ids:
                yield Refuse(request_id, failure)
            return
        stop_at = now + event.grace_s
        self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
        self._stop_ids += event.ids
        self._stop_keys.update(event.keys)

    def _finish(self, event: Finished, now: float) -> Iterator[Action]:
        worker = self.workers.get(event.worker)
        if worker is None or worker.entry is None:
            return
        entry = worker.entry
        self._pace.note(now - entry.sent_at)
        if not entry.answered:
            if entry.cancelled and event.ok:
                done = Cancelled("the job finished while it was being cancelled", context={"result": event.term})
                yield from self._answer_error(entry, done)
            else:
                followers = self._close(entry)
                yield Answer(entry.request.id, event.ok, event.term)
                yield from self.sharing.answers(followers, event.ok, event.term)
        self._quotas.give(entry.quotas)
        self.roster.end(worker, now)

    def _call(self, event: Called, now: float) -> Iterator[Action]:
        entry = self.entry_of(event.worker)
        if entry is None or entry.cancelled:
            over = Cancelled("the job is over, or being stopped")
            yield Return(event.worker, event.number, refused(over))
        else:
            yield from self.calls.open(entry.key, entry.request.id, event, now)

    # -- what time brings

    def _expire(self, now: float) -> Iterator[Action]:
        yield from self.calls.expire(now)
        for key in self._deadlines.due(now):
            if flight := self.sharing.followed(key) or self.sharing.wanted(self.entries[key]):
                yield from self.sharing.pass_deadline(flight, key, now)
                continue
            entry = self.entries[key]
            if entry.worker is None:
                self._leave_queue(entry)
                yield from self._answer_error(entry, too_late(entry))
            else:
                yield from self._endings.pass_deadline(entry, now)
        yield from self._endings.look_after(now)

    # -- what follows from any event

    def _wanted_workers(self) -> int:
        """How many workers are kept; a node that is going away replaces only those that its work needs."""
        if self._stop_at is None:
            return self.roster.full + self.nesting.lent
        busy = sum(worker.entry is not None for worker in self.roster.lasting())
        waiting = len(self.queue) + len(self.nesting.waiting)
        return min(self.worker_count + self.nesting.lent, waiting + busy)

    def _dispatch(self, now: float) -> Iterator[Action]:
        while (entry := self._next()) is not None:
            worker = self.roster.choose(entry)
            self._quotas.take(entry.quotas)
            self.roster.begin(worker, entry, now)
            deadline_ms, deadline = entry.request.meta.deadline_ms, entry.deadline
            if flight := self.sharing.of(entry):
                deadline_ms, deadline = flight.time()
                flight.told = deadline
            yield Send(worker.number, entry.frame, deadline_ms, None if deadline is None else deadline - now)
            self.frame_bytes -= len(entry.frame)
            entry.frame = b""  # the pool has it; a queue of large jobs must not be held twice

    def _next(self) -> Entry | None:
        """The request that gets a worker now, if one is free for it; others wait for what is nested."""
        if self.nesting.waiting and self.roster.free_for_nested(self.nesting.lent):
            return self.nesting.take()
        return self.queue.take(self._quotas.allows) if self._free() else None

    def _untangle(self) -> Iterator[Action]:
        """Refuses nested requests where otherwise all would wait for each other."""
        while self.nesting.waiting and self.roster.running >= self.worker_count + self.nesting.lent:
            running = [worker.entry for worker in self.workers.values() if worker.entry is not None]
            if (entry := self.nesting.one_too_many(running)) is None:
                return
            yield from self._answer_error(entry, self._entangled())

    def _stop(self, now: float) -> Iterator[Action]:
        if self._stop_at is not None and (not self.entries or now >= self._stop_at):
            failure = ShuttingDown("the node shut down before the job was done")
            yield from self._leave(EXIT_STOPPED, failure)

    def _leave(self, code: int, failure: BridgeError) -> Iterator[Action]:
        """The node ends; what is unfinished hears why, and who asked for the end, that it has come."""
        self._exit_code = code
        unfinished = list(self.entries.values())
        self.queue.clear()
        refusals = [refusal for entry in unfinished for refusal in self._answer_error(entry, failure)]
        yield from refusals
        yield from self._say_stopped(self._stop_ids, len(refusals))
        self._stop_ids.clear()
        self._stop_keys.clear()
        yield Exit(code)

    def _say_stopped(self, ids: Iterable[Term], unfinished: int) -> Iterator[Action]:
        for request_id in ids:
            yield Answer(request_id, True, atom_keys({"status": atom("stopped"), "unfinished": unfinished}))

    # -- answers

    def _free(self) -> int:
        return self.roster.free(self.nesting.lent)

    def _leave_queue(self, entry: Entry) -> None:
        if entry.number is not None:  # the others leave when they are answered
            self.queue.remove(entry)

    def _entangled(self) -> Overloaded:
        running, limit = self.roster.running, self.nested_workers
        return Overloaded(
            f"all {running} jobs that run wait for requests that their Elixir functions have made, and none would end; "
            f"let functions ask for less, or raise nested_workers, which is {limit}",
            context={
                "waiting": len(self.nesting.waiting),
                "running": running,
                "workers": self.worker_count,
                "limit": limit,
            },
        )

    def _full(self) -> bool:
        return len(self.queue) >= self.max_queue

    def _overloaded(self) -> Overloaded:
        waiting, running, workers, limit = len(self.queue), self.roster.running, self.worker_count, self.max_queue
        return Overloaded(
            f"{waiting} requests wait, limit {limit}, and {running} run on {workers} workers; "
            "try again later, start the node with more workers, or raise max_queue",
            context={"waiting": waiting, "running": running, "workers": workers, "limit": limit},
            retry_after_ms=self._pace.next_place_ms(workers),
        )

    def _answer_error(self, entry: Entry, failure: BridgeError) -> Iterator[Refuse]:
        followers = self._close(entry)
        yield Refuse(entry.request.id, failure)
        for follower in followers:
            yield Refuse(follower.request.id, failure)

    def _close(self, entry: Entry) -> list[Follower]:
        """The job is over for everybody who waits for it; gives those who followed it."""
        entry.answered = True
        followers = self.sharing.end(entry)
        self.calls.end(entry.key)
        self._deadlines.drop(entry.key)
        del self.entries[entry.key]
        if entry.ticket is not None:
            del self.held[entry.ticket]
        self.nesting.ended(entry, self.entries.keys())
        self.frame_bytes -= len(entry.frame)
        return followers


def _told_of_cancel(request_id: Term, *, found: bool) -> Answer | Refuse:
    """What who asked for a cancel gets to hear."""
    if found:
        return Answer(request_id, True, atom_keys({"status": atom("cancelling")}))
    return Refuse(request_id, NotFound("no request with this id is in flight; it may have been answered already"))
