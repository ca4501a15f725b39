"""The watchdog's rounds: when to look at which process, what to tell the scheduler and the host of what was seen.

The loop asks for `due_at` and then for a round. What is too much is judged by `core.vigil`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from erlbridge.core.events import LimitPassed, Stalled
from erlbridge.core.meter import Meter
from erlbridge.core.roster import Worker
from erlbridge.core.scheduler import Scheduler
from erlbridge.core.vigil import Bounds, Fact, Running, Sample, Vigil
from erlbridge.node.config import NodeConfig
from erlbridge.node.watchdog import Machine, Watchdog, descriptors
from erlbridge.wire import messages
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom

_MACHINE_INTERVAL_S: Final = 1.0
_FRESH_S: Final = 0.1
"""How old a sample may be for somebody who asks between two rounds. One of each process for each question would be most
of what a health_check costs."""
_SETTING_OF: Final = {
    "memory_limit": "worker_hard_bytes",
    "total_memory_limit": "workers_total_bytes",
    "cpu_limit": "cpu_limit_percent",
}
_TOTAL_SHARE: Final = 0.75
"""Of the machine's memory, for all workers, when no other limit is set: the rest is the BEAM's and the node's."""
_DESCRIPTOR_SHARE: Final = 0.9
_RECOVERED: Final = 1.1
"""How much better than its limit a figure must be before all is well again, or each byte would be a warning."""


@dataclass(slots=True)
class Round:
    """What one round brought: facts for the scheduler, log lines with level and worker, telemetry for the host."""

    facts: list[Fact] = field(default_factory=list)
    lines: list[tuple[str, int | None, str]] = field(default_factory=list)
    telemetry: list[tuple[Term, ...]] = field(default_factory=list)


@dataclass(slots=True)
class _Process:
    sample: Sample
    peak_bytes: int = 0
    meter: Meter = field(default_factory=Meter)


