"""The worker processes: forked, fed, interrupted and killed as the scheduler says; what they say comes back as events.

Knows processes and descriptors; decides nothing.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from erlbridge.codec import Atom, DecodeError, binary_to_term, term_to_binary
from erlbridge.core.allotment import WorkerSettings
from erlbridge.core.deadlines import earliest
from erlbridge.core.events import Booted, Called, Died, Finished, Forked, Traced
from erlbridge.core.sandbox import Report
from erlbridge.errors import FrameError, ProcessCrashed
from erlbridge.limits import MAX_WORKER_FRAME_BYTES
from erlbridge.node.channel import Channel
from erlbridge.node.nursery import Nursery
from erlbridge.node.output import Output
from erlbridge.node.stacks import StackPipe
from erlbridge.node.tap import Tap
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import LOG_LEVELS, atom

_CANCEL_FRAME: Final = term_to_binary(Atom("cancel"))
_STACKS_FRAME: Final = term_to_binary(Atom("stacks"))
_RESULT: Final = Atom("result")


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """A worker's job has come this far."""

    worker: int
    state: Term


@dataclass(frozen=True, slots=True)
class WorkerChunk:
    """A worker's job has written the next piece of an output."""

    worker: int
    piece: Mapping[Term, Term]


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """A worker made a program that the node shall keep."""

    worker: int
    program_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class WorkerLines:
    """A worker (None: the process they are forked from, or the node itself) printed or logged lines, and `dropped` more
    that are above its rate. `logger` names the one of Python's logging, None for what was printed."""

    worker: int | None
    lines: list[bytes]
    dropped: int = 0
    level: str = "info"
    logger: bytes | None = None


PoolEvent: TypeAlias = (
    Forked | Booted | Finished | Died | Traced | Called | WorkerProgress | WorkerChunk | WorkerProgram | WorkerLines
)


@dataclass(slots=True)
class _Seat:
    """A worker as the pool holds it: its wire, its output, its stacks, and why it was killed if it broke the
    protocol. `heard_at` is when it last said something."""

    number: int
    channel: Channel
    output: Output
    stacks: StackPipe
    heard_at: float = 0.0
    os_pid: int | None = None
    spoiled: str | None = None
    booted: bool = False


