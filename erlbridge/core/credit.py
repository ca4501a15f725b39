"""Events under credit: what may go to the host now, what waits folded together, what is dropped and counted.

Answers never pass through here. Knows counts and terms; knows neither pipes nor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from erlbridge.limits import CREDIT, PROGRESS_CREDIT
from erlbridge.wire.messages import Term, joined
from erlbridge.wire.vocabulary import atom

_Event: TypeAlias = tuple[Term, ...]
_Slot: TypeAlias = tuple[bytes, Term]
"""What an event is of: a job, and the field of a chunk; None for progress."""


@dataclass(slots=True)
class CreditLine:
    """The host's credit, and what waits for more of it: the newest progress of each job, and the text of each field.

    >>> line = CreditLine(available=1)
    >>> line.progress(b"job", ("10 %",)), line.progress(b"job", ("20 %",)), line.progress(b"job", ("30 %",))
    ([('10 %',)], [], [])
    >>> line.grant(5)
    [('30 %',)]
    """

    available: int = CREDIT
    """Below zero after `settle`: the host's next credit pays for what it has got already."""
    dropped: int = 0
    _waiting: dict[_Slot, _Event] = field(default_factory=dict)

    def progress(self, key: bytes, event: _Event) -> list[_Event]:
        """A job's progress: sent now, or kept as that job's newest. At most one waits for each job in flight."""
        if self.available > 0:
            self.available -= 1
            return [event]
        self._waiting[key, None] = event
        return []

    def chunk(self, key: bytes, event: _Event) -> list[_Event]:
        """A piece of a job's text, as `{:chunk, id, piece}`: sent now, or joined to what waits of its field."""
        if self.available > 0:
            self.available -= 1
            return [event]
        head, piece = event[:-1], _piece(event)
        slot = key, piece[atom("field")]
        earlier = self._waiting.get(slot)
        self._waiting[slot] = event if earlier is None else (*head, joined(_piece(earlier), piece))
        return []

    def droppable(self, event: _Event) -> list[_Event]:
        """A log line or sample: sent now, or dropped and counted. The last of the credit is kept for progress."""
        if self.available > PROGRESS_CREDIT:
            self.available -= 1
            return [event]
        self.dropped += 1
        return []

    def settle(self, key: bytes) -> list[_Event]:
        """The job is about to be answered: its text that still waits, one event for each field, goes before that."""
        left = [self._waiting.pop(slot) for slot in self._slots(key) if slot[1] is not None]
        self.available -= len(left)
        return left

    def forget(self, key: bytes) -> None:
        """The job has been answered; what waited for it is void."""
        for slot in self._slots(key):
            del self._waiting[slot]

    def grant(self, count: int) -> list[_Event]:
        """More credit; gives what may go now."""
        self.available = min(self.available + count, 2**31)
        sent = []
        while self._waiting and self.available > 0:
            sent.append(self._waiting.pop(next(iter(self._waiting))))
            self.available -= 1
        return sent

    def _slots(self, key: bytes) -> list[_Slot]:
        return [slot for slot in self._waiting if slot[0] == key]


def _piece(event: _Event) -> Mapping[Term, Term]:
    piece = event[-1]
    assert isinstance(piece, Mapping)  # noqa: S101 - `messages.chunk` has made it
    return piece
