"""The calls of Elixir functions that jobs wait for: under which id the host was asked, and what ends each of them.

A value that the scheduler keeps and steps; no clock, process or descriptor. A call ends with its result, its timeout or
its job, whichever comes first; what comes later is counted and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from erlbridge.core.deadlines import Deadlines
from erlbridge.core.events import Ask, Called, Release, Return, Returned, Warn
from erlbridge.core.functions import call_failed, refused, returned
from erlbridge.errors import Overloaded
from erlbridge.limits import MAX_OPEN_CALLS, MAX_OPEN_CALLS_OF_JOB
from erlbridge.wire.messages import Term
from erlbridge.wire.place import shown


@dataclass(frozen=True, slots=True)
class OpenCall:
    """One call that the host has been asked and has not answered. `job` is the key of its request."""

    job: bytes
    event: Called


@dataclass(slots=True)
class OpenCalls:
    """The open calls of a node by call id, an integer that is never used twice.

    Attributes:
        late: Results that came after their call had ended.
        unknown: Results for ids that the node never gave.

    >>> calls = OpenCalls()
    >>> list(calls.open(b"job", "request", Called(1, 7, b"double", [21]), now=0.0))
    [Ask(call_id=1, id='request', name=b'double', arguments=[21])]
    >>> list(calls.close(Returned(1, True, 42)))
    [Return(worker=1, number=7, outcome=(Atom('ok'), 42))]
    >>> list(calls.close(Returned(1, True, 42))), calls.late
    ([], 1)
    """

    max_of_job: int = MAX_OPEN_CALLS_OF_JOB
    max_of_node: int = MAX_OPEN_CALLS
    late: int = 0
    unknown: int = 0
    _open: dict[int, OpenCall] = field(default_factory=dict)
    _of_job: Counter[bytes] = field(default_factory=Counter)
    _deadlines: Deadlines[int] = field(default_factory=Deadlines)
    _last_id: int = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, job: bytes, request_id: Term, event: Called, now: float) -> Iterator[Ask | Return]:
        """A job calls: the host is asked, or the job hears at once that too many of its calls are open."""
        for what, count, limit in (
            ("this job", self._of_job[job], self.max_of_job),
            ("the node", len(self._open), self.max_of_node),
        ):
            if count >= limit:
                failure = Overloaded(
                    f"{count} calls of Elixir functions are open in {what}, limit {limit}; lower num_threads",
                    context={"limit": limit},
                )
                yield Return(event.worker, event.number, refused(failure))
                return
        self._last_id += 1
        if event.timeout_ms is not None:
            self._deadlines.set(self._last_id, now + event.timeout_ms / 1000)
        self._open[self._last_id] = OpenCall(job, event)
        self._of_job[job] += 1
        yield Ask(self._last_id, request_id, event.name, event.arguments)

    def close(self, event: Returned) -> Iterator[Return | Warn]:
        """The host has answered: the value goes to the worker that waits for it, and to no other."""
        call = self._take(event.call_id)
        if call is not None:
            yield Return(call.event.worker, call.event.number, returned(event.ok, event.term))
        elif self._was_given(event.call_id):
            self.late += 1
        else:
            self.unknown += 1
            if self.unknown == 1:
                yield Warn(
                    f"a result for the call {shown(event.call_id)}, which this node never made, was dropped; "
                    "further ones are only counted"
                )

    def refuse(self, call_id: int, outcome: Term) -> Iterator[Return]:
        """The host could not be asked after all; `outcome` is what the job hears instead."""
        if (call := self._take(call_id)) is not None:
            yield Return(call.event.worker, call.event.number, outcome)

    def expire(self, now: float) -> Iterator[Return | Release]:
        """Ends the calls whose own timeout has passed. Their jobs may go on, so the host is told not to."""
        for number in self._deadlines.due(now):
            event = self._open[number].event
            failure = call_failed(event.name, f"gave no result within {event.timeout_ms} ms (config.call_timeout_ms)")
            yield from self.refuse(number, refused(failure))
            yield Release(number)

    def move(self, job: bytes, heir: bytes, request_id: Term) -> Iterator[Ask]:
        """The job belongs to another request now. The host has dropped what it was asked for the old one: it is asked
        anew, with what is left of each call's time."""
        for number in [number for number, call in self._open.items() if call.job == job]:
            event = self._open.pop(number).event
            self._last_id += 1
            self._open[self._last_id] = OpenCall(heir, event)
            if (at := self._deadlines.drop(number)) is not None:
                self._deadlines.set(self._last_id, at)
            yield Ask(self._last_id, request_id, event.name, event.arguments)
        if count := self._of_job.pop(job, 0):
            self._of_job[heir] = count

    def end(self, job: bytes) -> None:
        """The job has been answered or interrupted; nobody waits for its calls any more."""
        if job not in self._of_job:
            return
        if self._of_job[job]:
            for number in [number for number, call in self._open.items() if call.job == job]:
                self._take(number)
        del self._of_job[job]

    def waits(self, job: bytes) -> bool:
        """Whether the job waits for an Elixir function."""
        return self._of_job[job] > 0

    def next_deadline(self) -> float | None:
        """When the next call times out; None when none does."""
        return self._deadlines.next()

    def _take(self, call_id: Term) -> OpenCall | None:
        # A bool is an integer to Python, and no id to us.
        call = self._open.pop(call_id, None) if type(call_id) is int else None
        if call is not None and type(call_id) is int:
            self._of_job[call.job] -= 1
            self._deadlines.drop(call_id)
        return call

    def _was_given(self, call_id: Term) -> bool:
        return type(call_id) is int and 1 <= call_id <= self._last_id
