"""How this node runs: one value, read from arguments and the environment. Opens nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from erlbridge.limits import CREDIT, MAX_FRAME_BYTES, MAX_QUEUE

_MOST_WORKERS = 4


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node's settings. `data` is the directory of what lasts; it is made when first written to."""

    workers: int
    data: Path
    max_frame_bytes: int = MAX_FRAME_BYTES
    max_queue: int = MAX_QUEUE
    credit: int = CREDIT


def default_workers() -> int:
    """One worker for each processor this process may use, at most four."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def default_data() -> Path:
    """`$ERLBRIDGE_DATA`, else `erlbridge` under the user's data directory (XDG Base Directory Specification)."""
    if given := os.environ.get("ERLBRIDGE_DATA"):
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "erlbridge"
