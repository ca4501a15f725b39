"""Which job runs where and when, and what is answered: all the node decides, with no clock, process or descriptor.

`Scheduler.step(event, now)` takes what happened and gives what to do. Times are seconds of one monotonic clock, handed
in. Knows requests, workers and deadlines; the frames that a worker gets are bytes to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

from erlbridge.core.backoff import delay_s
from erlbridge.core.calls import OpenCalls
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
    Fork,
    Forked,
    Interrupt,
    Kill,
    LimitPassed,
    Refuse,
    Return,
    Returned,
    Send,
    ShutdownAsked,
    Stalled,
    Submitted,
    Tick,
    Trace,
    Traced,
    Unsendable,
)
from erlbridge.core.functions import refused
from erlbridge.errors import (
    BridgeError,
    Cancelled,
    DeadlineExceeded,
    DuplicateId,
    NotFound,
    Overloaded,
    ProcessCrashed,
    ShuttingDown,
)
from erlbridge.limits import CANCEL_GRACE_S, MAX_BOOT_FAILURES, MAX_QUEUE
from erlbridge.wire.messages import Request, Term
from erlbridge.wire.vocabulary import atom, atom_keys

EXIT_STOPPED: Final = 0
EXIT_WORKERS_CANNOT_BOOT: Final = 3


# -- state -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Entry:
    """A request from arrival to answer. Once `answered`, its id is free again and its worker is only waited for."""

    key: bytes
    request: Request
    frame: bytes
    arrived_at: float
    deadline: float | None
    answered: bool = False
    cancelled: bool = False


@dataclass(slots=True)
class Worker:
    """A worker process as the scheduler sees it. `kill_at` is set once its job has been interrupted."""

    number: int
    state: str = "starting"
    os_pid: int | None = None
    entry: Entry | None = None
    kill_at: float | None = None
    killed: bool = False
    fat: bool = False
    doom: ProcessCrashed | None = None


@dataclass(slots=True)
class Scheduler:
    """Runs queued requests on workers, one job a worker, first come first served.

    >>> scheduler = Scheduler(worker_count=1)
    >>> scheduler.start(now=0.0)
    [Fork(worker=1)]
    >>> scheduler.step(Booted(1), now=0.1)
    []
    """

    worker_count: int
    max_queue: int = MAX_QUEUE
    restarts: int = 0
    workers: dict[int, Worker] = field(default_factory=dict)
    queue: deque[Entry] = field(default_factory=deque)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    calls: OpenCalls = field(default_factory=OpenCalls)
    _last_number: int = 0
    _boot_failures: int = 0
    _fork_at: list[float] = field(default_factory=list)
    _stop_at: float | None = None
    _stop_ids: list[Term] = field(default_factory=list)

    def start(self, now: float) -> list[Action]:
        """The workers to begin with."""
        self._fork_at = [now] * self.worker_count
        return list(self._forks(now))

    def refusal(self, key: bytes) -> BridgeError | None:
        """Why a request with this key cannot be taken now, asked before anything is spent on it; None when it can."""
        if self._stop_at is not None:
            return ShuttingDown("the node is shutting down; send the request to another node or after a restart")
        if failure := self.duplicate(key):
            return failure
        if len(self.queue) >= self.max_queue:
            return Overloaded(
                f"{len(self.queue)} requests wait for {len(self.workers)} workers, limit {self.max_queue}; "
                "try again later, start the node with more workers, or raise max_queue",
                context={"waiting": len(self.queue), "limit": self.max_queue, "workers": len(self.workers)},
                retry_after_ms=1000,
            )
        return None

    def duplicate(self, key: bytes) -> BridgeError | None:
        """Why no request of any verb may have this id now; None when it may."""
        if key in self.entries:
            return DuplicateId("this id is still in flight; use a fresh one for each request")
        return None

    def step(self, event: Event, now: float) -> list[Action]:
        """What to do about an event, and about every deadline that has passed by `now`."""
        actions = [*self._handle(event, now), *self._expire(now)]
        actions += self._forks(now)
        actions += self._dispatch(now)
        actions += self._stop(now)
        return actions

    def next_deadline(self) -> float | None:
        """The time at which `step(Tick(), …)` has something to do, None when only an event can bring that."""
        times = [entry.deadline for entry in self.entries.values() if entry.deadline is not None]
        times += [
            worker.kill_at for worker in self.workers.values() if worker.kill_at is not None and not worker.killed
        ]
        times += self._fork_at
        times += self.calls.deadlines()
        if self._stop_at is not None:
            times.append(self._stop_at)
        return min(times, default=None)

    def entry_of(self, worker: int) -> Entry | None:
        """The request that a worker runs and that still wants to hear of it."""
        found = self.workers.get(worker)
        return None if found is None or found.entry is None or found.entry.answered else found.entry

    def status(self) -> tuple[str, str]:
        """How the node is, as health_check says it: `healthy`, `degraded` or `overloaded`, and why."""
        ready = sum(worker.state in ("idle", "busy") for worker in self.workers.values())
        if len(self.queue) >= self.max_queue:
            return "overloaded", f"{len(self.queue)} requests wait, limit {self.max_queue}"
        if ready < self.worker_count:
            return "degraded", f"{ready} of {self.worker_count} workers are ready"
        return "healthy", f"{ready} of {self.worker_count} workers are ready"

    # -- events

    def _handle(self, event: Event, now: float) -> Iterator[Action]:
        match event:
            case Submitted():
                yield from self._submit(event, now)
            case CancelAsked():
                yield from self._cancel(event, now)
            case ShutdownAsked():
                stop_at = now + event.grace_s
                self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
                self._stop_ids += event.ids
            case Forked():
                if worker := self.workers.get(event.worker):
                    worker.os_pid = event.os_pid
            case Booted():
                if (worker := self.workers.get(event.worker)) and worker.state == "starting":
                    worker.state = "idle"
                    self._boot_failures = 0
            case Finished():
                yield from self._finish(event)
            case Died():
                yield from self._bury(event, now)
            case LimitPassed():
                yield from self._pass_limit(event)
            case Stalled():
                if worker := self.workers.get(event.worker):
                    worker.doom = ProcessCrashed(
                        "its job stalled", context={"reason": atom("stalled"), "seconds": event.seconds}
                    )
                    worker.kill_at = now + 0.2
                    yield Trace(worker.number)
            case Traced():
                if (worker := self.workers.get(event.worker)) and worker.doom is not None:
                    worker.doom.context["stack"] = event.stack
                    worker.kill_at = now
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

    def _submit(self, event: Submitted, now: float) -> Iterator[Action]:
        if failure := self.refusal(event.key):
            yield Refuse(event.request.id, failure)
            return
        span_ms = event.request.meta.deadline_ms
        deadline = None if span_ms is None else now + span_ms / 1000
        entry = Entry(event.key, event.request, event.frame, now, deadline)
        self.entries[event.key] = entry
        self.queue.append(entry)

    def _cancel(self, event: CancelAsked, now: float) -> Iterator[Action]:
        entry = self.entries.get(event.target_key)
        if entry is None:
            yield Refuse(event.id, NotFound("no request with this id is in flight; it may have been answered already"))
            return
        yield Answer(event.id, True, atom_keys({"status": atom("cancelling")}))
        if entry in self.queue:
            self.queue.remove(entry)
            yield self._answer_error(entry, Cancelled("cancelled while it waited for a worker"))
        elif not entry.cancelled:
            entry.cancelled = True
            yield from self._interrupt(entry, now)

    def _finish(self, event: Finished) -> Iterator[Action]:
        worker = self.workers.get(event.worker)
        if worker is None or worker.entry is None:
            return
        entry = worker.entry
        if not entry.answered:
            if entry.cancelled and event.ok:
                done = Cancelled("the job finished while it was being cancelled", context={"result": event.term})
                yield self._answer_error(entry, done)
            else:
                self._close(entry)
                yield Answer(entry.request.id, event.ok, event.term)
        worker.entry = None
        worker.kill_at = None
        if worker.fat and not worker.killed:
            worker.killed = True
            worker.state = "stopping"
            yield Kill(worker.number)
        if not worker.killed:
            worker.state = "idle"

    def _pass_limit(self, event: LimitPassed) -> Iterator[Action]:
        worker = self.workers.get(event.worker)
        if worker is None or worker.killed:
            return
        if event.kind == "soft" and worker.entry is not None:
            worker.fat = True
            return
        if event.kind == "hard":
            worker.doom = ProcessCrashed(
                "the worker was killed: it used too much", context={"reason": atom(event.reason), **event.context}
            )
        worker.killed = True
        worker.state = "stopping"
        yield Kill(worker.number)

    def _call(self, event: Called, now: float) -> Iterator[Action]:
        entry = self.entry_of(event.worker)
        if entry is None or entry.cancelled:
            over = Cancelled("the job is over, or being stopped")
            yield Return(event.worker, event.number, refused(over))
        else:
            yield from self.calls.open(entry.key, entry.request.id, event, now)

    def _bury(self, event: Died, now: float) -> Iterator[Action]:
        worker = self.workers.pop(event.worker, None)
        if worker is None:
            return
        entry = worker.entry
        if entry is not None and not entry.answered:
            failure: BridgeError = event.cause
            if worker.doom is not None:
                worker.doom.context |= {"worker": worker.number, "os_pid": worker.os_pid}
                failure = worker.doom
            if entry.cancelled:
                failure = Cancelled("stopped by killing its worker", context={"reason": atom("cancel_grace")})
            yield self._answer_error(entry, failure)
        delay = 0.0
        if worker.state == "starting":
            self._boot_failures += 1
            # Workers boot together and fail together: one round of them counts as one failure.
            delay = delay_s(-(-self._boot_failures // self.worker_count))
        if self._boot_failures >= MAX_BOOT_FAILURES * self.worker_count:
            yield from self._give_up(event.cause)
        elif self._stop_at is None or self.entries:
            self.restarts += 1
            self._fork_at.append(now + delay)

    def _give_up(self, cause: ProcessCrashed) -> Iterator[Action]:
        """No worker can boot: every request hears so, and the node ends with the code that means `do not restart`."""
        for entry in list(self.entries.values()):
            yield self._answer_error(entry, cause)
        self.queue.clear()
        yield Exit(EXIT_WORKERS_CANNOT_BOOT)

    # -- what follows from any event

    def _expire(self, now: float) -> Iterator[Action]:
        yield from self.calls.expire(now)
        for entry in list(self.entries.values()):
            if entry.deadline is None or entry.deadline > now:
                continue
            waited = entry in self.queue
            where = "it waited for a worker" if waited else "it ran"
            context = {"deadline_ms": entry.request.meta.deadline_ms}
            yield self._answer_error(entry, DeadlineExceeded(f"the deadline passed while {where}", context=context))
            if waited:
                self.queue.remove(entry)
            else:
                yield from self._interrupt(entry, now)
        for worker in self.workers.values():
            if worker.kill_at is not None and worker.kill_at <= now and not worker.killed:
                worker.killed = True
                worker.state = "stopping"
                yield Kill(worker.number)

    def _interrupt(self, entry: Entry, now: float) -> Iterator[Action]:
        self.calls.end(entry.key)
        for worker in self.workers.values():
            if worker.entry is entry and worker.kill_at is None:
                worker.kill_at = now + CANCEL_GRACE_S
                worker.state = "cancelling"
                yield Interrupt(worker.number)

    def _forks(self, now: float) -> Iterator[Action]:
        due = [at for at in self._fork_at if at <= now]
        self._fork_at = [at for at in self._fork_at if at > now]
        for _ in due:
            self._last_number += 1
            self.workers[self._last_number] = Worker(self._last_number)
            yield Fork(self._last_number)

    def _dispatch(self, now: float) -> Iterator[Action]:
        for worker in self.workers.values():
            if not self.queue:
                return
            if worker.state == "idle":
                entry = self.queue.popleft()
                worker.state, worker.entry = "busy", entry
                left_s = None if entry.deadline is None else entry.deadline - now
                yield Send(worker.number, entry.frame, entry.request.meta.deadline_ms, left_s)

    def _stop(self, now: float) -> Iterator[Action]:
        waiting = list(self.entries.values())
        if self._stop_at is None or (waiting and now < self._stop_at):
            return
        for entry in waiting:
            yield self._answer_error(entry, ShuttingDown("the node shut down before the job was done"))
        self.queue.clear()
        for request_id in self._stop_ids:
            yield Answer(request_id, True, atom_keys({"status": atom("stopped"), "unfinished": len(waiting)}))
        self._stop_ids.clear()
        yield Exit(EXIT_STOPPED)

    def _answer_error(self, entry: Entry, failure: BridgeError) -> Action:
        self._close(entry)
        return Refuse(entry.request.id, failure)

    def _close(self, entry: Entry) -> None:
        entry.answered = True
        self.calls.end(entry.key)
        del self.entries[entry.key]
