"""The node's loop: frames in, the scheduler's decisions carried out, frames out. The one place that looks at the clock.

Handlers only enqueue; the loop drains, so that no event is handled in the middle of another.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
import traceback  # now, and not when no descriptor is left to read it with
from collections import deque
from collections.abc import Mapping
from typing import Final, NoReturn

from erlbridge.codec import binary_to_term
from erlbridge.core import events, scheduler
from erlbridge.core.deadlines import earliest
from erlbridge.errors import BridgeError, FrameError, InternalError
from erlbridge.limits import MAX_WAIT_S
from erlbridge.node import pool as workers
from erlbridge.node import transfer_verbs
from erlbridge.node.about import About
from erlbridge.node.allotment import worker_settings
from erlbridge.node.audit import Audit
from erlbridge.node.capture import Capture
from erlbridge.node.channel import Channel
from erlbridge.node.config import NodeConfig
from erlbridge.node.disk import Disk
from erlbridge.node.guardian import wake_guardian
from erlbridge.node.hands import Hands
from erlbridge.node.health import Health
from erlbridge.node.heap import give_back_large_blocks
from erlbridge.node.host import Host
from erlbridge.node.housekeeping import Housekeeping
from erlbridge.node.intake import Intake
from erlbridge.node.outcomes import Outcomes
from erlbridge.node.output import OwnOutput
from erlbridge.node.patrol import Patrol
from erlbridge.node.preload import preload
from erlbridge.node.reception import Reception
from erlbridge.node.signals import Signals
from erlbridge.node.stock import stock_of
from erlbridge.node.tap import Tap
from erlbridge.node.waiting import Waiting, selector_for
from erlbridge.node.watcher import watcher_of
from erlbridge.store.store import open_store
from erlbridge.wire import messages
from erlbridge.wire.messages import Credit, Malformed, Result, Term

EXIT_FRAMING_LOST: Final = 4
EXIT_FAULT: Final = 70
"""A fault of the node itself (`EX_SOFTWARE` of sysexits.h)."""
_PAUSED_LOOK_S: Final = 0.2
"""How often a node that reads no further requests looks whether its host is still there."""
_LAST_WORDS_S: Final = 1.0
_TURN_S: Final = 0.02
"""How long requests that are there may keep the loop from workers and deadlines."""
_GATHER_S: Final = 0.001
"""How long answers wait for others to be written with them, while more requests are there."""
_LONG_BYTES: Final = 64 * 1024
"""A request that takes so long that no answer waits for it."""


class Node:
    """One node on one wire. `run` serves until the host is gone or says so, and gives the exit code."""

    def __init__(
        self, config: NodeConfig, about: About, incoming: int, outgoing: int, listening: socket.socket | None = None
    ) -> None:
        self.config = config
        self.about = about
        self.selector = selector_for(incoming, outgoing)
        self.waiting = Waiting(self.selector, config.busy_wait_s)
        self.tap = Tap()
        self.capture = Capture(config, about, self.tap)
        self.wire = Channel(self.selector, incoming, outgoing, self._hear_host, config.max_frame_bytes, tap=self.tap)
        self.audit = Audit(config, about)
        self.watcher = watcher_of(lambda: self, config, listening)
        self.host = Host(self.wire, config.credit, self.audit, config.max_frame_bytes, self.watcher)
        self.scheduler = scheduler.Scheduler(
            config.workers,
            config.max_queue,
            config.spare_workers,
            config.verb_limits,
            config.endpoint_limits,
            config.boot_timeout_s,
            config.recycle_after_jobs,
            config.nested_workers,
        )
        self.disk = Disk(self.selector, self._answer_of_disk)
        self.store = open_store(config.data, self._warn, config.places)
        quotas = transfer_verbs.Quotas(config.dataset_quota_bytes, config.transfer_quota_bytes)
        self.data = transfer_verbs.DataDesk(self.store, quotas, config.max_frame_bytes)
        self.stock = stock_of(self.store, self.disk, config, self._warn)
        self.intake = Intake(
            self.host,
            self.scheduler,
            self.stock,
            self._step,
            caches=config.result_cache,
            library=about.library,
            max_frame_bytes=config.max_frame_bytes,
        )
        self.reception = Reception(
            host=self.host,
            scheduler=self.scheduler,
            disk=self.disk,
            stock=self.stock,
            data=self.data,
            capture=self.capture,
            intake=self.intake,
            step=self._step,
            health=self.health,
            grace_s=config.shutdown_grace_s,
        )
        self.housekeeping = Housekeeping(
            self.store, config.dataset_keep_s, self.stock.prune, self.disk, self._warn, now=time.monotonic()
        )
        self.outcomes = Outcomes(self.scheduler, self.stock, self._step, self._log)
        self.exit_code: int | None = None
        self._requests_wait = False
        self._has_room = False
        """Whether the host has taken all there was since it was judged what to hold back: no descriptor tells of it."""
        self._inbox: deque[workers.PoolEvent] = deque()
        self._pool = workers.Pool(self.selector, self._inbox.append, worker_settings(config), self.tap)
        self.hands = Hands(
            self.scheduler, self._pool, host=self.host, audit=self.audit, watcher=self.watcher, leave=self._leave
        )
        self.patrol = Patrol(config, self.scheduler, lambda: self._pool.forkserver_pid, self._pool.heard_at)
        self._health = Health(about, self.scheduler, self.patrol)

    def run(self) -> int:
        """Serves the wire. Every worker is gone when this returns."""
        with OwnOutput(self.selector, self._hear_myself):
            return self._serve()

    def _serve(self) -> int:
        self._signals = Signals(self.selector, self._drain_on_signal)
        if complaint := self.capture.begin():
            self._log("warning", complaint)
        self.hands.do(self.scheduler.start(time.monotonic()))
        preload()
        self.wire.gathers = True
        while self.exit_code is None:
            due_at = self._due_at()
            self._serve_descriptors(self._wait_s(due_at))
            self._take_frames(time.monotonic() + _TURN_S)
            self._drain()
            self.wire.flush()
            if time.monotonic() >= due_at:
                self._look_after_time()
            for complaint in (*self.audit.complaints(), *self.capture.complaints()):
                self._log("warning", complaint)
            self._hold_back()
            self._has_room = self.wire.flush()
            self.audit.write()
            if self.wire.paused and self.wire.hung_up():
                self.exit_code = scheduler.EXIT_STOPPED
        self.wire.gathers = False
        self._refuse_the_rest()
        self.watcher.close()
        self.stock.claiming.end()
        self.disk.finish(_LAST_WORDS_S)
        self.host.settle_all()
        self.host.send_the_rest()
        self.wire.finish(_LAST_WORDS_S)
        self._pool.close()
        self.capture.close()
        return self.exit_code

    def _look_after_time(self) -> None:
        """Sees to what time alone brings."""
        self._pool.look()
        self._drain()
        self._go_round()
        now = time.monotonic()
        if (due_at := self.scheduler.next_deadline()) is not None and due_at <= now:
            self.hands.do(self.scheduler.step(events.Tick(), now))
        for look in (self.intake, self.stock.claiming, self.disk, self.watcher):
            look.look(now)
        self._drain()

    def _due_at(self) -> float:
        """When there is something to do though nothing happens; the patrol's next round at the latest."""
        times = (
            self.scheduler.next_deadline(),
            self._pool.next_look(),
            self.intake.due_at(),
            self.stock.claiming.due_at(),
            self.disk.due_at(),
            self.watcher.due_at(),
        )
        soonest, round_at = earliest(times), self.patrol.due_at()
        return round_at if soonest is None else min(soonest, round_at)

    def _wait_s(self, due_at: float) -> float:
        """How long nothing but an event can bring work."""
        if self._inbox or self._has_room or (self._requests_wait and not self.wire.paused):
            return 0.0  # the hands may have said something
        wait_s = min(max(0.0, due_at - time.monotonic()), MAX_WAIT_S)
        return min(wait_s, _PAUSED_LOOK_S) if self.wire.paused else wait_s

    def _serve_descriptors(self, timeout_s: float) -> None:
        untouched, alone = True, not (self.scheduler.in_flight.entries or self.disk.busy)
        for key, ready in self.waiting.select(timeout_s, alone=alone):
            # One handler may close or pause what another was to read; only what is still watched is served.
            current = key if untouched else self.selector.get_map().get(key.fd)
            if current is not None and current.data == key.data and current.events & ready:
                untouched = False
                key.data(current.events & ready)
                self._drain()
                self._hold_back()

    def _hold_back(self) -> bool:
        """Leaves what would become more for the host where it is, when the host does not take what is there. Gives
        whether that holds for its requests."""
        self._pool.pause(self.host.hold_back())
        self.disk.hold(self.wire.paused)
        return self.wire.paused

    def _go_round(self) -> None:
        """Looks after the processes, when that is due."""
        if (now := time.monotonic()) < self.patrol.due_at():
            return
        self.housekeeping.look(now)
        self.disk.rest()
        found = self.patrol.go_round(now)
        for level, worker, line in found.lines:
            self.host.log(level, line.encode(), worker=worker)
        for event in found.telemetry:
            self.host.tell(event)
        for fact in found.facts:
            self.hands.do(self.scheduler.step(fact, now))

    # -- what arrives

    def _hear_host(self) -> None:
        if self._requests_wait:
            return  # they come first, so that no more than a frame of theirs is in memory
        self.wire.receive()
        if self.wire.closed:
            self._take_frames()
            self.exit_code = scheduler.EXIT_STOPPED

    def _take_frames(self, stop_at: float = math.inf) -> None:
        """Takes the frames that have arrived, until then or until too much waits for the host to read it."""
        if self.wire.paused or self.exit_code == EXIT_FRAMING_LOST:
            return
        self._requests_wait = False
        try:
            write_at = time.monotonic() + _GATHER_S
            for frame in self.wire.views():
                if len(frame) > _LONG_BYTES:
                    self.wire.flush()
                self._take_frame(frame)
                now = time.monotonic()
                if now > write_at:
                    self.wire.flush()
                    write_at = now + _GATHER_S
                if self._hold_back() or now > stop_at:
                    self._requests_wait = True
                    return
        except FrameError as error:
            self.host.refuse(None, error, unread=b"")
            self.exit_code = EXIT_FRAMING_LOST

    def _refuse_the_rest(self) -> None:
        """What came in behind the request to stop is answered too."""
        if self.exit_code == scheduler.EXIT_STOPPED and not self.wire.closed:
            self._take_frames()
            self._hear_host()
            self._take_frames()

    def _hear_myself(self, lines: list[bytes], dropped: int) -> None:
        self._inbox.append(workers.WorkerLines(None, lines, dropped, "warning"))

    def _drain(self) -> None:
        # Patterns without positions, here and in `hands`: CPython 3.11 looks those up by a name that it makes anew each
        # time and its cache of types keeps, a slow growth; and they take a quarter longer.
        while self._inbox:
            match self._inbox.popleft():
                case workers.WorkerProgress() as said:
                    if entry := self.scheduler.entry_of(said.worker):
                        self.watcher.progressed(entry, said.state)
                    for asker in self.scheduler.askers_of(said.worker):
                        self.host.progress(asker, said.state)
                case workers.WorkerChunk() as said:
                    for asker in self.scheduler.askers_of(said.worker, from_start=True):
                        self.host.chunk(asker, said.piece)
                case workers.WorkerProgram() as said:
                    self.outcomes.keep(said.worker, said.program_id, said.content)
                case workers.WorkerLines() as said:
                    self._pass_on_lines(said)
                case events.Finished() as finished:
                    if entry := self.scheduler.running_at(finished.worker):
                        self.watcher.finished(entry, finished.ok, finished.term)
                    self.outcomes.finished(finished)
                case events.Died() as death:
                    self.watcher.died(self.scheduler.workers.get(death.worker), death.cause)
                    self.outcomes.died(death)
                case event:
                    self._step(event)

    def _take_frame(self, frame: bytes | memoryview) -> None:
        self.watcher.frame(False, frame)
        request_id: Term = None
        unread: bytes | memoryview | None = frame
        try:
            incoming = messages.parse_incoming(binary_to_term(frame, max_bytes=self.config.max_frame_bytes))
            if isinstance(incoming, Credit):
                self.host.grant(incoming.count)
                return
            if isinstance(incoming, Result):
                self._step(events.Returned(incoming.call_id, incoming.ok, incoming.term))
                return
            key = self.host.key_for(incoming.id)
            request_id = incoming.id
            self.host.asked(key, incoming.bare(), frame)
            unread = None
            self.reception.take(key, incoming, frame)
        except Malformed as error:
            self.host.refuse(error.id if self.host.may_have(error.id) else None, error, unread)
        except BridgeError as error:
            self.host.refuse(request_id, error, unread)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not take the other requests with it
            failure = InternalError(f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
            self.host.refuse(request_id, failure, unread)

    def _answer_of_disk(self, request_id: Term, outcome: Term | BridgeError) -> None:
        if isinstance(outcome, BridgeError):
            self.host.refuse(request_id, outcome)
        else:
            self.host.answer(request_id, outcome)

    def health(self) -> Mapping[Term, Term]:
        """How the node is, as health_check answers."""
        return self._health.look(
            time.monotonic(),
            audit=self.audit.state(),
            sandbox=self._pool.sandbox,
            dropped_events=self.host.credit.dropped,
        )

    def cancel(self, key: bytes) -> bool:
        """Cancels the request with this key for somebody who has no wire to be answered on; False when it is over."""
        if self.disk.holds(key):
            self.disk.cancel(key)
            return True
        if not self.scheduler.admission.duplicate(key):
            return False
        self._step(events.CancelAsked(None, key, unheard=True))
        return True

    def _warn(self, line: str) -> None:
        """Tells the host's log, from any thread."""
        self.disk.in_loop(lambda: self._log("warning", line))

    def _log(self, level: str, line: str) -> None:
        self.host.log(level, line.encode())

    # -- what is done

    def _step(self, event: events.Event) -> None:
        self.hands.do(self.scheduler.step(event, time.monotonic()))

    def _leave(self, code: int) -> None:
        self.exit_code = code

    def _pass_on_lines(self, said: workers.WorkerLines) -> None:
        entry = None if said.worker is None else self.scheduler.entry_of(said.worker)
        job = None if entry is None else entry.request.id
        self.host.credit.drop("log", said.dropped)
        for line in said.lines:
            self.host.log(said.level, line, worker=said.worker, job=job, logger=said.logger)

    def _drain_on_signal(self) -> None:
        """A signal drains the node as `:shutdown` does."""
        self._step(events.ShutdownAsked((), self.config.shutdown_grace_s))


def serve(config: NodeConfig, about: About, wire: tuple[int, int], listening: socket.socket | None = None) -> NoReturn:
    """Runs a node that has announced itself on the wire's descriptors, and has a socket where `http` is set; ends the
    process with its exit code."""
    code = EXIT_FAULT
    give_back_large_blocks()
    try:
        node = Node(config, about, *wire, listening)
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
