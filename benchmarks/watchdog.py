"""What it costs to watch: processor time of the samples of a node with 4 workers, beside psutil's.

    python benchmarks/watchdog.py [--write] [ROUNDS]

First the two ways to sample these six processes, in turn; then two whole nodes side by side, one that looks ten times a
second and one that looks once a minute: what they differ by is all that watching takes, the loop's waking up included.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import report

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node")]

import psutil  # noqa: E402
from node_client import NodeClient  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402
from erlbridge.node.watchdog import Watchdog  # noqa: E402

DATA = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
"""Of all nodes here, until this ends."""
LOOKS, WATCHED_S = 100, 20.0


def start(*arguments: str) -> NodeClient:
    node = NodeClient("--workers", "4", *arguments, data=Path(tempfile.mkdtemp(dir=DATA.name)))
    node.ready()
    node.wait_until_healthy()
    return node


def cpu_s(look: Callable[[], object]) -> float:
    """Processor seconds of one look."""
    began = time.process_time()
    for _ in range(LOOKS):
        look()
    return (time.process_time() - began) / LOOKS


def sampling(pids: list[int], rounds: int) -> Iterator[tuple[str, str, str]]:
    """A line for each way to look at them once."""
    watchdog = Watchdog()
    processes = [psutil.Process(pid) for pid in pids]

    def with_psutil() -> None:
        for process in processes:
            with process.oneshot():
                process.memory_info()
                process.cpu_percent(None)

    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(cpu_s(lambda: watchdog.look(pids)))
        theirs.append(cpu_s(with_psutil))
    for name, times in (("raw", ours), ("psutil", theirs)):
        median = statistics.median(times)
        yield f"a look at {len(pids)} processes, {name}", report.span(median), f"{median * 10:.2%} of a core at 10 Hz"


def watching(often: NodeClient, seldom: NodeClient) -> Iterator[tuple[str, str, str]]:
    """A line for each of two whole nodes that have nothing to do."""
    clocks = [psutil.Process(node.health()[Atom("node")][Atom("os_pid")]) for node in (often, seldom)]
    before = [sum(clock.cpu_times()[:2]) for clock in clocks]
    time.sleep(WATCHED_S)
    after = [sum(clock.cpu_times()[:2]) for clock in clocks]
    for name, begin, end in zip(("ten times a second", "once a minute"), before, after, strict=True):
        yield f"a whole idle node that looks {name}", "", f"{(end - begin) / WATCHED_S:.2%} of a core"


def main() -> None:
    given = report.options(__doc__, full=9, short=2)
    quiet = ("--telemetry-interval-s", "0")
    often, seldom = start(*quiet), start("--sample-interval-s", "60", *quiet)
    health = often.health()
    shown = [*health[Atom("workers")], health[Atom("node")], health[Atom("forkserver")]]
    rows = [*sampling([int(process[Atom("os_pid")]) for process in shown], given.rounds), *watching(often, seldom)]
    report.publish("watchdog", report.markdown(("what watching takes", "", ""), rows), write=given.write)
    often.close()
    seldom.close()


if __name__ == "__main__":
    main()
