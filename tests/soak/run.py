"""One soak: a node, its load and its faults for some minutes, and the figures that come of it."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node_client import alive, descendants

from soak.endpoint import FaultyEndpoint
from soak.faults import Faults
from soak.host import Host
from soak.load import Load
from soak.usage import Slope, Usage, slope

IN_FLIGHT: Final = 24
"""Requests that the load keeps in flight: enough that workers never wait and the queue is never full by it alone."""
_FAULT_EVERY_S: Final = 1.5
_WARM_S: Final = 60.0
"""When the node is looked at first: its modules are loaded, its workers have booted."""
_SETTLING: Final = 0.25
"""The share of a soak in which the heap may still grow to what the load's worst moments take (each time that more is
alive at once than ever before, a page is touched that stays). From then on it must be flat."""
_TELLING_S: Final = 600.0
"""From so long on a soak must be flat within its noise; a shorter one, whose caches still fill, may grow by a fifth."""
_PATIENCE_S: Final = 60.0


@dataclass
class Soaked:
    """What a soak came to. Times in seconds, memory in bytes."""

    seconds: float
    seed: int
    sent: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    malformed: int
    without_id: dict[str, int]
    latest: float
    exit_code: int
    survivors: int
    first: Usage
    last: Usage
    peak_bytes: int
    memory: Slope
    samples: list[tuple[float, float]] = field(default_factory=list, repr=False)

    @property
    def answered_once(self) -> int:
        """Requests with exactly one answer."""
        return self.sent - self.outcomes.get("nothing", 0) - self.outcomes.get("twice", 0)

    def broken(self) -> list[str]:
        """Every promise that was not kept, in words."""
        claims = {
            f"{self.sent - self.answered_once} of {self.sent} requests did not get exactly one answer": (
                self.answered_once == self.sent
            ),
            f"{self.malformed} frames were no requests, {sum(self.without_id.values())} answers had no id": (
                self.malformed == sum(self.without_id.values())
            ),
            f"the node exited with {self.exit_code}": self.exit_code == 0,
            f"{self.survivors} processes outlived the node": self.survivors == 0,
            f"descriptors grew from {self.first.descriptors} to {self.last.descriptors}": (
                self.last.descriptors <= self.first.descriptors + 8  # one or two workers more than at the first look
            ),
            f"threads grew from {self.first.threads} to {self.last.threads}": self.last.threads <= self.first.threads,
            f"memory grows by {self.memory.per_minute / 1024:.0f} KiB a minute": (
                self.memory.within_noise
                or (self.seconds < _TELLING_S and self.last.rss_bytes < self.first.rss_bytes * 1.2)
            ),
        }
        return [text for text, kept in claims.items() if not kept]


@dataclass(frozen=True)
class Span:
    """How long, from which seed, and whether somebody watches."""

    seconds: float
    seed: int
    progress: bool


def soak(seconds: float, seed: int, *, progress: bool = False) -> Soaked:
    """Runs a node under load and faults for so long, then ends it with a shutdown and counts."""
    rng = random.Random(seed)
    endpoint = FaultyEndpoint(random.Random(rng.random()))
    with tempfile.TemporaryDirectory(prefix="erlbridge-soak-") as folder:
        host = Host(["--workers", "2", "--spare-workers", "1"], Path(folder))
        try:
            return _soak(host, endpoint, rng, Span(seconds, seed, progress))
        finally:
            host.close()
            endpoint.close()


def _soak(host: Host, endpoint: FaultyEndpoint, rng: random.Random, span: Span) -> Soaked:
    seconds = span.seconds
    assert host.ready.wait(_PATIENCE_S), "the node is not ready"
    node_pid = next(int(value) for key, value in host.info.items() if str(key) == "os_pid")
    load = Load(host, endpoint, random.Random(rng.random()))
    faults = Faults(host, load, endpoint, random.Random(rng.random()), node_pid)
    begun = time.monotonic()
    samples: list[tuple[float, Usage]] = []
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(node_pid, begun, samples, over), daemon=True)
    sampler.start()
    next_fault = begun + min(5.0, seconds / 4)
    said_at = begun
    while (now := time.monotonic()) < begun + seconds:
        assert host.exit_code is None, f"the node ended with {host.exit_code} after {now - begun:.0f} s"
        if now >= next_fault:
            faults.one()
            next_fault = now + rng.uniform(0.5, 1.5) * _FAULT_EVERY_S
        assert host.await_room(IN_FLIGHT, _PATIENCE_S), f"no answer for {_PATIENCE_S} s"
        load.one()
        if span.progress and now - said_at >= 10:
            said_at = now
            done = sum(faults.done.values())
            sys.stderr.write(f"\r{now - begun:5.0f} s of {seconds:.0f}: {len(host.asked)} requests, {done} faults ")
            sys.stderr.flush()
    faults.end()
    assert host.await_room(0, _PATIENCE_S), f"{host.in_flight} requests were never answered"
    over.set()
    sampler.join()
    tree = descendants(host.process.pid) | {host.process.pid}
    host.request("shutdown", {}, deadline_ms=None)
    host.await_room(0, _PATIENCE_S)
    exit_code = host.close()
    ended = time.monotonic()
    while (left := sum(map(alive, tree))) and time.monotonic() < ended + 1:
        time.sleep(0.01)
    looks = [use for _, use in samples]
    settled = [(at, float(use.rss_bytes)) for at, use in samples if at > seconds * _SETTLING]
    first = next((use for at, use in samples if at > min(_WARM_S, seconds / 4)), looks[-1])
    return Soaked(
        seconds=seconds,
        seed=span.seed,
        sent=len(host.asked),
        outcomes=dict(host.outcomes()),
        faults=dict(faults.done),
        malformed=load.malformed,
        without_id=dict(host.without_id),
        latest=max(host.late, default=0.0),
        exit_code=exit_code,
        survivors=left,
        first=first,
        last=looks[-1],
        peak_bytes=max(use.rss_bytes for use in looks),
        memory=slope(settled),
        samples=[(at, float(use.rss_bytes)) for at, use in samples],
    )


def _sample(pid: int, begun: float, samples: list[tuple[float, Usage]], over: threading.Event) -> None:
    while not over.wait(0.25):
        with contextlib.suppress(OSError):  # it has ended
            samples.append((time.monotonic() - begun, Usage.of(pid)))
