"""The node's way out: who has asked for it, until when work may go on, and what they hear once it is over.

Knows points in time and the ids of those who asked; knows no job. Who ends the jobs is `core.scheduler`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from erlbridge.core.events import Action, Answer, Exit, Refuse, ShutdownAsked
from erlbridge.errors import Overloaded
from erlbridge.limits import MAX_SHUTDOWNS
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys


@dataclass(slots=True)
class Shutdown:
    """Nothing yet, then asked for, then over.

    Attributes:
        at: When the node stops whatever is unfinished, in seconds; None while nobody has asked.
        exit_code: With what the node has ended; None while it goes on.

    >>> shutdown = Shutdown()
    >>> list(shutdown.ask(ShutdownAsked(ids=(7,), keys=(b"7",), grace_s=2.0), now=1.0))
    []
    >>> shutdown.at, shutdown.awaited(b"7"), shutdown.due(1.5, idle=False), shutdown.due(1.5, idle=True)
    (3.0, True, False, True)
    """

    at: float | None = None
    exit_code: int | None = None
    _ids: list[Term] = field(default_factory=list)
    _keys: set[bytes] = field(default_factory=set)

    @property
    def asked(self) -> bool:
        """Whether the node is to stop."""
        return self.at is not None

    @property
    def over(self) -> bool:
        """Whether it has."""
        return self.exit_code is not None

    def awaited(self, key: bytes) -> bool:
        """Whether the request with this key has asked for the end and not heard of it yet."""
        return key in self._keys

    def due(self, now: float, *, idle: bool) -> bool:
        """Whether the node stops now; `idle` when no request is in flight."""
        return self.at is not None and (idle or now >= self.at)

    def ask(self, event: ShutdownAsked, now: float) -> Iterator[Action]:
        """Somebody asks for the end: the earliest that anybody has asked for counts."""
        if self.over:
            yield from _stopped(event.ids, 0)
            return
        if event.ids and len(self._ids) >= MAX_SHUTDOWNS:
            failure = Overloaded(f"{len(self._ids)} shutdowns wait for the end already, limit {MAX_SHUTDOWNS}")
            for request_id in event.ids:
                yield Refuse(request_id, failure)
            return
        at = now + event.grace_s
        self.at = at if self.at is None else min(self.at, at)
        self._ids += event.ids
        self._keys.update(event.keys)

    def end(self, code: int, unfinished: int) -> list[Action]:
        """The node ends with this code; all who asked for it hear how many requests were unfinished."""
        self.exit_code = code
        told: list[Action] = [*_stopped(self._ids, unfinished), Exit(code)]
        self._ids.clear()
        self._keys.clear()
        return told


def _stopped(ids: Iterable[Term], unfinished: int) -> Iterator[Answer]:
    for request_id in ids:
        yield Answer(request_id, True, atom_keys({"status": atom("stopped"), "unfinished": unfinished}))