class Patrol:
    """Watches a node's processes, its disk and its descriptors.

    Args:
        config: The limits and the times between two looks.
        scheduler: Read for who runs what; never told anything from here.
        forkserver_pid: Gives the forkserver's process, None while there is none.
        heard_at: Gives the time of a worker's last frame.
    """

    def __init__(
        self,
        config: NodeConfig,
        scheduler: Scheduler,
        forkserver_pid: Callable[[], int | None],
        heard_at: Callable[[int], float],
    ) -> None:
        self._config = config
        self._scheduler = scheduler
        self._forkserver_pid = forkserver_pid
        self._heard_at = heard_at
        self._watchdog = Watchdog()
        self._vigil = Vigil(
            Bounds(
                interval_s=config.sample_interval_s,
                soft_bytes=config.worker_soft_bytes,
                hard_bytes=config.worker_hard_bytes,
                total_bytes=config.workers_total_bytes,
                cpu_percent=config.cpu_limit_percent,
                cpu_s=config.cpu_limit_s,
                stall_s=config.stall_s,
            )
        )
        self._own_pid = os.getpid()
        self._processes: dict[int, _Process] = {}
        self._machine: Machine | None = None
        self._descriptors: tuple[int | None, int | None] = (None, None)
        self._concerns: dict[str, str] = {}
        self.looks = 0
        """How often it has been looked; as long as this stays, so does what is known of processes and machine."""
        self._round_at = 0.0
        self._due_at = 0.0
        self._looked_at = -_FRESH_S
        """When every process was looked at last."""
        self._all_known_at: tuple[int, int | None] | None = None
        """The scheduler's step, and the forkserver, at which every process there was had been looked at."""
        self._machine_at = 0.0
        self._telemetry_at: float | None = None

    # -- the rounds

    def due_at(self) -> float:
        """When the next round is due. Each turn of the loop asks; a round alone can change it."""
        return self._due_at

    def go_round(self, now: float) -> Round:
        """Looks at every process that is due. The node's own, and the machine, need no hurry."""
        found = Round()
        workers = {worker.number: worker for worker in self._scheduler.workers.values() if worker.os_pid is not None}
        usual = now >= self._round_at
        if usual:
            self._round_at = now + self._config.sample_interval_s
            self._look(self._pids(workers), now, everything=True)
        due = [workers[number] for number in self._vigil.due(workers, now)]
        if not usual:
            self._look([worker.os_pid for worker in due], now)
        samples = {worker.number: seen.sample for worker in due if (seen := self._processes.get(worker.os_pid or 0))}
        running = {worker.number: at_work for worker in due if (at_work := self._running(worker))}
        found.facts = self._vigil.look(samples, running, now)
        self._vigil.keep_only(workers.keys() - {worker.number for worker in due if worker.number not in samples})
        found.lines = [("warning", fact.worker, line) for fact in found.facts if (line := _told(fact))]
        found.telemetry = [_limit_event(fact) for fact in found.facts if isinstance(fact, LimitPassed)]
        if usual and now >= self._machine_at:
            self._machine_at = now + _MACHINE_INTERVAL_S
            found.lines += [(level, None, line) for level, line in self._look_at_machine()]
        if usual and self._config.telemetry_interval_s:
            found.telemetry += self._telemetry(now)
        soonest = self._vigil.next_look()
        self._due_at = self._round_at if soonest is None else min(soonest, self._round_at)
        return found

    def _pids(self, workers: Mapping[int, Worker]) -> list[int | None]:
        return [self._own_pid, self._forkserver_pid(), *(worker.os_pid for worker in workers.values())]

    def _look(self, pids: list[int | None], now: float, *, everything: bool = False) -> None:
        self.looks += 1
        samples = self._watchdog.look(pid for pid in pids if pid is not None)
        for pid, sample in samples.items():
            seen = self._processes.setdefault(pid, _Process(sample))
            seen.sample = sample
            seen.peak_bytes = max(seen.peak_bytes, sample.rss_bytes)
            seen.meter.add(now, sample.cpu_s)
        if everything:
            self._looked_at = now
            self._all_known_at = None
            self._watchdog.keep_only(samples)
            self._processes = {pid: seen for pid, seen in self._processes.items() if pid in samples}

    def _running(self, worker: Worker) -> Running | None:
        entry = self._scheduler.entry_of(worker.number)
        if entry is None:
            return None
        return Running(entry, self._heard_at(worker.number), self._scheduler.calls.waits(entry.key))

    # -- what is not a worker's

    def _look_at_machine(self) -> list[tuple[str, str]]:
        used, most = self._descriptors = descriptors()
        concern = f"{used} of the node's {most} descriptors are open; raise its limit of open files"
        news = self._compare("descriptors", used / (most * _DESCRIPTOR_SHARE), concern)
        try:
            machine = self._machine = self._watchdog.machine(self._config.data)
        except OSError:  # no descriptor is left, or the disk does not answer: what was seen last stands
            return news
        if not self._config.workers_total_bytes:
            self._vigil.bounds = replace(self._vigil.bounds, total_bytes=int(machine.memory_bytes * _TOTAL_SHARE))
        free, least = machine.disk_free_bytes, self._config.min_free_disk_bytes
        concern = f"{_mib(free)} are free for the data directory, less than {_mib(least)}"
        return news + self._compare("disk", least / max(free, 1), concern)

    def _compare(self, name: str, share: float, concern: str) -> list[tuple[str, str]]:
        """Keeps what is wrong; a line for the log each time that changes. `share` of 1 is the limit."""
        if share > 1:
            news = name not in self._concerns
            self._concerns[name] = concern
            return [("warning", concern)] if news else []
        if share < 1 / _RECOVERED and name in self._concerns:
            del self._concerns[name]
            return [("info", f"{name}: all is well again")]
        return []

    # -- what others ask

    def look_now(self, now: float) -> None:
        """Looks at every process, for somebody who asks between two rounds, unless that has just been done."""
        if now - self._looked_at >= _FRESH_S or not self._knows_all():
            self._look(self._pids(self._scheduler.workers), now, everything=True)

    def _knows_all(self) -> bool:
        """Whether every process that is there has been looked at."""
        there = self._scheduler.steps, self._forkserver_pid()
        if there != self._all_known_at:
            pids = self._pids(self._scheduler.workers)
            if not self._processes.keys() >= {pid for pid in pids if pid is not None}:
                return False
            self._all_known_at = there
        return True

    def concern(self) -> str | None:
        """What is wrong with the machine, None when nothing is."""
        return "; ".join(self._concerns.values()) or None

    def usage(self, os_pid: int | None) -> dict[str, Term]:
        """A process's entries of health_check; nil where nothing is known."""
        seen = self._processes.get(os_pid or 0)
        return {
            "os_pid": os_pid,
            "rss_bytes": seen and seen.sample.rss_bytes,
            "peak_rss_bytes": seen and seen.peak_bytes,
            "cpu_percent": seen and seen.meter.percent(),
        }

    def node_usage(self) -> dict[str, Term]:
        """The node's own."""
        used, most = self._descriptors
        return {**self.usage(self._own_pid), "descriptors": used, "max_descriptors": most}

    def forkserver_usage(self) -> dict[str, Term]:
        """That of the process which workers are forked from."""
        return self.usage(self._forkserver_pid())

    def machine(self) -> dict[str, Term]:
        """The machine's entries of health_check."""
        seen = self._machine
        return {
            "memory_bytes": seen and seen.memory_bytes,
            "available_bytes": seen and seen.available_bytes,
            "disk_free_bytes": seen and seen.disk_free_bytes,
        }

    def limits(self) -> dict[str, Term]:
        """The limits that are in force; nil where there is none."""
        bounds = self._vigil.bounds
        return {
            "worker_soft_bytes": bounds.soft_bytes or None,
            "worker_hard_bytes": bounds.hard_bytes or None,
            "workers_total_bytes": bounds.total_bytes or None,
        }

    def _telemetry(self, now: float) -> list[tuple[Term, ...]]:
        """A sample of every worker and of the node. The first is sent one interval after the start."""
        if self._telemetry_at is None or now < self._telemetry_at:
            if self._telemetry_at is None:
                self._telemetry_at = now + self._config.telemetry_interval_s
            return []
        self._telemetry_at = now + self._config.telemetry_interval_s
        workers = list(self._scheduler.workers.values())
        node: dict[str, Term] = {
            **self.node_usage(),
            "disk_free_bytes": self._machine and self._machine.disk_free_bytes,
            "waiting": len(self._scheduler.queue),
            "running": sum(worker.entry is not None for worker in workers),
        }
        return [
            _sample("node", node, {}),
            *(
                _sample("worker", self.usage(worker.os_pid), {"worker": worker.number, "state": atom(worker.state)})
                for worker in workers
                if worker.os_pid in self._processes
            ),
        ]


def _sample(what: str, figures: dict[str, Term], metadata: dict[str, Term]) -> tuple[Term, ...]:
    """An event with the figures that are known; the process's pid says whose they are, and is none of them."""
    os_pid = figures.pop("os_pid")
    measurements = {name: value for name, value in figures.items() if value is not None}
    return messages.telemetry(what, measurements, {**metadata, "os_pid": os_pid})


def _limit_event(fact: LimitPassed) -> tuple[Term, ...]:
    metadata = {"worker": fact.worker, "mode": atom(fact.kind), "reason": atom(fact.reason)}
    return messages.telemetry("limit", fact.context, metadata)


def _told(fact: Fact) -> str | None:
    """A fact as the host's log has it; None for what the scheduler tells when it acts on it."""
    match fact:
        case Stalled(worker, seconds):
            return f"worker {worker}: its job has shown no sign of life for {seconds:.0f} s (stall_s)"
        case LimitPassed(_, "soft"):
            return None
        case LimitPassed(worker, _, reason, context):
            return f"worker {worker} is killed: {_shown(context)} ({_SETTING_OF[reason]})"
        case _:
            assert_never(fact)


def _shown(context: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in context.items())


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
