"""What the loop has told, kept for who looks: jobs with their curves, errors, log lines, frames, samples and sums.

The loop writes, the thread of HTTP reads, both under one lock that is held for microseconds: readers take what they
need and make text of it afterwards. Everything is bounded. `erlbridge.node.http` says what the parts look like as JSON.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from erlbridge.codec import Atom
from erlbridge.core.jobs import WORKER_VERBS
from erlbridge.node.http.tallies import Tallies
from erlbridge.node.http.views import plain, text_of
from erlbridge.wire.messages import Request, Term
from erlbridge.wire.place import shown
from erlbridge.wire.vocabulary import VERBS

Json: TypeAlias = dict[str, Any]

_CURVE_POINTS: Final = 240
_WAITING_SHOWN: Final = 100
_ENDED: Final = 50
_ERRORS: Final = 50
_LOGS: Final = 200
_FRAMES: Final = 64
_FRAME_BYTES: Final = 16 * 1024
_HISTORY: Final = 300
_MESSAGE_CHARACTERS: Final = 2_000
_TRACEBACK_CHARACTERS: Final = 8_000
_ERROR: Final = "error"


@dataclass(slots=True, eq=False)
class Seen:
    """One request from arrival to answer. `id` is as shown, which bounds it; `version` is that of the last change,
    `curve_version` that of the curve's."""

    number: int
    key: bytes
    id: str
    verb: str
    source: str | None
    arrived_at: float
    arrived: float
    earlier: Seen | None = None
    worker: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    outcome: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    curve: list[tuple[Any, ...]] = field(default_factory=list)
    version: int = 0
    curve_version: int = 0
    counted: dict[str, float] = field(default_factory=dict)

    def point(self, elapsed_s: float) -> bool:
        """Adds a point to its curve where that differs from the last; every second one goes when there are many."""
        told = self.progress
        names = ("stage", "score", "best_score", "lm_calls", "cost_usd")
        point = (round(elapsed_s, 3), *(told.get(name) for name in names))
        if self.curve and self.curve[-1][1:4] == point[1:4]:
            return False
        self.curve.append(point)
        if len(self.curve) > _CURVE_POINTS:
            del self.curve[1:-1:2]
        return True

    def view(self, *, curve: bool = True) -> Json:
        """As JSON."""
        state = "ended" if self.outcome is not None else "waiting" if self.worker is None else "running"
        found: Json = {
            "job": self.number,
            "id": self.id,
            "verb": self.verb,
            "source": self.source,
            "state": state,
            "worker": self.worker,
            "arrived_at": self.arrived_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "outcome": self.outcome,
        }
        names = ("stage", "done", "total", "score", "best_score", "lm_calls", "cost_usd", "message")
        found |= {name: self.progress.get(name) for name in names}
        if curve:
            found["curve"] = list(self.curve)
        return found


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the host's wire: its beginning, which is all of it unless it is long."""

    number: int
    at: float
    outgoing: bool
    size: int
    head: bytes


