"""What a capture costs: throughput of one node with and without it, in turn.

    python benchmarks/capture.py [ROUNDS]

Three loads, each with 16 requests in flight: health checks, which the node answers itself and which show the worst that
can be; predictions with a model that answers at once; chunks of a transfer, 1 MiB each. A round is one slice without
and one with a capture, in changing order; told is the median of the rounds' ratios, with its quartiles, and the node's
processor time for a request, by the lower quartile of the slices: other work of the machine only ever adds to it.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import report

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS), str(TESTS / "node")]

from node_client import NodeClient  # noqa: E402
from tickets import prediction  # noqa: E402

from erlbridge.codec import Atom, term_to_binary  # noqa: E402

IN_FLIGHT = 16


def flood(node: NodeClient, requests: Iterator[tuple[str, object]], count: int) -> float:
    """Requests a second, answered."""
    began = time.perf_counter()
    sent = answered = 0
    terms = node.terms()
    while answered < count:
        while sent < count and sent - answered < IN_FLIGHT:
            node.request(*next(requests))
            sent += 1
        answer = next(terms)
        kind = str(answer[0])
        assert kind != "error", answer
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
    example = term_to_binary({Atom("question"): b"what is it " * 90})
    data = (len(example).to_bytes(4) + example) * 1000
    for index in itertools.count():
        chunk = {"transfer": b"a dataset", "chunk_index": index, "data": data, "compression": Atom("none")}
        yield "data_chunk", {Atom(name): value for name, value in chunk.items()}


LOADS: dict[str, tuple[Callable[[], Iterator[tuple[str, object]]], int]] = {
    "health checks, a frame of 24 bytes and one of 1,400": (health_checks, 1000),
    "predictions, some 10 frames each": (predictions, 100),
    "chunks of 1 MiB, of which 32 KiB are kept": (chunks, 50),
}
"""What is asked, and how often in a slice."""


def cpu_s(node: NodeClient) -> float:
    """Processor seconds of the node's threads since they started, as the kernel's scheduler counts them."""
    threads = Path(f"/proc/{node.node_pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def switch(node: NodeClient, mode: str) -> dict[object, object]:
    status, answer = node.ask("capture", {Atom("mode"): Atom(mode)})
    assert status == "ok", answer
    return dict(answer)


def measure(rounds: int) -> Iterator[tuple[str, ...]]:
    """A line of the table for each load."""
    directory = tempfile.TemporaryDirectory()
    data = Path(directory.name)
    node = NodeClient("--workers", "2", "--spare-workers", "0", "--credit", "1000000", data=data)
    node.ready()
    node.wait_until_healthy()
    for name, (requests, count) in LOADS.items():
        source = requests()
        flood(node, source, count)
        plain, ratios = [], []
        spent: dict[str, list[float]] = {"on": [], "off": []}
        lost = 0
        for number in range(rounds):
            rates: dict[str, float] = {}
            for mode in ("off", "on") if number % 2 else ("on", "off"):
                switch(node, mode)
                before = cpu_s(node)
                rates[mode] = flood(node, source, count)
                spent[mode].append((cpu_s(node) - before) / count * 1e6)
                lost += int(switch(node, "off").get(Atom("lost"), 0))  # type: ignore[call-overload]
            plain.append(rates["off"])
            ratios.append(rates["on"] / rates["off"])
        low, middle, high = statistics.quantiles(ratios, n=4)
        plain_us, on_us = (statistics.quantiles(spent[mode], n=4)[0] for mode in ("off", "on"))
        rate = f"{statistics.median(plain):,.0f}/s"
        share, spread = f"{middle:.1%}", f"{low:.1%} to {high:.1%}"
        yield name, rate, share, spread, f"{plain_us:.0f} µs", f"{on_us - plain_us:+.1f} µs", str(lost)
    node.close()
    directory.cleanup()


def main() -> None:
    given = report.options(__doc__, full=40, short=4)
    heads = (
        "",
        "without",
        "rate with a capture",
        "quartiles",
        "processor time without",
        "with a capture",
        "frames lost",
    )
    report.publish("capture", report.markdown(heads, measure(max(2, given.rounds))), write=given.write)


if __name__ == "__main__":
    main()
