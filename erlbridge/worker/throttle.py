"""Which progress is worth a frame: the first and last of a stage, and between them one every so often."""

from __future__ import annotations

import threading
import time

from erlbridge.core.jobs import Progress
from erlbridge.limits import PROGRESS_INTERVAL_S


class Throttle:
    """Lets a job's progress pass at most every `interval_s`, but never holds back a new stage or a finished one.

    What is said in words has an interval of its own: why a job waits is told before it waits, not after.
    """

    def __init__(self, interval_s: float = PROGRESS_INTERVAL_S) -> None:
        self.interval_s = interval_s
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._passed_at = 0.0
        self._said_at = 0.0

    def lets_pass(self, state: Progress) -> bool:
        """Whether to send this one; safe from any thread."""
        now = time.monotonic()
        with self._lock:
            due = now - (self._passed_at if state.message is None else self._said_at) >= self.interval_s
            if state.stage == self._stage and state.done != state.total and not due:
                return False
            self._stage, self._passed_at = state.stage, now
            if state.message is not None:
                self._said_at = now
            return True

    def reset(self) -> None:
        """A new job begins."""
        with self._lock:
            self._stage = None
