"""What blocks on the disk, done by a thread of its own, in the order in which it came: the loop waits for none of it.

Knows requests and what to call for them; knows no verb.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from erlbridge.errors import BridgeError, InternalError, Overloaded, ShuttingDown
from erlbridge.limits import MAX_TRANSFER_WINDOW, MAX_WAITING_CHUNK_BYTES, MAX_WAITING_DISK_REQUESTS
from erlbridge.store.failures import storage_failed
from erlbridge.wire.messages import Term

Work: TypeAlias = Callable[[], Term]
"""What a request asks of the disk. Raises the `BridgeError` that is its answer, or `OSError`."""

_WAKE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Errand:
    """What a request asks of the disk, how many bytes that holds, and in which lane: of those in one no more than
    `MAX_TRANSFER_WINDOW` may wait."""

    work: Work
    size_bytes: int = 0
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    key: bytes
    id: Term
    verb: str
    work: Work
    size_bytes: int
    lane: str | None


class Disk:
    """Answers requests that need the disk.

    Args:
        selector: Calls back when answers are there.
        answer: Called in the loop, once for each request, with its id and its result or error.
    """

    def __init__(self, selector: selectors.BaseSelector, answer: Callable[[Term, Term | BridgeError], None]) -> None:
        self._selector = selector
        self._answer = answer
        self._tasks: dict[bytes, _Task] = {}
        self._waiting_bytes = 0
        self._lanes: Counter[str] = Counter()
        self._todo: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._done: deque[tuple[_Task, Term | BridgeError]] = deque()
        self._wake: tuple[int, int] | None = None

    def holds(self, key: bytes) -> bool:
        """Whether the request with this key waits for the disk."""
        return key in self._tasks

    @property
    def lanes(self) -> int:
        """In how many lanes requests wait."""
        return len(self._lanes)

    def put(self, key: bytes, request_id: Term, verb: str, errand: Errand) -> None:
        """Takes a request. Raises `Overloaded` when too many wait."""
        size_bytes, lane = errand.size_bytes, errand.lane
        if lane is not None and self._lanes[lane] >= MAX_TRANSFER_WINDOW:
            raise Overloaded(
                f"{MAX_TRANSFER_WINDOW} chunks of this transfer wait for the disk; send no more than `window` beyond what "
                "is acknowledged",
                context={"waiting": self._lanes[lane], "limit": MAX_TRANSFER_WINDOW},
                retry_after_ms=100,
            )
        if self._tasks and (
            self._waiting_bytes + size_bytes > MAX_WAITING_CHUNK_BYTES or len(self._tasks) >= MAX_WAITING_DISK_REQUESTS
        ):
            raise Overloaded(
                f"{len(self._tasks)} requests of {self._waiting_bytes} bytes wait for the disk; send fewer at once",
                context={"waiting": len(self._tasks), "limit": MAX_WAITING_CHUNK_BYTES},
                retry_after_ms=100,
            )
        if self._wake is None:
            self._start()
        task = self._tasks[key] = _Task(key, request_id, verb, errand.work, size_bytes, lane)
        if lane is not None:
            self._lanes[lane] += 1
        self._waiting_bytes += size_bytes
        self._todo.put(task)

    def finish(self, within_s: float) -> None:
        """Answers all that waits, for at most so long, and tells the rest that the node ends."""
        deadline = time.monotonic() + within_s
        while self._tasks and (left_s := deadline - time.monotonic()) > 0:
            with selectors.PollSelector() as alone:
                assert self._wake is not None  # noqa: S101 - it was started for the first of them
                alone.register(self._wake[0], selectors.EVENT_READ)
                alone.select(left_s)
            self._tell()
        for task in list(self._tasks.values()):
            self._over(task, ShuttingDown("the node shut down before the disk was done with it"))

    def _start(self) -> None:
        wake = self._wake = os.pipe()
        for end in wake:
            os.set_blocking(end, False)
        self._selector.register(wake[0], selectors.EVENT_READ, lambda _events: self._tell())
        threading.Thread(target=self._run, args=(wake[1],), name="erlbridge-disk", daemon=True).start()

    def _tell(self) -> None:
        assert self._wake is not None  # noqa: S101 - what is registered there has been started
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake[0], _WAKE_BYTES)
        while self._done:
            self._over(*self._done.popleft())

    def _over(self, task: _Task, outcome: Term | BridgeError) -> None:
        del self._tasks[task.key]
        self._waiting_bytes -= task.size_bytes
        if task.lane is not None:
            self._lanes[task.lane] -= 1
            if not self._lanes[task.lane]:
                del self._lanes[task.lane]
        self._answer(task.id, outcome)

    # -- the thread

    def _run(self, wake: int) -> None:
        while True:
            task = self._todo.get()
            self._done.append((task, _outcome(task)))
            with contextlib.suppress(BlockingIOError):  # the loop has enough to wake up for
                os.write(wake, b"\0")


def _outcome(task: _Task) -> Term | BridgeError:
    try:
        return task.work()
    except BridgeError as error:
        return error.with_traceback(None)  # whose frames hold the chunk
    except OSError as error:
        return storage_failed(f"{task.verb} was refused by the disk", error)
    except Exception as error:  # noqa: BLE001 - a fault of ours is one request's
        return InternalError(f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
