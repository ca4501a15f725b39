"""What processes cost, as the kernel counts it: processor time to the nanosecond, and memory that nobody shares.

Processor time holds on a machine that others use as well, where a clock on the wall does not.
"""

from __future__ import annotations

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2
"""Which clock of a process: clock_getcpuclockid(3) makes its number so, and Python has no name for that."""


def cpu_s(pid: int) -> float:
    """Processor seconds of a process that runs, those of threads that have ended too."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def resident_bytes(pid: int) -> int:
    """What of a process lies in memory, be it shared with others."""
    return _rollup(pid, ("Rss",))


def private_bytes(pid: int) -> int:
    """What of a process lies in memory and goes with it (its unique set size): what it shares with no other."""
    return _rollup(pid, ("Private_Clean", "Private_Dirty"))


def proportional_bytes(pid: int) -> int:
    """What lies in memory, a page that so many share counted by its part: what processes take adds up by these."""
    return _rollup(pid, ("Pss",))


def _rollup(pid: int, names: tuple[str, ...]) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.partition(":")[0] in names)
