"""Times of a real node over real pipes, beside those of a bare echo process on the same pipes in the same run.

    python benchmarks/node.py

Start to `{:ready, …}`, to a worker that has booted, to the first prediction and the first optimization; health_check
while every worker optimizes; how long a killed worker is missed. What is compared is measured in turn.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import instruments  # noqa: F401 - knows where the tests are
from node_client import NodeClient, alive
from report import Aim, aims, gate, markdown, percentile, publish, span, takes_flags
from tickets import KNOWN, optimization, prediction, slow

from erlbridge.codec import Atom

DATA = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
"""Of all nodes here, until this ends."""
STARTS, PINGS, KILLS = 11, 400, 7
READY_S, WARM_S, REPLACED_S = 0.15, 1.5, 0.2
ECHO = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"


def start(workers: int = 2) -> NodeClient:
    data = Path(tempfile.mkdtemp(dir=DATA.name))
    return NodeClient("--workers", str(workers), "--spare-workers", "0", "--credit", "1000000", data=data)


def starts(count: int) -> dict[str, list[float]]:
    """Seconds of each start to what a host waits for, and what an empty Python takes to start in between."""
    found: dict[str, list[float]] = {}

    def since(began: float, what: str) -> None:
        found.setdefault(what, []).append(time.monotonic() - began)

    for _ in range(count):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        since(began, "an empty Python, start to end")
        node = start()
        node.ready()
        since(node.started_at, READY)
        node.wait_until_healthy()
        since(node.started_at, WARM)
        assert node.ask("predict", prediction())[0] == "ok"
        since(node.started_at, "start to the first prediction")
        node.close()
        node = start()
        node.ready()
        assert node.ask("optimize_signature", optimization(24, optimizer=Atom("bootstrap_few_shot")))[0] == "ok"
        since(node.started_at, "start to the first optimization's answer")
        node.close()
    return found


READY, WARM, REPLACED = (
    "start to `{:ready, …}`",
    "start to two workers that have booted",
    "a worker's death to the next prediction, one worker",
)


def ping(node: NodeClient) -> float:
    began = time.perf_counter()
    node.health()
    return time.perf_counter() - began


def pings(node: NodeClient) -> tuple[list[float], list[float]]:
    """Seconds of health_check and of a bare echo of as many bytes, in turn."""
    echo = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert echo.stdin is not None
    assert echo.stdout is not None
    answered, echoed = [], []
    for _ in range(PINGS):
        answered.append(ping(node))
        began = time.perf_counter()
        echo.stdin.write(b"x" * 300)
        os.read(echo.stdout.fileno(), 65536)
        echoed.append(time.perf_counter() - began)
    echo.stdin.close()
    echo.wait()
    return answered, echoed


def under_load(node: NodeClient) -> tuple[list[float], list[float]]:
    """The same while every worker runs MIPROv2 and more of it waits."""
    jobs = []
    answered: list[float] = []
    echoed: list[float] = []
    while len(answered) < PINGS:
        jobs += [node.request("optimize_signature", job()) for _ in range(4)]
        states = {str(worker[Atom("state")]) for worker in node.health()[Atom("workers")]}
        assert states == {"busy"}, states
        more = pings(node)
        answered += more[0]
        echoed += more[1]
    for _ in jobs:
        node.until(lambda term: str(term[0]) == "ok")
    return answered, echoed


def job() -> dict[Any, Any]:
    payload = optimization(optimizer=Atom("mipro_v2"), options={Atom("num_candidates"): 12, Atom("num_trials"): 40})
    return {**payload, Atom("training_data"): KNOWN}


def replacements(node: NodeClient, count: int) -> tuple[list[float], list[float]]:
    """Seconds from a worker's death to its typed error, and to the next prediction served by its replacement."""
    heard, served = [], []
    for _ in range(count):
        node.wait_until_healthy()
        number = node.request("predict", prediction(slow(60_000)))
        (worker,) = (worker for worker in node.health()[Atom("workers")] if worker[Atom("job")] is not None)
        os.kill(worker[Atom("os_pid")], signal.SIGKILL)
        while alive(worker[Atom("os_pid")]):
            pass
        died = time.monotonic()
        tag, _ = node.answer(number)
        assert tag == "error"
        heard.append(time.monotonic() - died)
        assert node.ask("predict", prediction())[0] == "ok"
        served.append(time.monotonic() - died)
    return heard, served


def main() -> int:
    parser = argparse.ArgumentParser()
    takes_flags(parser)
    given = parser.parse_args()
    found = starts(2 if given.short else STARTS)
    node = start()
    node.ready()
    node.wait_until_healthy()
    found["health_check, idle"], found["bare echo, idle"] = pings(node)
    if not given.short:
        found["health_check, workers busy"], found["bare echo, workers busy"] = under_load(node)
    node.close()
    single = start(workers=1)
    single.ready()
    heard, found[REPLACED] = replacements(single, 2 if given.short else KILLS)
    found["a worker's death to its request's typed error"] = heard
    single.close()
    rows = [(name, *(span(percentile(times, part)) for part in (0.5, 0.99, 1.0))) for name, times in found.items()]
    judged = [
        Aim(f"{name}, of {span(aim)}", statistics.median(found[name]) / aim, 1.0, margin=3.0)
        for name, aim in ((READY, READY_S), (WARM, WARM_S), (REPLACED, REPLACED_S))
    ]
    publish("node", markdown(("", "median", "p99", "worst"), rows), aims(judged), write=given.write)
    return gate(judged) if given.gate else 0


if __name__ == "__main__":
    sys.exit(main())
