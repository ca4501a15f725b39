"""A node's processes by what they are, for tests that kill them, and what must be true afterwards."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Any

from measures import record
from node_client import PATIENCE_S, NodeClient, alive, descendants
from tickets import optimization, slow

from erlbridge.codec import Atom

UNRULY = str(Path(__file__).parent / "unruly")
"""A PYTHONPATH under which every worker has two descendants in sessions of their own."""


def slow_job(latency_ms: int, **config: object) -> dict[Any, Any]:
    return optimization(**{**{str(key): value for key, value in slow(latency_ms).items()}, **config})


def forkserver_of(node: NodeClient) -> int:
    (forkserver,) = Path(f"/proc/{node.node_pid}/task/{node.node_pid}/children").read_text().split()
    return int(forkserver)


def worker_of(node: NodeClient, number: object) -> int | None:
    """The pid of the worker that runs the request, None while none does."""
    for worker in node.health()[Atom("workers")]:
        job = worker[Atom("job")]
        if job is not None and job[Atom("id")] == number:
            return int(worker[Atom("os_pid")])
    return None


def busy_worker(node: NodeClient, number: int) -> int:
    """The pid of the worker that runs the request, once it has shown progress."""
    node.send((Atom("credit"), 1000))
    node.until(lambda term: str(term[0]) == "progress" and term[1] == number)
    worker = worker_of(node, number)
    assert worker is not None
    return worker


def idle_workers(node: NodeClient) -> set[int]:
    workers = node.health()[Atom("workers")]
    return {int(worker[Atom("os_pid")]) for worker in workers if worker[Atom("state")] == Atom("idle")}


def await_replaced(node: NodeClient, dead: set[int], count: int, since: float, limit_s: float) -> float:
    """Waits until so many workers are idle and none of them is one of these; gives how long that took."""
    while len(idle_workers(node) - dead) < count:
        assert time.monotonic() < since + max(limit_s, PATIENCE_S), node.health()
        select.select([], [], [], 0.002)
    return time.monotonic() - since


def record_gone(row: str, fault: str, pids: set[int], since: float, limit_s: float = 1.0) -> None:
    """Waits until none of the processes runs, and holds the time since the fault to the limit."""
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < since + 10:
        select.select([], [], [], 0.002)
    assert not left, f"{fault}: still alive after 10 s: {left}"
    record(row, fault, "no survivor after", time.monotonic() - since, limit_s)


def family_of(worker: int) -> set[int]:
    """A worker under `UNRULY` and its two descendants, once they are there."""
    deadline = time.monotonic() + PATIENCE_S
    while len(family := descendants(worker) | {worker}) < 3:
        assert time.monotonic() < deadline
        select.select([], [], [], 0.002)
    return family


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
