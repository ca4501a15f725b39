"""A host that keeps a node busy and counts its answers: every request gets exactly one, whatever happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.wire.frames import FrameReader

_CREDIT = 1000
_READ_BYTES = 1 << 20


@dataclass
class Asked:
    """A request that has been sent. `deadline` is a point of the monotonic clock; `answers` came in this order."""

    verb: str
    sent_at: float
    deadline: float | None
    answers: list[str] = field(default_factory=list)


class Host:
    """One node and this side of its wire. A thread of its own reads; any thread may send.

    Attributes:
        asked: Every request by its id.
        without_id: Errors for what was no request, by error type.
        late: By how many seconds answers came after their deadline; those of deaf spells are left out.
    """

    def __init__(self, arguments: list[str], data: Path, environment: Mapping[str, str] | None = None) -> None:
        self.asked: dict[int, Asked] = {}
        self.without_id: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.late: list[float] = []
        self.exit_code: int | None = None
        self.ready = threading.Event()
        self.info: dict[Any, Any] = {}
        self._deaf = threading.Event()
        self._deaf_until = 0.0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._last_id = 0
        self._in_flight = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "erlbridge", "serve", "--data", str(data), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            bufsize=0,
        )
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="soak-reader", daemon=True)
        self._reader.start()

    # -- what goes out

    def request(self, verb: str, payload: object, *, deadline_ms: int | None = None, **meta: object) -> int:
        """Sends a request and gives its id."""
        with self._lock:
            self._last_id += 1
            number = self._last_id
            now = time.monotonic()
            self.asked[number] = Asked(verb, now, None if deadline_ms is None else now + deadline_ms / 1000)
            self._in_flight += 1
        if deadline_ms is not None:
            meta["deadline_ms"] = deadline_ms
        term = (Atom(verb), number, payload, {Atom(key): value for key, value in meta.items()})
        self.send_frame(term_to_binary(term))
        return number

    def send_frame(self, frame: bytes) -> None:
        """Sends bytes as a frame, a term or not. A node that is gone is noticed by the reader."""
        assert self.process.stdin is not None
        view = memoryview(len(frame).to_bytes(4) + frame)
        try:
            with self._writing:
                while view:
                    view = view[self.process.stdin.write(view) :]
        except OSError:
            return

    # -- what comes in

    def deaf(self, seconds: float) -> None:
        """Reads nothing for so long."""
        self._deaf_until = time.monotonic() + seconds
        self._deaf.set()

    def _read(self) -> None:
        assert self.process.stdout is not None
        reader = FrameReader(2**31)
        spent = 0
        while data := os.read(self.process.stdout.fileno(), _READ_BYTES):
            reader.feed(data)
            for frame in reader:
                spent += self._take(binary_to_term(frame))
            if spent >= _CREDIT // 2:
                self.send_frame(term_to_binary((Atom("credit"), spent)))
                spent = 0
            if self._deaf.is_set():
                time.sleep(max(0.0, self._deaf_until - time.monotonic()))
                self._deaf.clear()
        self.exit_code = self.process.wait()
        with self._changed:
            self._changed.notify_all()

    def _take(self, term: Any) -> int:
        """Notes what a frame says; gives the credit that it cost."""
        now = time.monotonic()
        match term:
            case (Atom() as tag, info) if str(tag) == "ready":
                self.info = info
                self.send_frame(term_to_binary((Atom("credit"), _CREDIT)))
                self.ready.set()
                return 0
            case (Atom() as tag, None, error) if str(tag) == "error":
                self.without_id[str(error[Atom("error_type")])] += 1
                return 0
            case (Atom() as tag, int() as number, outcome) if str(tag) in ("ok", "error"):
                said = "ok" if str(tag) == "ok" else str(outcome[Atom("error_type")])
                with self._changed:
                    asked = self.asked[number]
                    asked.answers.append(said)
                    self._in_flight -= 1
                    if asked.deadline is not None and now > asked.deadline and now > self._deaf_until + 1:
                        self.late.append(now - asked.deadline)
                    self._changed.notify_all()
                return 0
            case (Atom() as tag, *_):
                self.events[str(tag)] += 1
                return 1
        raise AssertionError(f"the node said what nobody knows: {term!r:.200}")

    # -- the ledger

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return self._in_flight

    def await_room(self, most: int, timeout_s: float) -> bool:
        """Waits until at most so many requests are in flight; False when that takes too long or the node is gone."""
        with self._changed:
            return (
                self._changed.wait_for(lambda: self._in_flight <= most or self.exit_code is not None, timeout_s)
                and self.exit_code is None
            )

    def outcomes(self) -> Counter[str]:
        """How many requests ended how; `nothing` for those without an answer, `twice` for those with several."""
        with self._lock:
            counts: Counter[str] = Counter()
            for asked in self.asked.values():
                match asked.answers:
                    case []:
                        counts["nothing"] += 1
                    case [one]:
                        counts[one] += 1
                    case _:
                        counts["twice"] += 1
            return counts

    def close(self) -> int:
        """Closes the wire and waits for the node's end."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        code = self.process.wait(60)
        self._reader.join(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code
