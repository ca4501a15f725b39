"""What the node's processes use: the one door to psutil, which is loaded at the first sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process: resident memory, and processor time since the last look in percent of one core."""

    rss_bytes: int
    cpu_percent: float


class Watchdog:
    """Samples processes by pid. The first look at a process gives 0.0 as its processor use."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def sample(self, pids: Iterable[int]) -> dict[int, Sample]:
        """A sample of each process that is alive; costs about 0.1 ms a process."""
        import psutil  # noqa: PLC0415 - 25 ms that the node's start does not wait for

        samples: dict[int, Sample] = {}
        processes: dict[int, psutil.Process] = {}
        for pid in pids:
            try:
                process = self._processes.get(pid) or psutil.Process(pid)
                with process.oneshot():
                    samples[pid] = Sample(process.memory_info().rss, process.cpu_percent(None))
                processes[pid] = process
            except psutil.Error:
                continue  # gone between the list and the look
        self._processes = processes
        return samples
