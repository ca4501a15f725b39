"""What a capture costs: throughput of one node with and without it, in turn.

    python benchmarks/capture.py [ROUNDS]

Three loads, each with 32 requests in flight: health checks, which the node answers itself and which show the worst that
can be; predictions with a model that answers at once; chunks of a transfer. A round is one slice without and one with a
capture, in changing order; told is the median of the rounds' ratios, with its quartiles, and the processor time of the
node and its workers, in which a machine with other work shows less.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node")]

import psutil  # noqa: E402
from node_client import NodeClient  # noqa: E402
from tickets import prediction  # noqa: E402

from erlbridge.codec import Atom  # noqa: E402

IN_FLIGHT = 32
CHUNK = bytes(range(256)) * 4096


def flood(node: NodeClient, requests: Iterator[tuple[str, object]], count: int) -> float:
    """Requests a second, answered."""
    began = time.perf_counter()
    sent = answered = 0
    terms = node.terms()
    while answered < count:
        while sent < count and sent - answered < IN_FLIGHT:
            node.request(*next(requests))
            sent += 1
        kind = str(next(terms)[0])
        assert kind != "error"
        answered += kind == "ok"
    return count / (time.perf_counter() - began)


def health_checks() -> Iterator[tuple[str, object]]:
    while True:
        yield "health_check", {}


def predictions() -> Iterator[tuple[str, object]]:
    payload = prediction()
    while True:
        yield "predict", payload


def chunks() -> Iterator[tuple[str, object]]:
    """Datasets of sixteen lines of 64 KiB, one chunk each."""
    index = 0
    while True:
        data = b"".join(b'{"question": "%d %s"}\n' % (index * 16 + line, b"x" * 65_000) for line in range(16))
        yield (
            "data_chunk",
            {
                Atom("transfer"): b"bench-%d" % index,
                Atom("chunk_index"): 0,
                Atom("data"): data,
                Atom("is_final"): True,
            },
        )
        index += 1


LOADS: dict[str, tuple[Callable[[], Iterator[tuple[str, object]]], int]] = {
    "health_check": (health_checks, 4000),
    "predict": (predictions, 300),
}


def cpu_s(node: NodeClient) -> float:
    """Processor seconds of the node and its workers since they started."""
    root = psutil.Process(node.node_pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def switch(node: NodeClient, mode: str) -> dict[object, object]:
    status, answer = node.ask("capture", {Atom("mode"): Atom(mode)})
    assert status == "ok", answer
    return dict(answer)


def measure(rounds: int) -> None:
    data = Path(tempfile.mkdtemp())
    node = NodeClient("--workers", "2", "--spare-workers", "0", "--credit", "1000000", data=data)
    node.ready()
    node.wait_until_healthy()
    for name, (requests, count) in LOADS.items():
        source = requests()
        flood(node, source, count)
        plain, ratios = [], []
        spent = {"on": 0.0, "off": 0.0}
        lost = 0
        for number in range(rounds):
            rates: dict[str, float] = {}
            for mode in ("off", "on") if number % 2 else ("on", "off"):
                switch(node, mode)
                before = cpu_s(node)
                rates[mode] = flood(node, source, count)
                spent[mode] += cpu_s(node) - before
                lost += int(switch(node, "off").get(Atom("lost"), 0))  # type: ignore[call-overload]
            plain.append(rates["off"])
            ratios.append(rates["on"] / rates["off"])
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:13} {statistics.median(plain):9.0f}/s without; with a capture {middle:6.1%} of that "
            f"({low:.1%} to {high:.1%}), {lost} frames lost; "
            f"processor time {spent['on'] / spent['off']:.1%}, "
            f"{(spent['on'] - spent['off']) / count / rounds * 1e6:.1f} µs more of {spent['off'] / count / rounds * 1e6:.0f}"
        )
    node.close()


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
