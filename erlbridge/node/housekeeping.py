"""What a node clears up, each hour: results that are too old, and what `store.gc` finds. On the disk's thread, a moment
at a time, so that no request waits behind all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from erlbridge.errors import BridgeError
from erlbridge.node.disk import Disk
from erlbridge.store.store import Store

if TYPE_CHECKING:
    from erlbridge.store.gc import Removed

_FIRST_S: Final = 60.0
"""A node that is started again and again spends nothing on it."""
_EVERY_S: Final = 3600.0
_MOMENT_S: Final = 0.05


class Housekeeping:
    """Clears up when that is due.

    Args:
        store: What is cleared up.
        dataset_keep_s: How long datasets stay that no job uses; 0 is for ever.
        prune: Drops what is too old of results.
        disk: Whose thread does it.
        say: Told, in the loop, how much went, and what the disk refused.
        now: Seconds that only go up, as `look` gets them.
    """

    def __init__(
        self,
        store: Store,
        dataset_keep_s: float,
        prune: Callable[[], None],
        disk: Disk,
        say: Callable[[str], None],
        *,
        now: float,
    ) -> None:
        self._store = store
        self._keep_s = dataset_keep_s or None
        self._prune = prune
        self._disk = disk
        self._say = say
        self._due_at = now + _FIRST_S
        self._going: Iterator[Removed] | None = None
        self._count = self._bytes = 0

    def look(self, now: float) -> None:
        """Begins to clear up, when that is due and the last time is over."""
        if now >= self._due_at and self._going is None:
            self._due_at = now + _EVERY_S
            self._going = self._collected()
            self._go_on()

    def _go_on(self) -> None:
        self._disk.run("clearing up", self._some, self._heard)

    def _heard(self, outcome: bool | BridgeError) -> None:
        if outcome is False:
            self._go_on()
            return
        self._going = None
        if isinstance(outcome, BridgeError):
            self._say(f"the store was not cleared up: {outcome}")
        if self._count:
            self._say(f"cleared up: {self._count} things that nobody needs, {self._bytes} bytes")
        self._count = self._bytes = 0

    # -- on the thread

    def _some(self) -> bool:
        """Goes on for a moment; gives whether that was all."""
        assert self._going is not None  # noqa: S101 - it is what the thread was asked for
        until = time.monotonic() + _MOMENT_S
        for one in self._going:
            self._count += 1
            self._bytes += one.size_bytes
            if time.monotonic() > until:
                return False
        return True

    def _collected(self) -> Iterator[Removed]:
        if not self._store.data.is_dir():  # which is made when first written to, and not by this
            return
        from erlbridge.store.gc import Policy, collect  # noqa: PLC0415 - the node's start does not wait for it

        self._prune()
        yield from collect(self._store, Policy(datasets_s=self._keep_s))
