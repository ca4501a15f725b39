"""What a node clears up in its store, each hour: `store.gc` in a thread of its own, so that no request waits for it."""

from __future__ import annotations

import threading
from typing import Final

from erlbridge.store.store import Store

_FIRST_S: Final = 60.0
"""A node that is started again and again spends nothing on it."""
_EVERY_S: Final = 3600.0


class Housekeeping:
    """Clears up when that is due.

    Args:
        store: Told, by `say`, how much went, and what the disk refuses.
        dataset_keep_s: How long datasets stay that no job uses; 0 is for ever.
        now: Seconds that only go up.
    """

    def __init__(self, store: Store, dataset_keep_s: float, now: float) -> None:
        self._store = store
        self._keep_s = dataset_keep_s or None
        self._due_at = now + _FIRST_S
        self._thread: threading.Thread | None = None

    def look(self, now: float) -> None:
        """Begins to clear up, when that is due and the last time is over."""
        if now < self._due_at or (self._thread is not None and self._thread.is_alive()):
            return
        self._due_at = now + _EVERY_S
        self._thread = threading.Thread(target=self.clear_up, name="erlbridge-gc", daemon=True)
        self._thread.start()

    def clear_up(self) -> None:
        """Does it now. Any thread may; raises nothing that a disk says."""
        if not self._store.data.is_dir():  # which is made when first written to, and not by this
            return
        from erlbridge.store.gc import Policy, collect  # noqa: PLC0415 - the node's start does not wait for it

        try:
            sizes = [one.size_bytes for one in collect(self._store, Policy(datasets_s=self._keep_s))]
        except OSError as error:
            self._store.say(f"the store was not cleared up: {error}")
            return
        if sizes:
            self._store.say(f"cleared up in the store: {len(sizes)} things, {sum(sizes)} bytes that nobody used")