class Pool:
    """The node's end of every worker.

    `on_event` hears of everything that happens, in order; a worker's outcome always before its death. `settings` are
    those of every worker; who listens at the `tap` hears of every frame.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_event: Callable[[PoolEvent], None],
        settings: WorkerSettings,
        tap: Tap | None = None,
    ) -> None:
        self._selector = selector
        self._tap = tap
        self._on_event = on_event
        self._seats: dict[int, _Seat] = {}
        self._paused = False
        self.sandbox: Report | None = None
        """How the worker that booted last is confined; all are so, within one node."""
        self._nursery = Nursery(
            selector,
            settings,
            on_forked=self._forked,
            on_exited=self._exited,
            on_lost=self._lost,
            on_lines=lambda lines, dropped: on_event(WorkerLines(None, lines, dropped)),
        )

    def fork(self, number: int) -> None:
        """Starts a worker; `Forked`, then `Booted` or `Died` will be heard of it."""
        output: Output | None = None
        try:
            ours, theirs = socket.socketpair()
            output = Output(self._selector, lambda lines, dropped: self._on_event(WorkerLines(number, lines, dropped)))
            stacks = StackPipe(
                self._selector,
                on_stack=lambda stack: self._on_event(Traced(number, stack)),
                on_silence=lambda: self._nursery.trace(number),
            )
        except OSError as error:  # no descriptors left, for example: one more worker that could not boot
            if output is not None:
                output.handed_over()
                output.close()
            failure = ProcessCrashed(f"the worker was not started: {error}", context={"reason": atom("forkserver")})
            self._on_event(Died(number, failure))
            return
        ours.setblocking(False)
        descriptor = ours.detach()
        channel = Channel(
            self._selector,
            descriptor,
            descriptor,
            lambda: self._hear(self._seats[number]),
            MAX_WORKER_FRAME_BYTES,
            tap=self._tap,
            number=number,
        )
        self._seats[number] = _Seat(number, channel, output, stacks)
        try:
            self._nursery.fork(number, theirs.fileno(), output.theirs, stacks.theirs)
        finally:
            theirs.close()
            output.handed_over()
            stacks.handed_over()

    def send(self, number: int, *frames: bytes) -> None:
        """Tells a worker something, such as its job and what is to be known of it, in one write."""
        if seat := self._seats.get(number):
            seat.channel.send(*frames)

    def interrupt(self, number: int) -> None:
        """Asks a worker to stop its job."""
        self.send(number, _CANCEL_FRAME)

    def give_back(self, number: int, call_number: int, outcome: Term) -> None:
        """Gives a worker the outcome of one of its calls."""
        self.send(number, term_to_binary((_RESULT, call_number, outcome)))

    def kill(self, number: int) -> None:
        """Ends a worker at once; its death is heard of like any other."""
        self._nursery.kill(number)

    def trace(self, number: int) -> None:
        """Asks a worker for its stacks; `Traced` will be heard, with what it wrote."""
        if (seat := self._seats.get(number)) and seat.stacks.expect():
            seat.channel.send(_STACKS_FRAME)

    def heard_at(self, number: int) -> float:
        """When a worker last said something."""
        seat = self._seats.get(number)
        return 0.0 if seat is None else seat.heard_at

    @property
    def forkserver_pid(self) -> int | None:
        """The process that workers are forked from, None while there is none."""
        return self._nursery.forkserver_pid

    def pause(self, paused: bool) -> None:
        """Leaves what workers say in their sockets, where they wait with it, or takes it again. One that boots goes on:
        it has only that to say, and a limit of time for it."""
        if self._paused != paused:
            self._paused = paused
            for seat in self._seats.values():
                self._watch(seat)

    def _watch(self, seat: _Seat) -> None:
        seat.channel.pause(seat.spoiled is not None or (self._paused and seat.booted))

    def next_look(self) -> float | None:
        """When `look` has something to do, on the monotonic clock; None when only an event can bring that."""
        return earliest([self._nursery.next_look(), *[seat.stacks.next_deadline() for seat in self._seats.values()]])

    def look(self) -> None:
        """Sees to what should have happened by now."""
        self._nursery.look()
        now = time.monotonic()
        for seat in self._seats.values():
            seat.stacks.expire(now)

    def close(self) -> None:
        """Ends every worker and the process they are forked from, and waits until they are gone."""
        self._nursery.close()

    # -- what the nursery tells

    def _forked(self, number: int, os_pid: int) -> None:
        if seat := self._seats.get(number):
            seat.os_pid = os_pid
            self._on_event(Forked(number, os_pid))
            if seat.booted:
                self._on_event(Booted(number))

    def _exited(self, number: int, status: int | None) -> None:
        seat = self._seats.get(number)
        if seat is None:
            return
        reason, text = describe(status)
        if seat.spoiled:
            reason, text = "protocol", seat.spoiled
        context: dict[str, object] = {"reason": atom(reason)}
        if status is None:
            pass
        elif os.WIFSIGNALED(status):
            context["signal_name"] = signal_name(os.WTERMSIG(status))
        else:
            context["exit_code"] = os.waitstatus_to_exitcode(status)
        self._bury(seat, text, context)

    def _lost(self, text: str) -> None:
        for seat in list(self._seats.values()):
            self._bury(seat, text, {"reason": atom("forkserver")})

    # -- what workers say

    def _hear(self, seat: _Seat, *, last: bool = False) -> None:
        seat.heard_at = time.monotonic()
        try:
            for frame in seat.channel.drain() if last else seat.channel.read():
                self._take(seat, binary_to_term(frame))
        except (FrameError, DecodeError, ValueError) as error:
            seat.spoiled = f"it sent something that is no message: {error}"
            self._watch(seat)
            self.kill(seat.number)

    def _take(self, seat: _Seat, term: Term) -> None:
        if not (isinstance(term, tuple) and term and isinstance(term[0], Atom)):
            return
        match (str(term[0]), *term[1:]):
            case ("ok" | "error" as kind, result):
                seat.output.catch_up()  # it is this job's, though it came another way
                self._on_event(Finished(seat.number, kind == "ok", result))
            case ("progress", state):
                self._on_event(WorkerProgress(seat.number, state))
            case ("chunk", dict() as piece):
                self._on_event(WorkerChunk(seat.number, piece))
            case ("call", int() as number, int() | None as timeout_ms, (Atom() | bytes()) as name, arguments):
                self._on_event(Called(seat.number, number, name, arguments, timeout_ms))
            case ("log", Atom() as level, bytes() as text, bytes() as logger, int() as dropped) if (
                str(level) in LOG_LEVELS
            ):
                self._on_event(WorkerLines(seat.number, [text] if text else [], dropped, str(level), logger))
            case ("program", bytes() as program_id, bytes() as content):
                self._on_event(WorkerProgram(seat.number, program_id.decode(), content))
            case ("booted", report):
                seat.booted = True
                self._watch(seat)
                self.sandbox = Report.from_term(report)
                if seat.os_pid is not None:  # else the forkserver, which has a wire of its own, is about to tell it
                    self._on_event(Booted(seat.number))

    def _bury(self, seat: _Seat, text: str, context: dict[str, object]) -> None:
        """Hears what a dead worker still had to say, then tells of its death."""
        if not seat.spoiled:
            self._hear(seat, last=True)
        seat.output.close()
        seat.channel.close()
        if stack := seat.stacks.close():
            context["stack"] = stack
            self._on_event(WorkerLines(seat.number, [line for line in stack.encode().splitlines() if line]))
        del self._seats[seat.number]
        context |= {"worker": seat.number, "os_pid": seat.os_pid}
        self._on_event(Died(seat.number, ProcessCrashed(f"the worker died: {text}", context=context)))


def describe(status: int | None) -> tuple[str, str]:
    """A wait status as the contract's reason and in a few words; None where it could not be learned."""
    if status is None:
        return "forkserver", "how is not known, since the process it was forked from does not answer"
    if os.WIFSIGNALED(status):
        return "signal", f"killed by {signal_name(os.WTERMSIG(status))}"
    return "exit", f"exited with code {os.waitstatus_to_exitcode(status)}"


def signal_name(number: int) -> str:
    """A signal's name, also of the real-time ones, which have none of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
