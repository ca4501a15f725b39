"""What is done to a node under load: its processes killed and stopped, its endpoint gone bad, its host deaf."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from soak.endpoint import MOODS, FaultyEndpoint
from soak.host import Host
from soak.load import Load

_STOPPED_S = 1.5


def children(pid: int) -> list[int]:
    """A process's children, oldest first."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


class Faults:
    """Draws one fault after the other. `done` counts them by name."""

    def __init__(self, host: Host, load: Load, endpoint: FaultyEndpoint, rng: random.Random, node_pid: int) -> None:
        self.host = host
        self.load = load
        self.endpoint = endpoint
        self.rng = rng
        self.node_pid = node_pid
        self.done: Counter[str] = Counter()
        self._timers: list[threading.Timer] = []
        self._drawn: dict[str, tuple[int, Callable[[], None]]] = {
            "kill -9 of a worker": (10, self._kill_worker),
            "kill -9 of the forkserver": (2, self._kill_forkserver),
            "a worker stopped for 1.5 s": (4, self._stop_worker),
            "the forkserver stopped for 1.5 s": (2, self._stop_forkserver),
            "SIGSEGV of a worker": (3, self._crash_worker),
            "the endpoint in another mood": (6, self._change_mood),
            "the host reads nothing for 2 s": (3, lambda: self.host.deaf(2.0)),
            "a burst of 300 requests": (3, lambda: self.load.burst(300)),
        }

    def one(self) -> None:
        """Does the next fault."""
        names = list(self._drawn)
        name = self.rng.choices(names, [self._drawn[name][0] for name in names])[0]
        self.done[name] += 1
        self._drawn[name][1]()

    def end(self) -> None:
        """Lets everything go on that was stopped."""
        for timer in self._timers:
            timer.join()
        self.endpoint.mood = "well"

    def _forkserver(self) -> int | None:
        found = children(self.node_pid)
        return found[0] if found else None

    def _worker(self) -> int | None:
        forkserver = self._forkserver()
        found = [] if forkserver is None else children(forkserver)
        return self.rng.choice(found) if found else None

    def _signal(self, pid: int | None, number: int) -> None:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _kill_worker(self) -> None:
        self._signal(self._worker(), signal.SIGKILL)

    def _crash_worker(self) -> None:
        self._signal(self._worker(), signal.SIGSEGV)

    def _kill_forkserver(self) -> None:
        self._signal(self._forkserver(), signal.SIGKILL)

    def _stop_worker(self) -> None:
        self._stop(self._worker())

    def _stop_forkserver(self) -> None:
        self._stop(self._forkserver())

    def _stop(self, pid: int | None) -> None:
        self._signal(pid, signal.SIGSTOP)
        timer = threading.Timer(_STOPPED_S, self._signal, (pid, signal.SIGCONT))
        timer.start()
        self._timers = [*(timer for timer in self._timers if timer.is_alive()), timer]

    def _change_mood(self) -> None:
        self.endpoint.mood = self.rng.choice([mood for mood in MOODS if mood != self.endpoint.mood])
