"""Each optimizer through a real node on the demo's tickets, beside the same compile in plain DSPy in one process.

    python benchmarks/optimizers.py [--runs N] [--latency-ms MS] [OPTIMIZER ...]

Prints a table in Markdown: the score on held-out tickets before and after, model calls as the node counts them and as
the endpoint counts them, seconds of both, and their ratio. The endpoint is a real one on a loopback port; behind it
answers the offline LM, after a pause. Both sides are timed from the start of their process to the answer: for the node
that includes its forkserver, for plain DSPy its import. They are measured in turn, and the shorter of the runs counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "programs")]

from node_client import NodeClient  # noqa: E402
from offline_endpoint import OfflineEndpoint  # noqa: E402
from optimizers_plain import ALL, CHOOSE, INSTRUCTIONS, LABELS, LEARN, OPTIONS, THREADS, tickets  # noqa: E402
from program_jobs import Reply, atoms  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402


def through_node(optimizer: str, endpoint: OfflineEndpoint) -> dict[str, Any]:
    """One optimization, from the start of the node to its answer, then the scores on the held-out tickets."""
    rows = tickets()
    signature = {
        "name": "TicketTriage",
        "instructions": INSTRUCTIONS,
        "input_fields": ["subject", "body"],
        "output_fields": [{"name": "category", "enum": list(LABELS)}],
    }
    config: dict[str, Any] = {"lm": endpoint.lm(timeout_ms=60_000), "cache": False, "num_threads": THREADS}
    payload = {
        "signature": signature,
        "training_data": rows[:LEARN],
        "validation_data": rows[LEARN:CHOOSE],
        "config": {**config, "optimizer": optimizer, "options": OPTIONS[optimizer]},
    }
    endpoint.requests.clear()
    with tempfile.TemporaryDirectory() as data:
        began = time.monotonic()
        node = NodeClient("--workers", "1", "--credit", "1000000", data=Path(data))
        node.ready()
        tag, result = node.ask("optimize_signature", atoms(payload))
        seconds = time.monotonic() - began
        assert tag == "ok", result
        arrived = len(endpoint.requests)

        def held_out(source: dict[str, Any]) -> float:
            # Scored by the embedded LM: the same answers, without the pause.
            given = {**source, "data": rows[CHOOSE:ALL], "config": {"lm": Atom("offline")}}
            tag, scored = node.ask("evaluate_pipeline", atoms(given))
            assert tag == "ok", scored
            return float(scored[Atom("score")])

        before = held_out({"signature": signature})
        after = held_out({"program": result[Atom("program_id")].decode()})
        node.close()
    calls = result[Atom("optimization_metrics")][Atom("lm_calls")]
    return {"seconds": seconds, "calls": calls, "arrived": arrived, "before": before, "after": after}


def in_plain_dspy(optimizer: str, endpoint: OfflineEndpoint) -> dict[str, Any]:
    """The same compile in a process of its own, from its start to its end."""
    endpoint.requests.clear()
    began = time.monotonic()
    subprocess.run(
        [sys.executable, str(HERE / "optimizers_plain.py"), optimizer, endpoint.url],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return {"seconds": time.monotonic() - began, "arrived": len(endpoint.requests)}


def row(optimizer: str, endpoint: OfflineEndpoint, runs: int) -> str:
    bridged, bare = [], []
    for _ in range(runs):
        bridged.append(through_node(optimizer, endpoint))
        bare.append(in_plain_dspy(optimizer, endpoint))
    for run in bridged:
        assert run["calls"] == run["arrived"], f"{optimizer}: {run['calls']} calls counted, {run['arrived']} arrived"
    ours, theirs = (min(run["seconds"] for run in measured) for measured in (bridged, bare))
    told = bridged[0]
    options = json.dumps(OPTIONS[optimizer])[1:-1].replace('"', "`")
    return (
        f"| `{optimizer}` | {options} | {told['before']:.1%} | {told['after']:.1%} | {told['calls']} | "
        f"{told['arrived']} | {bare[0]['arrived']} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("optimizers", nargs="*", default=list(OPTIONS), metavar="OPTIMIZER")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=50)
    given = parser.parse_args()
    endpoint = OfflineEndpoint()
    answer = endpoint.default

    def paced(request: dict[str, Any]) -> Reply:
        time.sleep(given.latency_ms / 1000)
        return answer(request)

    endpoint.default = paced
    print(
        "| optimizer | options | before | after | calls, ours | calls, endpoint | calls, plain DSPy | "
        "node, s | plain DSPy, s | ratio |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for optimizer in given.optimizers:
        print(row(optimizer, endpoint, given.runs), flush=True)
    endpoint.close()


if __name__ == "__main__":
    main()
