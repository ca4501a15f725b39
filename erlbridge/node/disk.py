"""What blocks on the disk, done by a thread of its own, in the order in which it came: the loop waits for none of it.

Knows requests and what to call for them; knows no verb.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import selectors
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from erlbridge.core.deadlines import Deadlines
from erlbridge.errors import BridgeError, Cancelled, DeadlineExceeded, InternalError, Overloaded, ShuttingDown
from erlbridge.limits import MAX_TRANSFER_WINDOW, MAX_WAITING_CHUNK_BYTES, MAX_WAITING_DISK_REQUESTS
from erlbridge.node.heap import Burst
from erlbridge.store.failures import storage_failed
from erlbridge.wire.messages import Term

Work: TypeAlias = Callable[[], Term]
"""What a request asks of the disk. Raises the `BridgeError` that is its answer, or `OSError`."""

Result = TypeVar("Result")

_WAKE_BYTES: Final = 4096
_MOST_AHEAD: Final = MAX_TRANSFER_WINDOW
"""Requests that the thread has at once: enough that it never waits for the loop, and what their answers take at most
before a host that does not read is seen to be one."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a request asks of the disk, how many bytes that holds, and in which lane: of those in one no more than
    `MAX_TRANSFER_WINDOW` may wait."""

    work: Work
    size_bytes: int = 0
    lane: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """`what` names the work in errors; `key` is that of the request which is answered by it, `deadline_ms` its time."""

    what: str
    work: Callable[[], Any]
    then: Callable[[Any], None]
    key: bytes | None = None
    size_bytes: int = 0
    lane: str | None = None
    deadline_ms: int | None = None


class Disk:
    """The thread, and what it is asked for.

    Args:
        selector: Calls back when the disk has done something.
        answer: Called in the loop, once for each request that was `put`, with its id and its result or error.
    """

    def __init__(self, selector: selectors.BaseSelector, answer: Callable[[Term, Term | BridgeError], None]) -> None:
        self._selector = selector
        self._answer = answer
        self._open: dict[_Task, None] = {}
        self._keys: dict[bytes, _Task] = {}
        self._deadlines: Deadlines[bytes] = Deadlines()
        self._waiting = self._waiting_bytes = 0
        """What lies before the thread of requests, also of those that have been answered meanwhile."""
        self._lanes: Counter[str] = Counter()
        self._burst = Burst()
        self._later: deque[_Task] = deque()
        self._ahead = 0
        """Requests that the thread has, or has done and the loop has not heard of."""
        self._held = False
        self._todo: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def holds(self, key: bytes) -> bool:
        """Whether the request with this key waits for the disk alone."""
        return key in self._keys

    @property
    def busy(self) -> bool:
        """Whether the thread has something to do, or is about to."""
        return bool(self._open)

    @property
    def lanes(self) -> int:
        """In how many lanes requests wait."""
        return len(self._lanes)

    def put(self, key: bytes, request_id: Term, verb: str, errand: Errand, deadline_ms: int | None = None) -> None:
        """Takes a request, which has so long from now on. Raises `Overloaded` when too many wait."""
        size_bytes, lane = errand.size_bytes, errand.lane
        if lane is not None and self._lanes[lane] >= MAX_TRANSFER_WINDOW:
            raise Overloaded(
                f"{MAX_TRANSFER_WINDOW} chunks of this transfer wait for the disk; send no more than `window` behind "
                "those that are acknowledged",
                context={"waiting": self._lanes[lane], "limit": MAX_TRANSFER_WINDOW},
                retry_after_ms=100,
            )
        if self._waiting and (
            self._waiting_bytes + size_bytes > MAX_WAITING_CHUNK_BYTES or self._waiting >= MAX_WAITING_DISK_REQUESTS
        ):
            raise Overloaded(
                f"{self._waiting} requests of {self._waiting_bytes} bytes wait for the disk; send fewer at once",
                context={"waiting": self._waiting, "limit": MAX_WAITING_CHUNK_BYTES},
                retry_after_ms=100,
            )
        if lane is not None:
            self._lanes[lane] += 1
            self._burst.begin()
        self._waiting += 1
        self._waiting_bytes += size_bytes

        def answer(outcome: Term | BridgeError) -> None:
            self._answer(request_id, outcome)

        task = self._keys[key] = _Task(verb, errand.work, answer, key, size_bytes, lane, deadline_ms)
        if deadline_ms is not None:
            self._deadlines.set(key, time.monotonic() + deadline_ms / 1000)
        self._open[task] = None
        self._later.append(task)
        self._go_on()

    def hold(self, held: bool) -> None:
        """Begins with no further request, or goes on: a host that does not read shall not have its answers made."""
        if self._held != held:
            self._held = held
            self._go_on()

    def _go_on(self) -> None:
        while self._later and not self._held and self._ahead < _MOST_AHEAD:
            self._ahead += 1
            self._take(self._later.popleft())

    def cancel(self, key: bytes) -> None:
        """Nobody wants the answer of a request any more, which `holds`; what the thread has not begun is not done."""
        self._over(self._keys[key], Cancelled("cancelled while it waited for the disk"))

    def due_at(self) -> float | None:
        """When `look` has something to do; None when no request with a deadline waits."""
        return self._deadlines.next()

    def look(self, now: float) -> None:
        """Answers requests whose deadline has passed."""
        for key in self._deadlines.due(now):
            task = self._keys[key]
            text, context = "the deadline passed while it waited for the disk", {"deadline_ms": task.deadline_ms}
            self._over(task, DeadlineExceeded(text, context=context))

    def run(self, what: str, work: Callable[[], Result], then: Callable[[Result | BridgeError], None]) -> None:
        """Has the thread do something behind all that waits there; `then` hears in the loop what came of it.

        It is always taken, since the node needs it: whoever calls this has so much open at most (a task for each held
        request, for each worker that has finished, one of the housekeeping)."""
        task = _Task(what, work, then)
        self._open[task] = None
        self._take(task)

    def run_if_room(self, what: str, work: Callable[[], Result], then: Callable[[Result | BridgeError], None]) -> None:
        """The same for what can be left out and comes again while the disk hangs: `then` hears of an `Overloaded` at
        once where too much waits."""
        if (waiting := len(self._open)) >= MAX_WAITING_DISK_REQUESTS:
            context = {"waiting": waiting, "limit": MAX_WAITING_DISK_REQUESTS}
            then(Overloaded(f"{waiting} tasks wait for the disk", context=context, retry_after_ms=1000))
        else:
            self.run(what, work, then)

    def in_loop(self, call: Callable[[], None]) -> None:
        """Has the loop do what work on the thread asks of it; at once, where the loop itself asks."""
        if threading.current_thread() is self._thread:
            self._done.append(call)
            self._awaken()
        else:
            call()

    def rest(self) -> None:
        """Gives memory back when nothing waits. Called now and then."""
        if not self._waiting:
            self._burst.end()

    def finish(self, within_s: float) -> None:
        """Does all that waits, for at most so long, and tells the rest that the node ends."""
        deadline = time.monotonic() + within_s
        self.hold(False)
        while self._open and (left_s := deadline - time.monotonic()) > 0:
            with selectors.PollSelector() as alone:
                assert self._wake is not None  # noqa: S101 - it was started for the first of them
                alone.register(self._wake[0], selectors.EVENT_READ)
                alone.select(left_s)
            self._tell()
        while self._open:
            self._over(next(iter(self._open)), ShuttingDown("the node shut down before the disk was done with it"))

    def _take(self, task: _Task) -> None:
        if self._wake is None:
            self._start()
        self._todo.put(task)

    def _start(self) -> None:
        wake = self._wake = os.pipe()
        for end in wake:
            os.set_blocking(end, False)
        self._selector.register(wake[0], selectors.EVENT_READ, lambda _events: self._tell())
        self._thread = threading.Thread(target=self._run, name="erlbridge-disk", daemon=True)
        self._thread.start()

    def _tell(self) -> None:
        assert self._wake is not None  # noqa: S101 - what is registered there has been started
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake[0], _WAKE_BYTES)
        while self._done:
            self._done.popleft()()

    def _over(self, task: _Task, outcome: Any) -> None:
        if task not in self._open:
            return  # it was cancelled, was late, or was told that the node ends
        del self._open[task]
        if task.key is not None:
            del self._keys[task.key]
            self._deadlines.drop(task.key)
        task.then(outcome)

    def _passed(self, task: _Task, outcome: Any) -> None:
        """The thread has nothing more to do with a task."""
        if task.key is not None:
            self._ahead -= 1
            self._waiting -= 1
            self._waiting_bytes -= task.size_bytes
        if task.lane is not None:
            self._lanes[task.lane] -= 1
            if not self._lanes[task.lane]:
                del self._lanes[task.lane]
        self._over(task, outcome)
        self._go_on()

    # -- the thread

    def _run(self) -> None:
        while True:
            task = self._todo.get()
            outcome = _outcome(task) if task in self._open else None
            self._done.append(functools.partial(self._passed, task, outcome))
            del task, outcome  # which may be large, and would be held until the next comes
            self._awaken()

    def _awaken(self) -> None:
        assert self._wake is not None  # noqa: S101 - the thread was started behind it
        with contextlib.suppress(BlockingIOError):  # the loop has enough to wake up for
            os.write(self._wake[1], b"\0")


def _outcome(task: _Task) -> Any:
    try:
        return task.work()
    except BridgeError as error:
        return error.with_traceback(None)  # whose frames hold the chunk
    except OSError as error:
        return storage_failed(f"{task.what} was refused by the disk", error)
    except Exception as error:  # noqa: BLE001 - a fault of ours is one request's
        return InternalError(f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
