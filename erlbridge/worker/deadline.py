"""When a worker's job shall stop by itself: shortly before its deadline, so that its answer arrives in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from erlbridge.errors import BridgeError, DeadlineExceeded
from erlbridge.limits import MAX_STOP_MARGIN_S


@dataclass(frozen=True, slots=True)
class _Time:
    deadline_ms: int
    stop_at: float


class Deadline:
    """The time of the job that runs. `when_near` is called once, when no time is left: a job that waits for somebody
    else makes no model call at which it could notice. Whoever reads the wire, which each of these times comes over,
    asks for `left_s` and then to `look`: a timer's thread for each job would cost more than many a job."""

    def __init__(self, when_near: Callable[[BridgeError], None]) -> None:
        self._when_near = when_near
        self._lock = threading.Lock()
        self._next: _Time | None = None
        self._now: _Time | None = None
        self._told = False
        self._running = False

    def of_next(self, deadline_ms: int, left_s: float) -> None:
        """The next job has so much left of its deadline."""
        self._next = _time(deadline_ms, left_s)

    def begin(self) -> None:
        """That job begins."""
        with self._lock:
            self._running = True
            self._now, self._next, self._told = self._next, None, False

    def of_this(self, deadline_ms: int | None, left_s: float | None) -> None:
        """The job that runs has so much left from now on, None for no deadline: others wait for it than did before. A
        job that has just ended needs to know no more."""
        with self._lock:
            if self._running:
                self._now = None if deadline_ms is None or left_s is None else _time(deadline_ms, left_s)
                self._told = False

    def end(self) -> None:
        """The job is over; nobody is told of its deadline any more."""
        with self._lock:
            self._running = False
            self._now = None

    def reason(self) -> BridgeError | None:
        """Why the job shall stop, None while there is time."""
        now = self._now
        if now is None or time.monotonic() < now.stop_at:
            return None
        return DeadlineExceeded("no time is left before the deadline", context={"deadline_ms": now.deadline_ms})

    def left_s(self) -> float | None:
        """When to `look`, in seconds from now; None when only the wire can bring that."""
        now = self._now
        return None if now is None or self._told else max(0.0, now.stop_at - time.monotonic())

    def look(self) -> None:
        """Tells that no time is left, where that is so."""
        with self._lock:  # so that the job which it is about cannot end in between
            if not self._told and (reason := self.reason()) is not None:
                self._told = True
                self._when_near(reason)


def _time(deadline_ms: int, left_s: float) -> _Time:
    margin_s = min(MAX_STOP_MARGIN_S, left_s / 10)
    return _Time(deadline_ms, time.monotonic() + left_s - margin_s)
