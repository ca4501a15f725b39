"""Times of a real node over real pipes, beside those of a bare echo process on the same pipes in the same run.

    python benchmarks/node.py

Start to `{:ready, …}`, start to the first prediction, health_check while every worker optimizes, and how long a killed
worker is missed. What is compared is measured in turn, never one after the other.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node")]

from node_client import NodeClient, alive  # noqa: E402
from tickets import KNOWN, optimization, prediction, slow  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402

STARTS, PINGS, KILLS = 15, 400, 7
ECHO = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"


def milliseconds(seconds: list[float]) -> str:
    values = sorted(second * 1000 for second in seconds)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"median {statistics.median(values):8.2f}   p99 {p99:8.2f}   worst {values[-1]:8.2f} ms"


def start(workers: int = 2) -> NodeClient:
    return NodeClient(
        "--workers", str(workers), "--spare-workers", "0", "--credit", "1000000", data=Path(tempfile.mkdtemp())
    )


def starts() -> tuple[list[float], list[float], list[float]]:
    """Seconds to `ready`, to the first prediction, and what an empty Python takes to start in between."""
    ready, predicted, bare = [], [], []
    for _ in range(STARTS):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.monotonic() - began)
        node = start()
        node.ready()
        ready.append(time.monotonic() - node.started_at)
        assert node.ask("predict", prediction())[0] == "ok"
        predicted.append(time.monotonic() - node.started_at)
        node.close()
    return ready, predicted, bare


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


def replacements(node: NodeClient) -> tuple[list[float], list[float]]:
    """Seconds from a worker's death to its typed error, and to the next prediction served by its replacement."""
    heard, served = [], []
    for _ in range(KILLS):
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


def main() -> None:
    ready, predicted, bare = starts()
    print(f"an empty Python              {milliseconds(bare)}")
    print(f"start to ready               {milliseconds(ready)}")
    print(f"start to first prediction    {milliseconds(predicted)}")
    node = start()
    node.ready()
    node.wait_until_healthy()
    answered, echoed = pings(node)
    print(f"bare echo, idle              {milliseconds(echoed)}")
    print(f"health_check, idle           {milliseconds(answered)}")
    answered, echoed = under_load(node)
    print(f"bare echo, workers busy      {milliseconds(echoed)}")
    print(f"health_check, workers busy   {milliseconds(answered)}")
    node.close()
    single = start(workers=1)
    single.ready()
    heard, served = replacements(single)
    print(f"death to typed error         {milliseconds(heard)}")
    print(f"death to next prediction     {milliseconds(served)}")
    single.close()


if __name__ == "__main__":
    main()
