"""What it costs to watch: processor time of the samples of a node with 4 workers, beside psutil's.

    python benchmarks/watchdog.py

First the two ways to sample these six processes, in turn; then two whole nodes side by side, one that looks ten times a
second and one that looks once a minute: what they differ by is all that watching takes, the loop's waking up included.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node")]

import psutil  # noqa: E402
from node_client import NodeClient  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402
from erlbridge.node.watchdog import Watchdog  # noqa: E402

ROUNDS, LOOKS, WATCHED_S = 9, 100, 20.0


def start(*arguments: str) -> NodeClient:
    node = NodeClient("--workers", "4", *arguments, data=Path(tempfile.mkdtemp()))
    node.ready()
    node.wait_until_healthy()
    return node


def cpu_s(look: Callable[[], object]) -> float:
    """Processor seconds of one look."""
    began = time.process_time()
    for _ in range(LOOKS):
        look()
    return (time.process_time() - began) / LOOKS


def sampling(pids: list[int]) -> None:
    watchdog = Watchdog()
    processes = [psutil.Process(pid) for pid in pids]

    def with_psutil() -> None:
        for process in processes:
            with process.oneshot():
                process.memory_info()
                process.cpu_percent(None)

    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(cpu_s(lambda: watchdog.look(pids)))
        theirs.append(cpu_s(with_psutil))
    for name, times in (("raw", ours), ("psutil", theirs)):
        median = statistics.median(times)
        print(f"{name:7} {median * 1e6:6.0f} µs for {len(pids)} processes: {median * 10:.3%} of a core at 10 Hz")


def watching(often: NodeClient, seldom: NodeClient) -> None:
    clocks = [psutil.Process(node.health()[Atom("node")][Atom("os_pid")]) for node in (often, seldom)]
    before = [sum(clock.cpu_times()[:2]) for clock in clocks]
    time.sleep(WATCHED_S)
    after = [sum(clock.cpu_times()[:2]) for clock in clocks]
    for name, begin, end in zip(("10 Hz", "1/min"), before, after, strict=True):
        print(f"a whole idle node at {name}: {(end - begin) / WATCHED_S:.3%} of a core")


def main() -> None:
    quiet = ("--telemetry-interval-s", "0")
    often, seldom = start(*quiet), start("--sample-interval-s", "60", *quiet)
    health = often.health()
    shown = [*health[Atom("workers")], health[Atom("node")], health[Atom("forkserver")]]
    sampling([int(process[Atom("os_pid")]) for process in shown])
    watching(often, seldom)
    often.close()
    seldom.close()


if __name__ == "__main__":
    main()
