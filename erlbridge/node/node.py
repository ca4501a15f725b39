"""The node's loop: frames in, the scheduler's decisions carried out, frames out. The one place that looks at the clock.

Handlers only enqueue; the loop drains, so that no event is handled in the middle of another.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import sys
import time
import traceback  # now, and not when no descriptor is left to read it with
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NoReturn, assert_never

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core import events, scheduler
from erlbridge.core.credit import CreditLine
from erlbridge.core.jobs import WORKER_VERBS, endpoints, parse_job, stored_programs
from erlbridge.errors import (
    BridgeError,
    FrameError,
    InternalError,
    Overloaded,
    SerializationError,
    UnknownVerb,
    ValidationError,
)
from erlbridge.limits import (
    MAX_ID_SHARE,
    MAX_QUEUED_BYTES,
    MAX_SPAN_MS,
    MAX_UNSENT_ANSWER_BYTES,
    MAX_UNSENT_BYTES,
    MAX_UNSENT_EVENT_BYTES,
    MAX_WAIT_S,
    MAX_WORKER_FRAME_BYTES,
)
from erlbridge.node import pool as workers
from erlbridge.node import program_verbs
from erlbridge.node.about import About
from erlbridge.node.allotment import worker_settings
from erlbridge.node.audit import Audit
from erlbridge.node.channel import Channel
from erlbridge.node.config import NodeConfig
from erlbridge.node.guardian import wake_guardian
from erlbridge.node.health import health
from erlbridge.node.keeping import Unkept, told, unkept
from erlbridge.node.models import ModelStore, names_model
from erlbridge.node.output import OwnOutput
from erlbridge.node.patrol import Patrol
from erlbridge.node.preload import preload
from erlbridge.node.store import ProgramStore
from erlbridge.wire import messages
from erlbridge.wire.messages import Credit, Malformed, Request, Result, Term
from erlbridge.wire.place import Place, nearest
from erlbridge.wire.vocabulary import VERBS

EXIT_FRAMING_LOST: Final = 4
EXIT_FAULT: Final = 70
"""A fault of the node itself (`EX_SOFTWARE` of sysexits.h)."""
_PAUSED_LOOK_S: Final = 0.2
"""How often a node that reads no further requests looks whether its host is still there."""
_LAST_WORDS_S: Final = 1.0
_TURN_S: Final = 0.02
"""How long requests that are there may keep the loop from workers and deadlines."""
_RUN: Final = Atom("run")
_DEADLINE: Final = Atom("deadline")


class Node:
    """One node on one wire. `run` serves until the host is gone or says so, and gives the exit code."""

    def __init__(self, config: NodeConfig, about: About, incoming: int, outgoing: int) -> None:
        self.config = config
        self.about = about
        self.selector = selectors.PollSelector()  # epoll takes no files; a wire read from one is of use to a tool
        self.host = Channel(self.selector, incoming, outgoing, self._hear_host, config.max_frame_bytes)
        self.scheduler = scheduler.Scheduler(
            config.workers,
            config.max_queue,
            config.spare_workers,
            config.verb_limits,
            config.endpoint_limits,
            config.boot_timeout_s,
            config.recycle_after_jobs,
        )
        self.credit = CreditLine(config.credit)
        self.store = ProgramStore(config.data / "programs")
        self.models = ModelStore(config.data / "models")
        self.audit = Audit(config, about)
        self.exit_code: int | None = None
        self._unkept: dict[int, list[Unkept]] = {}
        self._requests_wait = False
        self._inbox: deque[workers.PoolEvent] = deque()
        self._pool = workers.Pool(self.selector, self._inbox.append, worker_settings(config))
        self.patrol = Patrol(config, self.scheduler, lambda: self._pool.forkserver_pid, self._pool.heard_at)

    def run(self) -> int:
        """Serves the wire. Every worker is gone when this returns."""
        with OwnOutput(self.selector, self._hear_myself):
            return self._serve()

    def _serve(self) -> int:
        self._watch_signals()
        self._do(self.scheduler.start(time.monotonic()))
        preload()
        while self.exit_code is None:
            self._serve_descriptors(self._wait_s())
            self._take_frames(time.monotonic() + _TURN_S)
            self._pool.look()
            self._drain()
            self._go_round()
            self._do(self.scheduler.step(events.Tick(), time.monotonic()))
            self._drain()
            for complaint in self.audit.complaints():
                self._log("warning", complaint.encode())
            self._hold_back()
            if self.host.paused and self.host.hung_up():
                self.exit_code = scheduler.EXIT_STOPPED
        self._refuse_the_rest()
        self.host.finish(_LAST_WORDS_S)
        self._pool.close()
        return self.exit_code

    def _wait_s(self) -> float:
        """How long nothing but an event can bring work."""
        if self._requests_wait or self._inbox:  # the hands may have said something
            return 0.0
        times = (self.scheduler.next_deadline(), self.patrol.due_at(), self._pool.next_look())
        deadline = min(at for at in times if at is not None)
        wait_s = min(max(0.0, deadline - time.monotonic()), MAX_WAIT_S)
        return min(wait_s, _PAUSED_LOOK_S) if self.host.paused else wait_s

    def _serve_descriptors(self, timeout_s: float | None) -> None:
        for key, ready in self.selector.select(timeout_s):
            # One handler may close or pause what another was to read; only what is still watched is served.
            current = self.selector.get_map().get(key.fd)
            if current is not None and current.data == key.data and current.events & ready:
                key.data(current.events & ready)
                self._drain()
                self._hold_back()

    def _hold_back(self) -> bool:
        """Leaves what would become more for the host where it is, when the host does not take what is there. Gives
        whether that holds for its requests."""
        unsent = self.host.writer.pending_bytes
        self.host.pause(unsent > MAX_UNSENT_ANSWER_BYTES)
        self._pool.pause(unsent > MAX_UNSENT_BYTES)
        if self.credit.held != (unsent > MAX_UNSENT_EVENT_BYTES):
            self._emit(self.credit.hold(not self.credit.held))
        return self.host.paused

    def _go_round(self) -> None:
        """Looks after the processes, when that is due."""
        if (now := time.monotonic()) < self.patrol.due_at():
            return
        found = self.patrol.go_round(now)
        for level, worker, line in found.lines:
            self._log(level, line.encode(), worker=worker)
        for event in found.telemetry:
            self._emit(self.credit.droppable(event))
        for fact in found.facts:
            self._do(self.scheduler.step(fact, now))

    # -- what arrives

    def _hear_host(self) -> None:
        if self._requests_wait:
            return  # they come first, so that no more than a frame of theirs is in memory
        self.host.receive()
        if self.host.closed:
            self._take_frames()
            self.exit_code = scheduler.EXIT_STOPPED

    def _take_frames(self, stop_at: float = math.inf) -> None:
        """Takes the frames that have arrived, until then or until too much waits for the host to read it."""
        self._requests_wait = False
        if self.host.paused or self.exit_code == EXIT_FRAMING_LOST:
            return
        try:
            for frame in self.host.reader:
                self._take_frame(frame)
                if self._hold_back():
                    return
                if time.monotonic() > stop_at:
                    self._requests_wait = True
                    return
        except FrameError as error:
            self._answer_error(None, error, unread=b"")
            self.exit_code = EXIT_FRAMING_LOST

    def _refuse_the_rest(self) -> None:
        """What came in behind the request to stop is answered too."""
        if self.exit_code == scheduler.EXIT_STOPPED and not self.host.closed:
            self._take_frames()
            self._hear_host()
            self._take_frames()

    def _hear_myself(self, lines: list[bytes], dropped: int) -> None:
        self._inbox.append(workers.WorkerLines(None, lines, dropped, "warning"))

    def _drain(self) -> None:
        while self._inbox:
            match self._inbox.popleft():
                case workers.WorkerProgress(number, state):
                    self._pass_on_progress(number, state)
                case workers.WorkerChunk(number, piece):
                    self._pass_on_chunk(number, piece)
                case workers.WorkerProgram(number, program_id, content):
                    self._keep(number, program_id, content)
                case workers.WorkerLines() as said:
                    self._pass_on_lines(said)
                case events.Finished(number) as finished:
                    outcome = told(finished, self._unkept.pop(number, []))
                    self._do(self.scheduler.step(outcome, time.monotonic()))
                case event:
                    if isinstance(event, events.Died):
                        self._unkept.pop(event.worker, None)
                    self._do(self.scheduler.step(event, time.monotonic()))

    def _take_frame(self, frame: bytes) -> None:
        request_id: Term = None
        unread: bytes | None = frame
        try:
            incoming = messages.parse_incoming(binary_to_term(frame, max_bytes=self.config.max_frame_bytes))
            if isinstance(incoming, Credit):
                self._emit(self.credit.grant(incoming.count))
                return
            if isinstance(incoming, Result):
                returned = events.Returned(incoming.call_id, incoming.ok, incoming.term)
                self._do(self.scheduler.step(returned, time.monotonic()))
                return
            self._refuse_long_id(incoming.id)
            request_id = incoming.id
            self.audit.arrived(_key(request_id), frame, replace(incoming, payload=None))
            unread = None
            self._take_request(incoming)
        except Malformed as error:
            self._answer_error(error.id if self._fits(error.id) else None, error, unread)
        except BridgeError as error:
            self._answer_error(request_id, error, unread)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not take the other requests with it
            failure = InternalError(f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
            self._answer_error(request_id, failure, unread)

    def _take_request(self, request: Request) -> None:
        key = _key(request.id)
        if failure := self.scheduler.duplicate(key):
            raise failure
        match request.verb:
            case "health_check":
                self._answer(request.id, messages.ok(request.id, self._health()))
            case "cancel":
                target = Place(request.payload, "payload")
                wanted = target.required(target.only(("id",)), "id").term
                self._do(self.scheduler.step(events.CancelAsked(request.id, _key(wanted)), time.monotonic()))
            case "shutdown":
                grace_s = _grace_s(Place(request.payload, "payload"), self.config.shutdown_grace_s)
                asked = events.ShutdownAsked((request.id,), grace_s, (key,))
                self._do(self.scheduler.step(asked, time.monotonic()))
            case verb if verb in program_verbs.ANSWERS:
                self._answer(request.id, messages.ok(request.id, self._ask_store(verb, request.payload)))
            case verb if verb in WORKER_VERBS:
                self._submit(key, request)
            case verb:
                raise UnknownVerb(f"unknown verb `{verb}`{nearest(verb, VERBS)}; known are {', '.join(VERBS)}")

    def _submit(self, key: bytes, request: Request) -> None:
        """Refuses before anything is spent; checks and encodes before a worker is taken."""
        if failure := self.scheduler.refusal(key):
            raise failure
        job = parse_job(request.verb, request.payload)
        programs = stored_programs(job)
        stored = {name: self._stored(name) for name in programs}
        frame = term_to_binary((_RUN, Atom(request.verb), request.payload, stored))
        if len(frame) > MAX_WORKER_FRAME_BYTES:
            raise SerializationError(
                f"the job is {len(frame)} bytes for its worker, limit {MAX_WORKER_FRAME_BYTES}; send less data",
                context={"limit": MAX_WORKER_FRAME_BYTES},
            )
        self._refuse_too_much(len(frame))
        # The payload stands in the frame; as a value it can be ten times as large, and nobody reads it any more.
        taken = events.Submitted(key, replace(request, payload=None), frame, programs, endpoints(job))
        self._do(self.scheduler.step(taken, time.monotonic()))

    def _refuse_too_much(self, frame_bytes: int) -> None:
        held = self.scheduler.frame_bytes
        if held and held + frame_bytes > MAX_QUEUED_BYTES:
            raise Overloaded(
                f"jobs of {held} bytes wait for a worker, limit {MAX_QUEUED_BYTES}; try again later, or send less data",
                context={"limit": MAX_QUEUED_BYTES},
                retry_after_ms=1000,
            )

    def _ask_store(self, verb: str, payload: Term) -> Term:
        try:
            return program_verbs.ANSWERS[verb](self.store, payload)
        except OSError as error:
            raise program_verbs.storage_failed(f"{verb} was refused by the disk", error) from None

    def _health(self) -> Term:
        return health(
            self.about,
            self.scheduler,
            self.patrol,
            self.credit.dropped,
            time.monotonic(),
            audit=self.audit.state(),
            sandbox=self._pool.sandbox,
        )

    # -- what is done

    def _do(self, actions: list[events.Action]) -> None:
        for action in actions:
            match action:
                case events.Fork(number):
                    self._pool.fork(number)
                case events.Send(number, frame, deadline_ms, left_s):
                    if left_s is not None:
                        self._pool.send(number, term_to_binary((_DEADLINE, deadline_ms, left_s)))
                    self._pool.send(number, frame)
                    if entry := self.scheduler.entry_of(number):
                        self.audit.sent(entry.key, number)
                case events.Interrupt(number):
                    self._pool.interrupt(number)
                case events.Trace(number):
                    self._pool.trace(number)
                case events.Kill(number):
                    self._pool.kill(number)
                case events.Answer(request_id, ok, term):
                    key = _key(request_id)
                    if ok:
                        self._emit(self.credit.settle(key))
                    self.credit.forget(key)
                    answer = messages.ok(request_id, term) if ok else messages.error_as(request_id, term)
                    self._answer(request_id, answer)
                case events.Refuse(request_id, failure):
                    self.credit.forget(_key(request_id))
                    self._answer_error(request_id, failure)
                case events.Ask():
                    self._ask(action)
                case events.Return(number, call_number, outcome):
                    self._pool.give_back(number, call_number, outcome)
                case events.Warn(message):
                    self._log("warning", message.encode())
                case events.Exit(code):
                    self.exit_code = code
                case _:
                    assert_never(action)

    def _ask(self, call: events.Ask) -> None:
        """Has the host call a function. Needs no credit, but a frame that it may have."""
        frame = messages.encode(messages.call(call.call_id, call.id, call.name, call.arguments), head=4)
        failure: BridgeError | None = None
        if len(frame) > (limit := self.config.max_frame_bytes):
            failure = SerializationError(
                f"the arguments of a call make a frame of {len(frame)} bytes, limit {limit}", context={"limit": limit}
            )
        if failure is None:
            self.host.send(frame)
        else:
            self._do(self.scheduler.step(events.Unsendable(call.call_id, failure), time.monotonic()))

    def _pass_on_progress(self, number: int, state: Term) -> None:
        entry = self.scheduler.entry_of(number)
        if entry is not None and entry.request.meta.progress:
            self._emit(self.credit.progress(entry.key, messages.progress(entry.request.id, state)))

    def _pass_on_chunk(self, number: int, piece: Mapping[Term, Term]) -> None:
        entry = self.scheduler.entry_of(number)
        if entry is not None:
            self._emit(self.credit.chunk(entry.key, messages.chunk(entry.request.id, piece)))

    def _stored(self, name: str) -> bytes:
        try:
            return self.models.get(name) if names_model(name) else self.store.get(name)
        except OSError as error:
            raise program_verbs.storage_failed(f"{name} was not read", error) from None

    def _keep(self, number: int, name: str, content: bytes) -> None:
        """Stores a program or a trained model. What the disk refuses is told with the job's outcome."""
        try:
            (self.models if names_model(name) else self.store).put(name, content)
        except (OSError, ValidationError) as error:
            self._log("error", f"{name} was not stored: {error}".encode())
            entry = self.scheduler.entry_of(number)
            if isinstance(error, OSError):
                verb = None if entry is None else entry.request.verb
                self._unkept.setdefault(number, []).append(unkept(name, error, verb))

    def _pass_on_lines(self, said: workers.WorkerLines) -> None:
        entry = None if said.worker is None else self.scheduler.entry_of(said.worker)
        job = None if entry is None else entry.request.id
        self.credit.drop("log", said.dropped)
        for line in said.lines:
            self._log(said.level, line, worker=said.worker, job=job, logger=said.logger)

    def _log(
        self, level: str, line: bytes, *, worker: int | None = None, job: Term = None, logger: bytes | None = None
    ) -> None:
        metadata = {"worker": worker, "job": job, "logger": logger}
        self._emit(self.credit.droppable(messages.log(level, line, metadata)))

    def _answer_error(self, request_id: Term, failure: BridgeError, unread: bytes | None = None) -> None:
        """`unread` is the frame that held no request, and so has not been heard of yet."""
        if unread is not None:
            self.audit.arrived(_key(request_id), unread, None)
        self._answer(request_id, messages.error(request_id, failure))

    def _answer(self, request_id: Term, answer: tuple[Term, ...]) -> None:
        """Sends an answer; one above the frame limit becomes an error that says so."""
        frame = messages.encode(answer)
        limit = self.config.max_frame_bytes
        if len(frame) > limit:
            failure = SerializationError(
                f"answer of {len(frame)} bytes, limit {limit}; ask for less at once", context={"limit": limit}
            )
            answer = messages.error(request_id, failure)
            frame = messages.encode(answer)
        self.host.send(frame)
        self.audit.answered(_key(request_id), answer, frame)

    def _emit(self, happened: list[tuple[Term, ...]]) -> None:
        """Sends events; one above the frame limit is dropped and counted."""
        for event in happened:
            frame = messages.encode(event)
            if len(frame) > self.config.max_frame_bytes:
                self.credit.drop(str(event[0]))
            else:
                self.host.send(frame)

    def _fits(self, request_id: Term) -> bool:
        return len(term_to_binary(request_id)) <= self.config.max_frame_bytes // MAX_ID_SHARE

    def _refuse_long_id(self, request_id: Term) -> None:
        if not self._fits(request_id):
            limit = self.config.max_frame_bytes // MAX_ID_SHARE
            raise ValidationError(f"expected an id of at most {limit} bytes, an eighth of a frame", "id")

    def _watch_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP drain the node as `:shutdown` does."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the guardian had these blocked until now
        self._wakeup = (wake_read, wake_write)

        def on_signal(_events: int) -> None:
            wake_read.recv(64)
            self._do(self.scheduler.step(events.ShutdownAsked((), self.config.shutdown_grace_s), time.monotonic()))

        self.selector.register(wake_read, selectors.EVENT_READ, on_signal)


def _key(term: Term) -> bytes:
    """An id in its one canonical form, since any term may be an id, hashable in Python or not."""
    return term_to_binary(term, deterministic=True)


def _grace_s(place: Place, default_s: float) -> float:
    entries = place.only(("mode", "grace_ms"))
    if "mode" in entries and entries["mode"].choice(("drain", "now")) == "now":
        return 0.0
    grace = entries.get("grace_ms")
    return default_s if grace is None or grace.term is None else grace.integer(minimum=0, maximum=MAX_SPAN_MS) / 1000


def serve(config: NodeConfig, about: About, wire: tuple[int, int]) -> NoReturn:
    """Runs a node that has announced itself on the wire's descriptors; ends the process with its exit code."""
    code = EXIT_FAULT
    try:
        node = Node(config, about, *wire)
        try:
            code = node.run()
        finally:
            node.audit.close(code)
    except BaseException:  # noqa: BLE001 - whatever it is, it is told, and the host hears the exit code that means it
        traceback.print_exc()
    if sys.stderr is not None:  # None when it was closed before we started
        sys.stderr.flush()
    wake_guardian()
    os._exit(code)  # no thread, atexit handler or destructor may hold the exit up; the workers end with this process
