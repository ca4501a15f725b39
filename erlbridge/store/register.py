"""What a store notes of the things of one kind: when each was stored and last used. A note costs nobody his work.

Blobs are the truth: what an index that refuses was not told is made up for from them, before the next list is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from erlbridge.store.engine import IndexRefused
from erlbridge.store.index import Entry, Index

Say: TypeAlias = Callable[[str], None]
"""Is told, in a line, of what went wrong and costs no answer."""

_TOUCHED_EVERY_NS: Final = 60 * 10**9
"""How exactly it is known when something was last used: each note is a write."""
_MOST_TOUCHED: Final = 10_000


class Register:
    """The notes of one kind, over its index.

    Args:
        index: Where they are.
        say: Told when a note was refused.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, index: Index, say: Say, clock: Callable[[], int] = time.time_ns) -> None:
        self.index = index
        self.is_behind = True
        """Whether there may be something without a note, or the other way round: somebody has put files there, a node
        was killed between the two, an index refused. So it is at first, until `make_up` is called."""
        self._complained = False
        self._say = say
        self._clock = clock
        self._touched: dict[str, int] = {}

    def stored(self, name: str, size_bytes: int, about: bytes = b"") -> None:
        """Notes that something was stored now; when it was stored first stays."""
        now = self._touch(name)
        self._note(lambda: self.index.put(Entry(name, size_bytes, now, now, about)))

    def used(self, name: str, size_bytes: int) -> None:
        """Notes that something was used now, and that it is there, to within a minute."""
        now = self._clock()
        if now - self._touched.get(name, 0) < _TOUCHED_EVERY_NS:
            return
        self._touch(name)

        def touch() -> None:
            entry = self.index.get(name)
            if entry is None:
                self.index.put(Entry(name, size_bytes, now, now))
            elif entry.used_at_ns < now - _TOUCHED_EVERY_NS:
                self.index.used(name, now)

        self._note(touch)

    def described(self, name: str, about: bytes) -> None:
        """Notes what something is, where that was not known."""
        self._note(lambda: self.index.describe(name, about))

    def dropped(self, name: str) -> None:
        """Notes that something is gone."""
        self._touched.pop(name, None)
        self._note(lambda: self.index.drop(name))

    def damaged(self, name: str, aside: str) -> None:
        """Says that something was damaged and what it is called now, and notes that it is gone."""
        self._say(f"the {self.index.kind} {name} was damaged, and is set aside as {aside}")
        self.dropped(name)

    def make_up(self, found: Iterable[Entry]) -> tuple[int, int]:
        """Notes what is there without a note, and forgets what is not; gives how many of each. Raises `OSError`.

        What was stored or deleted meanwhile is left to the next time.
        """
        begun = self._clock()
        known = self.index.names()
        there = {entry.name: entry for entry in found}
        missing = [entry for name, entry in there.items() if name not in known]
        self.index.add_all(missing)
        dropped = sum(self.index.drop(name, unused_since_ns=begun) for name in known - there.keys())
        self.is_behind = self._complained = False
        return len(missing), dropped

    def newest(
        self, found: Callable[[], Iterable[Entry]], limit: int, after: tuple[int, str] | None = None
    ) -> list[Entry]:
        """The newest of what is there, or those that come behind a place in that list: time and name. An index that
        refuses, as on a disk that may not be written, costs the list its speed alone."""
        try:
            if self.is_behind:
                self.make_up(found())
            return self.index.newest(limit, after)
        except IndexRefused:
            import heapq  # noqa: PLC0415 - seldom needed

            place = None if after is None else (-after[0], after[1])
            behind = (entry for entry in found() if place is None or _order(entry) > place)
            return heapq.nsmallest(limit, behind, key=_order)

    def _touch(self, name: str) -> int:
        if len(self._touched) >= _MOST_TOUCHED:
            self._touched.clear()
        now = self._touched[name] = self._clock()
        return now

    def _note(self, note: Callable[[], object]) -> None:
        try:
            note()
        except IndexRefused as error:
            if not self._complained:
                self._say(f"the index of what is stored is behind with {self.index.kind}s for now: {error}")
            self.is_behind = self._complained = True


def _order(entry: Entry) -> tuple[int, str]:
    return -entry.stored_at_ns, entry.name
