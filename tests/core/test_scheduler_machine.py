"""Random histories of a node, against a model that knows only what was done: whatever comes in between, each request is
answered exactly once, no limit is passed, no worker idles while work could run, and at the end nothing is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from measures import LONG
from test_scheduler import CRASH

from erlbridge.core.events import (
    Action,
    Answer,
    Booted,
    CancelAsked,
    Died,
    Event,
    Exit,
    Finished,
    Fork,
    Held,
    Interrupt,
    Joined,
    Kill,
    Known,
    LimitPassed,
    Refuse,
    Send,
    ShutdownAsked,
    Stalled,
    Submitted,
    Tick,
    Trace,
    Traced,
    Unfit,
)
from erlbridge.core.results import Identity
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import NotFound
from erlbridge.limits import DEATH_GRACE_S, TRACE_GRACE_S
from erlbridge.wire.messages import Meta, Request
from erlbridge.wire.vocabulary import STATES

VERBS = ("predict", "train_model")
ENDPOINTS = ("openai", "offline", "http://gpu/v1")
LATEST_S = TRACE_GRACE_S + 1e-6
"""How long after its deadline an answer may come."""


@dataclass
class Process:
    """A worker as the outside world sees it."""

    booted: bool = False
    job: Submitted | None = None
    killed_at: float | None = None


class SchedulerMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    @initialize(
        workers=st.integers(1, 3),
        spares=st.integers(0, 2),
        max_queue=st.integers(0, 6),
        verb_limits=st.dictionaries(st.sampled_from(VERBS), st.integers(1, 2)),
        endpoint_limits=st.dictionaries(st.sampled_from((*ENDPOINTS, "*")), st.integers(1, 2)),
        recycle_after=st.integers(0, 3),
    )
    def begin(  # noqa: PLR0917 - hypothesis passes them by name
        self,
        workers: int,
        spares: int,
        max_queue: int,
        verb_limits: dict[str, int],
        endpoint_limits: dict[str, int],
        recycle_after: int,
    ) -> None:
        self.now = 0.0
        self.number = 0
        self.workers, self.spares = workers, spares
        self.verb_limits, self.endpoint_limits = verb_limits, endpoint_limits
        self.scheduler = Scheduler(workers, max_queue, spares, verb_limits, endpoint_limits, 20.0, recycle_after)
        self.open: dict[object, Submitted | None] = {}
        self.jobs: dict[int, Submitted] = {}
        self.of_key: dict[str, Submitted] = {}
        self.tickets: dict[int, Submitted] = {}
        self.deadlines: dict[object, float] = {}
        self.processes: dict[int, Process] = {}
        self.exited = False
        self.carry_out(self.scheduler.start(0.0))

    # -- the hands

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.exited or not isinstance(action, Fork | Send | Exit), "the node has ended"
            match action:
                case Fork(number):
                    assert number not in self.processes, "a number is used once"
                    self.processes[number] = Process()
                case Send(number, frame):
                    process = self.processes[number]
                    assert process.booted
                    assert process.killed_at is None
                    assert process.job is None, "a worker got two jobs"
                    process.job = self.jobs[int(frame)]
                    assert process.job in self.open.values(), "a job was begun that nobody waits for"
                case Answer(id=answered) | Refuse(id=answered):
                    assert answered in self.open, f"{answered} was answered twice or never asked"
                    del self.open[answered]
                    self.deadlines.pop(answered, None)
                case Kill(number):
                    assert self.processes[number].killed_at is None, "killed twice"
                    self.processes[number].killed_at = self.now
                case Interrupt(number) | Trace(number):
                    assert self.processes[number].job is not None
                    assert self.processes[number].killed_at is None
                case Exit(_):
                    self.exited = True

    def step(self, event: Event) -> None:
        self.carry_out(self.scheduler.step(event, self.now))

    def some(self, which: int) -> int:
        return sorted(self.processes)[which % len(self.processes)]

    def running(self) -> list[Submitted]:
        """The jobs on workers that are not known to be gone, nor have been killed long ago."""
        return [
            process.job
            for process in self.processes.values()
            if process.job and (process.killed_at is None or self.now < process.killed_at + DEATH_GRACE_S)
        ]

    def over_limit(self, one_more: Submitted | None = None) -> bool:
        jobs = [*self.running(), *([one_more] if one_more else [])]
        verbs = [job.request.verb for job in jobs]
        endpoints = [name for job in jobs for name in job.endpoints]
        other = self.endpoint_limits.get("*", len(jobs))
        wanted = VERBS if one_more is None else (one_more.request.verb,)
        asked = ENDPOINTS if one_more is None else one_more.endpoints
        return any(verbs.count(verb) > self.verb_limits.get(verb, len(jobs)) for verb in wanted) or any(
            endpoints.count(name) > self.endpoint_limits.get(name, other) for name in asked
        )

    # -- what happens

    @rule(
        target=requests,
        deadline=st.none() | st.integers(0, 5000),
        verb=st.sampled_from(VERBS),
        endpoints=st.sets(st.sampled_from(ENDPOINTS), max_size=2),
        priority=st.integers(-1, 1),
        source=st.none() | st.sampled_from("ab"),
        shared=st.none() | st.sampled_from("kl"),
        held=st.booleans(),
    )
    def submit(  # noqa: PLR0917 - as above
        self,
        deadline: int | None,
        verb: str,
        endpoints: set[str],
        priority: int,
        source: str | None,
        shared: str | None,
        held: bool,
    ) -> Submitted:
        self.number += 1
        meta = Meta(deadline_ms=deadline, priority=priority, source=source, idempotency_key=shared)
        request = Request(verb, self.number, None, meta)
        frame, identity = b"%d" % self.number, None if shared is None else Identity(verb.encode())
        ticket = self.number if held else None
        event = Submitted(frame, request, frame, (f"program:{verb}",), (*endpoints,), None, identity, ticket)
        self.send(event)
        return event

    @rule(event=requests)
    def submit_again(self, event: Submitted) -> None:
        if self.scheduler.admission.duplicate(event.key) is None:
            self.send(event)

    def send(self, event: Submitted) -> None:
        meta = event.request.meta
        if meta.deadline_ms is not None:
            self.deadlines[event.request.id] = self.now + meta.deadline_ms / 1000
        if self.scheduler.in_flight.sharing.find(meta.idempotency_key):
            assert meta.idempotency_key is not None
            assert event.identity is not None
            self.open[event.request.id] = self.of_key[meta.idempotency_key]
            self.step(Joined(event.key, event.request, event.identity))
        else:
            self.open[event.request.id] = self.jobs[int(event.frame)] = event
            if meta.idempotency_key is not None:
                self.of_key[meta.idempotency_key] = event
            if event.ticket is None:
                self.step(event)
            else:
                self.number += 1
                self.tickets[self.number] = event
                self.step(Held(self.number, event.key, event.request, None, event.identity))

    @precondition(lambda self: self.tickets)
    @rule(which=st.integers(0, 9), comes=st.sampled_from(["job", "job", "result", "error"]))
    def the_disk_speaks(self, which: int, comes: str) -> None:
        """Of a request that may have been answered long ago."""
        ticket = sorted(self.tickets)[which % len(self.tickets)]
        event = self.tickets.pop(ticket)
        match comes:
            case "job":
                self.step(replace(event, ticket=ticket))
            case "result":
                self.step(Known(ticket, "outcome"))
            case _:
                self.step(Unfit(ticket, NotFound("no such program")))

    @rule(event=requests)
    def cancel(self, event: Submitted) -> None:
        self.number += 1
        self.open[-self.number] = None
        self.step(CancelAsked(-self.number, event.key))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9), ok=st.booleans())
    def boot_or_finish(self, which: int, ok: bool) -> None:
        number = self.some(which)
        process = self.processes[number]
        if process.job is not None:
            process.job = None
            self.step(Finished(number, ok, "outcome"))
        else:
            process.booted = process.booted or process.killed_at is None
            self.step(Booted(number))

    @rule()
    def boot_all(self) -> None:
        for number, process in list(self.processes.items()):
            if process.job is None and process.killed_at is None:
                process.booted = True
                self.step(Booted(number))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9))
    def die(self, which: int) -> None:
        number = self.some(which)
        del self.processes[number]
        self.step(Died(number, CRASH))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9), stack=st.sampled_from(["", "in sleep"]))
    def show_stack(self, which: int, stack: str) -> None:
        self.step(Traced(self.some(which), stack))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9), kind=st.sampled_from(("soft", "hard", "stalled")))
    def misbehave(self, which: int, kind: str) -> None:
        number = self.some(which)
        if kind == "stalled":
            self.step(Stalled(number, 60.0))
        else:
            self.step(LimitPassed(number, "soft" if kind == "soft" else "hard", "memory_limit"))

    @rule(seconds=st.floats(0, 5) | st.floats(0, 0.2))
    def wait(self, seconds: float) -> None:
        """Time passes as in the node's loop, which sleeps until the scheduler has something to do and no longer."""
        until = self.now + seconds
        while (due := self.scheduler.next_deadline()) is not None and due <= until and not self.exited:
            self.now = max(self.now, due)
            self.step(Tick())
        self.now = until
        self.step(Tick())

    @precondition(lambda self: self.number > 20)
    @rule(grace=st.floats(0, 5))
    def shut_down(self, grace: float) -> None:
        self.number += 1
        self.open[-self.number] = None
        self.step(ShutdownAsked((-self.number,), grace))

    # -- what holds at any time

    @invariant()
    def open_requests_are_exactly_those_the_scheduler_holds(self) -> None:
        sharing = self.scheduler.in_flight.sharing
        held = {
            asker.request.id for entry in self.scheduler.in_flight.entries.values() for asker in sharing.askers(entry)
        }
        assert held == {name for name, event in self.open.items() if event is not None}

    @invariant()
    def no_more_run_than_may(self) -> None:
        assert len(self.running()) <= self.workers
        assert not self.over_limit()

    @invariant()
    def no_worker_idles_while_work_could_run(self) -> None:
        idle = any(
            process.booted and not process.job and process.killed_at is None for process in self.processes.values()
        )
        if idle and len(self.running()) < self.workers and not self.exited:
            running = {job.key for job in self.running()}
            held = {event.key for event in self.tickets.values()}
            waiting = [event for event in self.open.values() if event is not None and event.key not in running | held]
            killed = {process.job.key for process in self.processes.values() if process.job and process.killed_at}
            assert all(self.over_limit(event) for event in waiting if event.key not in killed)

    @invariant()
    def answers_come_at_their_deadline(self) -> None:
        assert all(self.now <= at + LATEST_S for at in self.deadlines.values())

    @invariant()
    def what_is_due_has_been_done(self) -> None:
        due = self.scheduler.next_deadline()
        assert self.exited or due is None or due > self.now

    @invariant()
    def every_worker_is_in_a_known_state(self) -> None:
        known = self.scheduler.workers
        assert set(known) <= set(self.processes), "the scheduler counts on nobody who is gone"
        for number, process in self.processes.items():
            if number in known:
                assert known[number].state in STATES
                assert known[number].killed == (process.killed_at is not None)
            else:
                assert process.killed_at is not None, "a process that nobody counts on was killed"
        assert len(self.scheduler.roster.lasting()) <= self.workers + self.spares

    @invariant()
    def an_exit_leaves_nothing(self) -> None:
        assert not self.exited or not self.open

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.number += 1
        self.open[-self.number] = None
        self.step(ShutdownAsked((-self.number,), 1.0))
        self.now += 1.0
        self.step(Tick())
        assert self.exited
        assert not self.open
        assert len(self.scheduler.queue) == 0
        assert len(self.scheduler.calls) == 0
        assert len(self.scheduler.in_flight.deadlines) == 0
        assert not self.scheduler.in_flight.sharing._of_key
        assert not self.scheduler.in_flight.sharing._of_id
        assert not self.scheduler.in_flight.held


def test_random_histories_answer_every_request_exactly_once_and_keep_every_limit() -> None:
    run_state_machine_as_test(
        SchedulerMachine, settings=settings(max_examples=250 if LONG else 100, stateful_step_count=60, deadline=None)
    )
