"""What the scheduler decides, carried out: workers are forked, sent to and killed, hosts are answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, assert_never

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core import events
from erlbridge.core.scheduler import Scheduler
from erlbridge.node.audit import Audit
from erlbridge.node.host import Host
from erlbridge.node.pool import Pool
from erlbridge.node.watcher import Watcher

_DEADLINE: Final = Atom("deadline")
_TIME: Final = Atom("time")
_TRACE: Final = Atom("trace")


class Hands:
    """Carries actions out on the pool of workers and on the host; `leave` hears the node's exit code."""

    def __init__(
        self,
        scheduler: Scheduler,
        pool: Pool,
        *,
        host: Host,
        audit: Audit,
        watcher: Watcher,
        leave: Callable[[int], None],
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._host = host
        self._audit = audit
        self._watcher = watcher
        self._leave = leave

    def do(self, actions: list[events.Action]) -> None:
        """Does them, in order."""
        for action in actions:
            match action:
                case events.Send():
                    self._send(action)
                case events.Answer(ok=True):
                    self._host.answer(action.id, action.term)
                case events.Answer():
                    self._host.answer_error(action.id, action.term)
                case events.Fork():
                    self._pool.fork(action.worker)
                case events.Allow():
                    self._pool.send(action.worker, term_to_binary((_TIME, action.deadline_ms, action.left_s)))
                case events.Interrupt():
                    self._pool.interrupt(action.worker)
                case events.Trace():
                    self._pool.trace(action.worker)
                case events.Kill():
                    self._pool.kill(action.worker)
                case events.Refuse():
                    self._host.done(action.id)
                    self._host.refuse(action.id, action.failure)
                case events.Ask():
                    if refusal := self._host.ask(action):
                        unsendable = events.Unsendable(action.call_id, refusal)
                        self.do(self._scheduler.step(unsendable, time.monotonic()))
                case events.Release():
                    self._host.release(action.call_id)
                case events.Return():
                    self._pool.give_back(action.worker, action.number, action.outcome)
                case events.Warn():
                    self._host.log("warning", action.message.encode())
                case events.Exit():
                    self._leave(action.code)
                case _:
                    assert_never(action)

    def _send(self, job: events.Send) -> None:
        """Gives a worker a job, behind what it has to know of it."""
        number, entry, frames = job.worker, self._scheduler.entry_of(job.worker), [job.frame]
        if entry and (traceparent := entry.request.meta.traceparent) is not None:
            frames.insert(0, term_to_binary((_TRACE, traceparent)))
        if job.left_s is not None:
            frames.insert(0, term_to_binary((_DEADLINE, job.deadline_ms, job.left_s)))
        self._pool.send(number, *frames)
        if entry:
            self._audit.sent(entry.key, number)
            self._watcher.sent(entry, number)
