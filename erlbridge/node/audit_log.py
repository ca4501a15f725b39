"""The audit log's own thread: the node's loop hands records over and never waits for a disk.

A disk that refuses, or does not keep up, costs lines and nothing else. They are counted; the host's log hears of it
once, and the chain tells of them as soon as the disk takes lines again.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from erlbridge.core.audit import ORIGIN, Record, timestamp
from erlbridge.node.audit_files import AuditFiles

_SYNC_INTERVAL_S: Final = 1.0
"""A power cut costs the lines of so long at most. What ends the node alone costs none that was written."""
_BATCH_LINES: Final = 100
"""Lines made at once, 3 ms in which the loop may have to wait for the interpreter."""
_GATHER_S: Final = 0.02
"""How long a first line waits for others. Without that every answer under load hands the interpreter over twice, which
costs as much as the line itself."""
_MOST_WAITING: Final = 10_000
"""Lines that wait for a slow disk, at about 2 kB each; further ones are lost."""
_RETRY_S: Final = 1.0
_CLOSE_S: Final = 5.0
_LAST_SYNC_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Synced:
    """What is on the disk for certain: the chain's length and the SHA-256 of its last line."""

    sequence: int = 0
    head: str = ORIGIN


class AuditLog:
    """Appends records to a chain in the order in which they come.

    Attributes:
        synced: How far the chain is on the disk.
        complaints: What the host's log shall hear, oldest first; the loop takes them away.
    """

    def __init__(self, files: AuditFiles) -> None:
        self.synced = Synced()
        self.complaints: deque[str] = deque(maxlen=16)
        self._files = files
        self._waiting: queue.SimpleQueue[tuple[int, Record] | None] = queue.SimpleQueue()
        # Each of the two is counted by one thread alone.
        self._turned_away = 0
        self._refused = 0
        self._told = 0
        self._lost_since_ns = 0
        self._trouble: Exception | None = None
        self._retry_at = 0.0
        self._sync_at: float | None = None
        self._all_written = threading.Event()
        self._thread = threading.Thread(target=self._run, name="erlbridge-audit", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that were not written: the disk refused them, or was too slow."""
        return self._turned_away + self._refused

    def add(self, record: Record) -> None:
        """Hands over a record of what is so now."""
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put((time.time_ns(), record))
            return
        if self._turned_away == 0:
            self.complaints.append("the disk of the audit log does not keep up; requests go on, lost lines are counted")
        self._turned_away += 1

    def close(self, within_s: float = _CLOSE_S) -> None:
        """Has everything written, and on the disk if that takes no longer than a second more. Gives up in the end: a
        dead disk must not hold the node."""
        self._waiting.put(None)
        if self._all_written.wait(within_s):
            self._thread.join(_LAST_SYNC_S)

    # -- the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            items, closing = self._next()
            if items or self._trouble is not None:
                self._write(items)
            if closing:
                self._all_written.set()
            if self._sync_at is not None and (closing or time.monotonic() >= self._sync_at):
                self._sync()

    def _next(self) -> tuple[deque[tuple[int, Record]], bool]:
        """Some of what waits, nothing when something else is due; and whether it is the last."""
        items: deque[tuple[int, Record]] = deque()
        try:
            item = self._waiting.get(timeout=self._patience_s())
            if item is not None and self._waiting.qsize() < _BATCH_LINES:
                time.sleep(_GATHER_S)
            while item is not None:
                items.append(item)
                if len(items) == _BATCH_LINES:
                    return items, False
                item = self._waiting.get_nowait()
        except queue.Empty:
            return items, False
        return items, True

    def _patience_s(self) -> float | None:
        if self._sync_at is not None:
            return max(0.0, self._sync_at - time.monotonic())
        return _RETRY_S if self._trouble is not None else None

    def _write(self, items: deque[tuple[int, Record]]) -> None:
        """Puts what came, behind what there is to say of lines that were lost."""
        first_ns = items[0][0] if items else time.time_ns()
        if self._trouble is not None and time.monotonic() < self._retry_at:
            self._refused += len(items)
            return
        try:
            if not self._files.is_open:
                self._files.open()
            if (lost := self.lost) > self._told:
                since = timestamp(self._lost_since_ns or first_ns)
                self._files.put(deque([(first_ns, {"event": "lost", "count": lost - self._told, "since": since})]))
                self._told, self._lost_since_ns = lost, 0
            self._files.put(items)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may cost these lines, and not those to come
            self._refused += len(items)
            self._lost_since_ns = self._lost_since_ns or first_ns
            self._fail(error)
        else:
            if self._sync_at is None:
                self._sync_at = time.monotonic() + _SYNC_INTERVAL_S
            if self._trouble is not None:
                self._trouble = None
                self.complaints.append(f"the audit log is written again; {self.lost} lines were lost since the start")

    def _sync(self) -> None:
        self._sync_at = None
        try:
            self._files.sync()
        except OSError as error:
            self._fail(error)
        else:
            self.synced = Synced(self._files.chain.sequence, self._files.chain.head)

    def _fail(self, error: Exception) -> None:
        """The disk refuses: the file is opened again, no sooner than a second from now."""
        if self._trouble is None:
            self.complaints.append(f"the audit log cannot be written: {error}; requests go on, lost lines are counted")
        self._trouble, self._retry_at, self._sync_at = error, time.monotonic() + _RETRY_S, None
        with contextlib.suppress(OSError):  # the descriptor is gone all the same
            self._files.close()
