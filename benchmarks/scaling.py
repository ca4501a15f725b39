"""How work grows with workers: jobs that only compute, and jobs that wait for a model.

    python benchmarks/scaling.py

Rates of a node with one worker and of nodes with more, in turn, each job an evaluation of the demo's tickets on one
thread. Beside the computing ones stands what the machine itself gives: the same number of bare processes that count,
against one. The model is an endpoint on a loopback port that answers after a pause, as often at once as it is asked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from instruments.asking import pipelined
from instruments.costs import cpu_s
from node_client import NodeClient, descendants
from program_jobs import Endpoint, Reply, atoms, category
from report import Aim, aims, gate, markdown, publish, ratio, takes_flags
from tickets import KNOWN, OFFLINE, SIGNATURE

from erlbridge.codec import Atom

CORES = len(os.sched_getaffinity(0))
WAITING = (1, 2, 4, 8)
PAUSE_S = 0.05
JOBS = 10
"""Computing jobs of a round for each worker."""
COUNTING = "for _ in range(40_000_000): pass"


class Paced(Endpoint):
    """Answers each request after a pause, however many there are."""

    def answer(self, request: dict[str, Any], headers: Mapping[str, str]) -> Reply:  # noqa: ARG002 - its shape
        time.sleep(PAUSE_S)
        return category("billing")


def job(examples: int, config: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        Atom("signature"): SIGNATURE,
        Atom("data"): KNOWN[:examples],
        Atom("config"): {**config, Atom("num_threads"): 1, Atom("cache"): False},
    }


def start(stack: ExitStack, workers: int) -> NodeClient:
    """A node whose workers have done a job before."""
    data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    node = NodeClient("--workers", str(workers), "--spare-workers", "0", "--credit", "1000000", data=data)
    stack.callback(node.close)
    node.ready()
    node.wait_until_healthy()
    rate(node, job(20, OFFLINE), 2 * workers)
    return node


def rate(node: NodeClient, payload: object, jobs: int) -> float:
    """Jobs a second, so many of them sent at once."""
    began = time.monotonic()
    pipelined(node, [("evaluate_pipeline", payload, {Atom("progress"): False})] * jobs, jobs)
    return jobs / (time.monotonic() - began)


def bare(processes: int) -> float:
    """Processes a second, all of them started at once."""
    began = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(processes)]
    for process in running:
        process.wait()
    return processes / (time.monotonic() - began)


def computing(rounds: int) -> tuple[Sequence[tuple[str, ...]], float, float]:
    """One worker, and one for each core; the table's rows, the ratio of their rates, and that of bare processes."""
    payload = job(len(KNOWN), OFFLINE)
    with ExitStack() as stack:
        one, all_ = start(stack, 1), start(stack, CORES)
        processes = [all_.node_pid, *descendants(all_.node_pid)]
        before = [cpu_s(pid) for pid in processes]
        rates: dict[str, list[float]] = {"one": [], "all": [], "bare one": [], "bare all": []}
        for _ in range(rounds):
            rates["one"].append(rate(one, payload, JOBS))
            rates["all"].append(rate(all_, payload, JOBS * CORES))
            rates["bare one"].append(bare(1))
            rates["bare all"].append(bare(CORES))
        worked = [cpu_s(pid) - then for pid, then in zip(processes, before, strict=True)]
    median = {name: statistics.median(found) for name, found in rates.items()}
    gained = _median_ratio(rates["all"], rates["one"])
    machine = _median_ratio(rates["bare all"], rates["bare one"])
    rows = [
        ("jobs that compute", "1", f"{median['one']:.1f}/s", ""),
        ("", str(CORES), f"{median['all']:.1f}/s", ratio(gained)),
        (f"bare processes, {CORES} beside 1", "", "", ratio(machine)),
        ("the node's part of the processor time", "", f"{worked[0] / sum(worked):.1%}", ""),
    ]
    return rows, gained, machine


def _median_ratio(more: Sequence[float], less: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(more, less, strict=True))


def waiting(rounds: int, workers: Sequence[int]) -> tuple[Sequence[tuple[str, ...]], float]:
    """Jobs of 10 calls one after the other; the table's rows, and what two workers gain."""
    endpoint = Paced()
    payload = job(10, atoms({"lm": endpoint.lm(timeout_ms=60_000)}))  # type: ignore[arg-type]
    with ExitStack() as stack:
        stack.callback(endpoint.close)
        nodes = {count: start(stack, count) for count in workers}
        rates: dict[int, list[float]] = {count: [] for count in workers}
        for _ in range(rounds):
            for count, node in nodes.items():
                rates[count].append(rate(node, payload, 2 * count))
    alone = rates[workers[0]]
    rows = [
        (
            f"jobs of 10 calls, {PAUSE_S * 1000:.0f} ms each" if count == workers[0] else "",
            str(count),
            f"{statistics.median(rates[count]):.2f}/s",
            ratio(_median_ratio(rates[count], alone)) if count > 1 else "",
        )
        for count in workers
    ]
    return rows, _median_ratio(rates[2], alone)


def main() -> int:
    parser = argparse.ArgumentParser()
    takes_flags(parser)
    given = parser.parse_args()
    rounds = 2 if given.short else 7
    computed, gained, machine = computing(rounds)
    waited, two = waiting(rounds if given.short else 3, WAITING[:2] if given.short else WAITING)
    judged = [
        Aim(
            f"{CORES} workers on {CORES} cores, jobs that compute",
            gained,
            0.9 * CORES,
            at_least=True,
            limit=f"the machine, whose {CORES} cores give bare processes {ratio(machine)}",
            margin=2.0,
        ),
        Aim("2 workers, jobs that wait for a model", two, 1.8, at_least=True, margin=2.0),
    ]
    table = markdown(("", "workers", "rate", "beside one worker"), [*computed, *waited])
    publish("scaling", table, aims(judged), write=given.write)
    return gate(judged) if given.gate else 0


if __name__ == "__main__":
    sys.exit(main())