@dataclass(slots=True)
class Chronicle:
    """Keeps what the loop tells."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tallies: Tallies = field(default_factory=Tallies)
    health: Term = None
    version: int = 0
    beat_version: int = 0
    _open: dict[bytes, Seen] = field(default_factory=dict)
    _waiting: OrderedDict[bytes, Seen] = field(default_factory=OrderedDict)
    _running: dict[bytes, Seen] = field(default_factory=dict)
    _at_worker: dict[int, Seen] = field(default_factory=dict)
    """Whose job each worker was given last: what that spends is counted once, whoever is answered by it and when."""
    _ended: deque[Seen] = field(default_factory=lambda: deque(maxlen=_ENDED))
    _errors: deque[tuple[int, Json]] = field(default_factory=lambda: deque(maxlen=_ERRORS))
    _logs: deque[tuple[int, Json]] = field(default_factory=lambda: deque(maxlen=_LOGS))
    _frames: deque[Frame] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    _queue: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    _samples: dict[str, deque[tuple[float, Any, Any]]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def _change(self) -> int:
        self.version += 1
        return self.version

    # -- what the loop tells

    def frame(self, outgoing: bool, frame: bytes | memoryview) -> None:
        """A frame on the host's wire."""
        head = bytes(frame[:_FRAME_BYTES])
        with self.lock:
            self.tallies.frame(outgoing, len(frame))
            self._frames.append(Frame(next(self._numbers), time.time(), outgoing, len(frame), head))

    def arrived(self, key: bytes, request: Request, size: int, now: float) -> None:
        """A request."""
        with self.lock:
            self.tallies.request_bytes[_published(request.verb)] += size
            seen = Seen(
                next(self._numbers),
                key,
                shown(request.id),
                request.verb,
                request.meta.source,
                time.time(),
                now,
                earlier=self._open.get(key),
            )
            self._open[key] = seen
            if seen.verb in WORKER_VERBS and seen.earlier is None:
                self._waiting[key] = seen
                seen.version = self._change()

    def sent(self, key: bytes, worker: int, now: float) -> None:
        """Its job runs."""
        with self.lock:
            if (seen := self._begun(key, worker)) is not None:
                self._at_worker[worker] = seen
                self.tallies.waited(now - seen.arrived)

    def _begun(self, key: bytes, worker: int) -> Seen | None:
        if (seen := self._waiting.pop(key, None)) is not None:
            self._running[key] = seen
            seen.worker, seen.started_at = worker, time.time()
            seen.version = self._change()
        return seen

    def progressed(self, key: bytes, worker: int, state: Term, now: float) -> None:
        """How far it is."""
        told = plain(state)
        if not isinstance(told, dict):
            return
        with self.lock:
            # One that waited for the same job may be heir to it, and was given to no worker itself.
            if (seen := self._running.get(key) or self._begun(key, worker)) is not None:
                seen.progress = told
                seen.version = self._change()
                if seen.point(now - seen.arrived):
                    seen.curve_version = seen.version
            if (first := self._at_worker.get(worker)) is not None:
                self.tallies.spent(first.verb, told, first.counted)

    def finished(self, worker: int, spent: Mapping[str, Any]) -> None:
        """What a worker's job has spent; it may have been answered before."""
        with self.lock:
            if (seen := self._at_worker.pop(worker, None)) is not None:
                self.tallies.spent(seen.verb, spent, seen.counted)

    def answered(self, key: bytes, answer: tuple[Term, ...], size: int, now: float) -> None:
        """It is over."""
        cached = isinstance(answer[2], Mapping) and answer[2].get(_CACHED) is True
        failure = answer[2] if str(answer[0]) == _ERROR and isinstance(answer[2], Mapping) else None
        outcome = "ok" if failure is None else str(failure.get(_ERROR_TYPE))
        with self.lock:
            seen = self._open.pop(key, None)
            if seen is not None and seen.earlier is not None:
                self._open[key] = seen.earlier  # the one refused was the later one
            verb = "none" if seen is None else _published(seen.verb)
            lasted = 0.0 if seen is None else now - seen.arrived
            self.tallies.answered(verb, outcome, lasted, size, from_cache=cached)
            if seen is not None:
                mine = self._waiting if self._waiting.get(key) is seen else self._running
                if mine.get(key) is seen:
                    del mine[key]
                    seen.ended_at, seen.outcome, seen.key = time.time(), outcome, b""
                    seen.version = seen.curve_version = self._change()
                    self._ended.append(seen)
            if failure is not None:
                self._errors.append((self._change(), self._error(seen, answer[1], outcome, failure)))

    def _error(self, seen: Seen | None, request_id: Term, outcome: str, told: Mapping[Term, Term]) -> Json:
        traceback = told.get(_TRACEBACK)
        return {
            "number": next(self._numbers),
            "at": time.time(),
            "job": seen and seen.number,
            "id": shown(request_id),
            "verb": seen and seen.verb,
            "error_type": outcome,
            "message": text_of(told.get(_MESSAGE), _MESSAGE_CHARACTERS),
            "traceback": None if traceback is None else text_of(traceback, -_TRACEBACK_CHARACTERS),
        }

    def died(self, reason: str) -> None:
        """A worker is gone."""
        with self.lock:
            self.tallies.deaths[reason] += 1

    def logged(self, level: str, line: bytes, worker: int | None, job: Term, logger: bytes | None) -> None:
        """A log line."""
        told = {
            "at": time.time(),
            "level": level,
            "worker": worker,
            "job": None if job is None else shown(job),
            "logger": None if logger is None else text_of(logger, 200),
            "text": text_of(line, _MESSAGE_CHARACTERS),
        }
        with self.lock:
            self.tallies.logs[level] += 1
            self._logs.append((self._change(), {"number": next(self._numbers), **told}))

    def beat(self, health: Mapping[Term, Term], *, keep: bool) -> None:
        """How all is, each second (`keep`) or because something changed, or somebody asks."""
        at = time.time()
        with self.lock:
            self.health = health
            self.beat_version = self._change()
            if not keep:
                return
            queue, node = _map(health, "queue"), _map(health, "node")
            self._queue.append((at, queue.get(_WAITING, 0), queue.get(_RUNNING, 0)))
            present = {"node": node}
            workers = health.get(_WORKERS)
            if isinstance(workers, list):
                present |= {str(worker[_WORKER]): worker for worker in workers}
            for name in self._samples.keys() - present.keys():
                del self._samples[name]
            self._at_worker = {number: seen for number, seen in self._at_worker.items() if str(number) in present}
            for name, figures in present.items():
                samples = self._samples.setdefault(name, deque(maxlen=_HISTORY))
                samples.append((at, figures.get(_RSS), figures.get(_CPU)))

    # -- what the readers ask

    def key_of(self, number: int) -> bytes | None:
        """The key of the request with this number, None when it is over."""
        with self.lock:
            everyone = itertools.chain(self._running.values(), self._waiting.values())
            return next((seen.key for seen in everyone if seen.number == number), None)

    def numbers(self) -> tuple[Term, Tallies]:
        """health_check's answer, and a copy of the sums."""
        with self.lock:
            return self.health, deepcopy(self.tallies)

    def frames(self) -> list[Frame]:
        """The last frames, oldest first."""
        with self.lock:
            return list(self._frames)

    def state(self) -> tuple[int, Json]:
        """All there is to show, and its version."""
        with self.lock:
            version, health = self.version, self.health
            found: Json = {
                "at": time.time(),
                "history": {
                    "queue": list(self._queue),
                    "node": list(self._samples.get("node", ())),
                    "workers": {name: list(rows) for name, rows in self._samples.items() if name != "node"},
                },
                "jobs": [seen.view() for seen in self._shown_jobs()],
                "ended": [seen.view() for seen in reversed(self._ended)],
                "errors": [error for _, error in reversed(self._errors)],
                "logs": [log for _, log in reversed(self._logs)],
            }
        found["health"] = plain(health)
        return version, found

    def news(self, since: int) -> tuple[int, list[tuple[str, Json]]]:
        """What has changed since a version: events by name, and the version now."""
        with self.lock:
            version, health = self.version, self.health
            if version == since:
                return version, []
            found: list[tuple[str, Json]] = [
                ("job", seen.view(curve=seen.curve_version > since))
                for seen in self._shown_jobs()
                if seen.version > since
            ]
            found += [("ended", seen.view()) for seen in self._ended if seen.version > since]
            found += [("error", error) for number, error in self._errors if number > since]
            found += [("log", log) for number, log in self._logs if number > since]
            beat = self.beat_version > since
        if beat:
            found.append(("pulse", {"at": time.time(), "health": plain(health)}))
        return version, found

    def _shown_jobs(self) -> Iterator[Seen]:
        yield from self._running.values()
        yield from itertools.islice(self._waiting.values(), _WAITING_SHOWN)


_ERROR_TYPE: Final = Atom("error_type")
_MESSAGE: Final = Atom("message")
_TRACEBACK: Final = Atom("traceback")
_CACHED: Final = Atom("cached")
_WAITING: Final = Atom("waiting")
_RUNNING: Final = Atom("running")
_WORKERS: Final = Atom("workers")
_WORKER: Final = Atom("worker")
_RSS: Final = Atom("rss_bytes")
_CPU: Final = Atom("cpu_percent")


def _published(verb: str) -> str:
    """A verb as a label: a host may send any, and each would be a series."""
    return verb if verb in VERBS else "unknown"


def _map(of: Mapping[Term, Term], name: str) -> Mapping[Term, Any]:
    found = of.get(Atom(name))
    return found if isinstance(found, Mapping) else {}
