"""Events under credit: what may go to the host now, what waits folded together, what is dropped and counted.

Answers never pass through here. Knows counts and terms; knows neither pipes nor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from erlbridge.limits import CREDIT, MAX_WAITING_TEXT_BYTES, PROGRESS_CREDIT
from erlbridge.wire.messages import Term, joined
from erlbridge.wire.vocabulary import atom

_Event: TypeAlias = tuple[Term, ...]
_Slot: TypeAlias = tuple[bytes, Term]
"""What an event is of: a job, and the field of a chunk; None for progress."""

KINDS: Final = ("progress", "chunk", "log", "telemetry")
_FIELD: Final = atom("field")
_TEXT: Final = atom("text")


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
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Events by kind that the host never got. Progress in whose place newer went is none of them."""
    held: bool = False
    """Whether nothing may go now, whatever the credit: the host does not take what was sent."""
    _waiting: dict[_Slot, _Event] = field(default_factory=dict)

    def progress(self, key: bytes, event: _Event) -> list[_Event]:
        """A job's progress: sent now, or kept as that job's newest. At most one waits for each job in flight."""
        if self._may_go():
            self.available -= 1
            return [event]
        self._waiting[key, None] = event
        return []

    def chunk(self, key: bytes, event: _Event) -> list[_Event]:
        """A piece of a job's text, as `{:chunk, id, piece}`: sent now, or joined to what waits of its field. What waits
        is sent all the same once it is long; the next credit pays for it."""
        slot = key, _piece(event)[_FIELD]
        if slot not in self._waiting and self._may_go():
            self.available -= 1
            return [event]
        earlier = self._waiting.get(slot)
        whole = event if earlier is None else (*event[:-1], joined(_piece(earlier), _piece(event)))
        if _text_bytes(whole) > MAX_WAITING_TEXT_BYTES:
            self._waiting.pop(slot, None)
            self.available -= 1
            return [whole]
        self._waiting[slot] = whole
        return []

    def droppable(self, event: _Event) -> list[_Event]:
        """A log line or sample: sent now, or dropped and counted. The last of the credit is kept for progress."""
        if self._may_go(PROGRESS_CREDIT):
            self.available -= 1
            return [event]
        self.drop(str(event[0]))
        return []

    def take(self) -> bool:
        """Whether one more chunk of a transfer may go now, which is never dropped; it is paid for with that."""
        if not self._may_go():
            return False
        self.available -= 1
        return True

    def drop(self, kind: str, count: int = 1) -> None:
        """So many events of a kind were dropped, here or before they came here."""
        self.dropped[kind] += count

    def settle(self, key: bytes) -> list[_Event]:
        """The job is about to be answered: its text that still waits, one event for each field, goes before that."""
        if not self._waiting:
            return []
        left = [self._waiting.pop(slot) for slot in self._slots(key) if slot[1] is not None]
        self.available -= len(left)
        return left

    def forget(self, key: bytes) -> None:
        """The job has been answered; what waited for it is void."""
        if self._waiting:
            for slot in self._slots(key):
                del self._waiting[slot]

    def grant(self, count: int) -> list[_Event]:
        """More credit; gives what may go now."""
        self.available = min(self.available + count, 2**31)
        return self._released()

    def hold(self, held: bool) -> list[_Event]:
        """Holds events back, or no longer; gives what may go now."""
        self.held = held
        return self._released()

    def _may_go(self, reserve: int = 0) -> bool:
        return self.available > reserve and not self.held

    def _released(self) -> list[_Event]:
        sent = []
        while self._waiting and self._may_go():
            sent.append(self._waiting.pop(next(iter(self._waiting))))
            self.available -= 1
        return sent

    def _slots(self, key: bytes) -> list[_Slot]:
        return [slot for slot in self._waiting if slot[0] == key]


def _text_bytes(event: _Event) -> int:
    text = _piece(event)[_TEXT]
    return len(text) if isinstance(text, bytes) else 0


def _piece(event: _Event) -> Mapping[Term, Term]:
    piece = event[-1]
    assert isinstance(piece, Mapping)  # noqa: S101 - `messages.chunk` has made it
    return piece
