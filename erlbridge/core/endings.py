"""How jobs end that do not end by themselves: deadlines, cancels, limits, stalls and deaths, each in its order.

- A passed deadline: the worker's stack is asked for, the job answered with it (or without, after `TRACE_GRACE_S`), and
  the worker told to stop. A job that ends in between is answered with its own outcome.
- A worker that was told to stop and has not (`CANCEL_GRACE_S`), or is stalled: its stack, then the kill.
- A hard limit: the kill at once. A soft one: the worker is replaced when its job is done.
- A death: the job is told what was seen of it and why, or, when nobody reports the death, that.

Knows workers, their jobs and times; knows no queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from erlbridge.core.calls import OpenCalls
from erlbridge.core.events import Action, Died, Interrupt, LimitPassed, Refuse, Stalled, Trace, Traced, Warn
from erlbridge.core.queue import Entry
from erlbridge.core.quotas import Quotas
from erlbridge.core.roster import Roster, Worker
from erlbridge.core.verdicts import (
    DID_NOT_STOP,
    crash,
    did_not_boot,
    end_of,
    over_limit,
    stalled,
    too_late,
    unseen_death,
)
from erlbridge.errors import BridgeError
from erlbridge.limits import CANCEL_GRACE_S, MAX_STACK_CHARACTERS, TRACE_GRACE_S


@dataclass(slots=True)
class Endings:
    """Ends jobs on the scheduler's own roster, quotas and calls. `answer` gives all who wait for a job their one
    answer, an error."""

    roster: Roster
    quotas: Quotas
    calls: OpenCalls
    answer: Callable[[Entry, BridgeError], list[Refuse]]

    # -- what happens

    def pass_deadline(self, entry: Entry, now: float) -> Iterator[Action]:
        """The deadline of a job that a worker runs has passed."""
        assert entry.worker is not None  # noqa: S101 - what waits is answered by whoever holds the queue
        worker = self.roster.workers[entry.worker]
        entry.late = True
        if worker.killed:
            yield from self._answer_late(worker)
        else:
            yield from self._trace(worker, now)

    def interrupt(self, worker: Worker, now: float) -> Iterator[Action]:
        """The worker is to stop its job, which nobody wants any more, and has a while to do so."""
        if worker.entry is not None:
            self.calls.end(worker.entry.key)
        if worker.state == "busy":
            worker.kill_at = now + CANCEL_GRACE_S
            worker.state = "cancelling"
            yield Interrupt(worker.number)

    def hear_stack(self, event: Traced, now: float) -> Iterator[Action]:
        """A worker's stack is there; one that comes too late is of no use."""
        worker = self.roster.workers.get(event.worker)
        if worker is not None and worker.trace_until is not None:
            worker.stack = event.stack[:MAX_STACK_CHARACTERS]
            yield from self._go_on(worker, now)

    def hold_to_limit(self, event: LimitPassed, now: float) -> Iterator[Action]:
        """A worker uses more than it may."""
        worker = self.roster.workers.get(event.worker)
        if worker is None or worker.killed:
            return
        found = over_limit(event)
        if event.kind == "hard":
            worker.verdict = found
            yield from self._kill(worker, now)
        elif worker.jobs and not worker.worn:  # another one that has had no job yet would use as much
            worker.worn = True
            yield Warn(f"worker {worker.number} is replaced when its job is done: {found.text} (the soft one)")

    def end_stalled(self, event: Stalled, now: float) -> Iterator[Action]:
        """A worker's job shows no sign of life."""
        worker = self.roster.workers.get(event.worker)
        if worker is not None and worker.entry is not None and not worker.killed and worker.verdict is None:
            worker.verdict = stalled(event.seconds)
            yield from self._trace(worker, now)

    def bury(self, event: Died) -> Iterator[Action]:
        """A worker is gone, or taken for gone."""
        worker = self.roster.bury(event.worker)
        if worker is None:
            return
        death = crash(event.cause, worker.verdict, worker.stack)
        entry = worker.entry
        if entry is None:
            self.roster.last_death = death
            return
        self.quotas.give(entry.quotas)
        if not entry.answered:
            yield from self.answer(entry, end_of(entry, death))

    # -- what time brings

    def look_after(self, now: float) -> Iterator[Action]:
        """Does what is due about any worker."""
        for worker in list(self.roster.workers.values()):
            while (change := worker.next_change()) is not None and change <= now:
                if worker.killed:
                    yield from self.bury(Died(worker.number, unseen_death(worker.number, worker.os_pid)))
                    break
                yield from self._change(worker, now)

    def _change(self, worker: Worker, now: float) -> Iterator[Action]:
        if worker.state == "starting":
            worker.verdict = did_not_boot(self.roster.boot_timeout_s)
            self.roster.last_death = crash(unseen_death(worker.number, worker.os_pid), worker.verdict, "")
            yield from self._kill(worker, now)
            yield Warn(f"worker {worker.number} was killed: {worker.verdict.text}")
        elif worker.trace_until is not None and worker.trace_until <= now:
            yield from self._go_on(worker, now)
        else:
            worker.kill_at = None
            worker.verdict = worker.verdict or DID_NOT_STOP
            if worker.entry is None or worker.entry.answered:  # nobody would read its stack
                yield from self._kill(worker, now)
            else:
                yield from self._trace(worker, now)

    # -- what is done

    def _trace(self, worker: Worker, now: float) -> Iterator[Action]:
        """Asks for the stack of a worker that is late or to be killed; `_go_on` comes next, with or without it."""
        if worker.trace_until is None:
            worker.trace_until = now + TRACE_GRACE_S
            yield Trace(worker.number)

    def _go_on(self, worker: Worker, now: float) -> Iterator[Action]:
        worker.trace_until = None
        if worker.verdict is not None:
            yield from self._kill(worker, now)
        else:
            yield from self._answer_late(worker)
            yield from self.interrupt(worker, now)

    def _kill(self, worker: Worker, now: float) -> Iterator[Action]:
        yield from self.roster.kill(worker, now)
        yield from self._answer_late(worker)

    def _answer_late(self, worker: Worker) -> Iterator[Action]:
        """A job whose deadline has passed waits for nothing any more."""
        entry = worker.entry
        if entry is not None and entry.late and not entry.answered:
            yield from self.answer(entry, too_late(entry, worker.stack))
