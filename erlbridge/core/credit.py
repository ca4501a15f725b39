"""Events under credit: what may go to the host now, what waits folded together, what is dropped and counted.

Answers never pass through here. Knows counts and terms; knows neither pipes nor time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from erlbridge.limits import CREDIT, PROGRESS_CREDIT
from erlbridge.wire.messages import Term

_Event: TypeAlias = tuple[Term, ...]


@dataclass(slots=True)
class CreditLine:
    """The host's credit and the progress that waits for more of it, the newest of each job.

    >>> line = CreditLine(available=1)
    >>> line.progress(b"job", ("10 %",)), line.progress(b"job", ("20 %",)), line.progress(b"job", ("30 %",))
    ([('10 %',)], [], [])
    >>> line.grant(5)
    [('30 %',)]
    """

    available: int = CREDIT
    dropped: int = 0
    _waiting: dict[bytes, _Event] = field(default_factory=dict)

    def progress(self, key: bytes, event: _Event) -> list[_Event]:
        """A job's progress: sent now, or kept as that job's newest. At most one waits for each job in flight."""
        if self.available:
            self.available -= 1
            return [event]
        self._waiting[key] = event
        return []

    def droppable(self, event: _Event) -> list[_Event]:
        """A log line or sample: sent now, or dropped and counted. The last of the credit is kept for progress."""
        if self.available > PROGRESS_CREDIT:
            self.available -= 1
            return [event]
        self.dropped += 1
        return []

    def forget(self, key: bytes) -> None:
        """The job has been answered; what waited for it is void."""
        self._waiting.pop(key, None)

    def grant(self, count: int) -> list[_Event]:
        """More credit; gives what may go now."""
        self.available = min(self.available + count, 2**31)
        sent = []
        while self._waiting and self.available:
            sent.append(self._waiting.pop(next(iter(self._waiting))))
            self.available -= 1
        return sent
