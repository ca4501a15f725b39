"""What a node and its workers hold in memory: at rest, after jobs, and over as many requests as a day may have.

    python benchmarks/memory.py [--predictions N] [--requests N]

Private is what goes with a process and is shared with none; a worker shares DSPy with the forkserver and the others. A
day's worth is a minute or two of as many requests: 86,400 that the node answers, one for each second, and predictions
each with another input, so that each is asked of an endpoint on a loopback port and its answer kept; then the same
inputs again, answered by what was kept. No worker is replaced meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from instruments.asking import pipelined
from instruments.costs import private_bytes, proportional_bytes, resident_bytes
from node_client import NodeClient, descendants
from program_jobs import Endpoint, atoms
from report import Aim, aims, at_least, gate, markdown, publish, refuse_part, span, takes_flags
from tickets import SIGNATURE, TICKETS, optimization, prediction

from erlbridge.codec import Atom

MB = 1e6
NODE_MB, WORKER_MB = 40, 30
"""The aims: all of a node, and what is a worker's own."""
GROWN = 0.05
"""How much more than after the first tenth is still flat."""
REQUESTS, PREDICTIONS = 86_400, 5_000
SLICES, BATCH, IN_FLIGHT = 20, 250, 64


def megabytes(size: float) -> str:
    return f"{size / MB:.1f} MB"


def start(data: str, workers: int) -> NodeClient:
    settings = ("--spare-workers", "0", "--recycle-after-jobs", "0", "--credit", "1000000")
    node = NodeClient("--workers", str(workers), *settings, data=Path(data))
    node.ready()
    node.wait_until_healthy()
    return node


def workers_of(node: NodeClient) -> list[int]:
    return [int(worker[Atom("os_pid")]) for worker in node.health()[Atom("workers")]]


# -- at rest, and after jobs


def shares() -> tuple[str, list[Aim]]:
    """The table of processes, and the aims."""
    rows: list[tuple[str, ...]] = []

    def told(what: str, pids: Sequence[int]) -> list[int]:
        """Of several processes the largest."""
        found = [max(map(measure, pids)) for measure in (resident_bytes, private_bytes, proportional_bytes)]
        rows.append((what, *map(megabytes, found)))
        return found

    with tempfile.TemporaryDirectory() as data:
        node = start(data, 2)
        told("guardian", [node.process.pid])
        at_rest = told("node at rest, two workers", [node.node_pid])
        workers = workers_of(node)
        (forkserver,) = descendants(node.node_pid) - set(workers)
        told("forkserver, DSPy loaded", [forkserver])
        told("worker that has booted", workers)
        pipelined(node, [("predict", prediction(), None)] * 200, len(workers))
        predicted = told("after 100 predictions of each", workers)
        optimized = optimization(
            24, optimizer=Atom("mipro_v2"), options={Atom("num_candidates"): 4, Atom("num_trials"): 6}
        )
        pipelined(node, [("optimize_signature", optimized, None)] * len(workers), len(workers))
        imported = told("after a MIPROv2 of each", workers)
        told("node after all of that", [node.node_pid])
        node.close()
    judged = [
        Aim(f"node at rest, of {NODE_MB} MB", at_rest[0] / MB / NODE_MB, 1.0, margin=2.0),
        Aim(f"a worker's own after predictions, of {WORKER_MB} MB", predicted[1] / MB / WORKER_MB, 1.0, margin=2.0),
        Aim("the same after a MIPROv2", imported[1] / MB / WORKER_MB, 1.0, margin=2.0),
    ]
    return markdown(("", "resident", "private", "by its part of what is shared"), rows), judged


# -- a day's worth


def day(requests: int, predictions: int) -> tuple[str, list[Aim]]:
    """The table of what is resident on the way, and the aims."""
    endpoint = Endpoint()
    rows, judged = [], []

    def went(what: str, pid: int, count: int, batch: int, work: Callable[[int], None]) -> None:
        began = time.monotonic()
        sizes = []
        for first in range(0, count, batch):
            work(first)
            sizes.append(resident_bytes(pid))
        each = (time.monotonic() - began) / count
        warm = sizes[len(sizes) // 10]  # after a tenth: pools, pages and first-time imports are there
        shown = (warm, sizes[len(sizes) // 2], sizes[-1])
        rows.append((what, f"{count:,}", span(each), *map(megabytes, shown), f"{sizes[-1] / warm - 1:+.1%}"))
        judged.append(Aim(f"{what}: the end beside a tenth", sizes[-1] / warm, 1 + GROWN, margin=1.2))

    with tempfile.TemporaryDirectory() as data:
        node = start(data, 1)
        (worker,) = workers_of(node)
        config = atoms({"lm": endpoint.lm(timeout_ms=60_000)})
        went(
            "node, requests that it answers",
            node.node_pid,
            requests,
            requests // SLICES,
            lambda _: ask(node, requests // SLICES),
        )

        def predict(first: int) -> None:
            payload = {Atom("signature"): SIGNATURE, Atom("inputs"): inputs(first), Atom("config"): config}
            tag, result = node.ask("predict", payload)
            assert tag == "ok", result
            endpoint.requests.clear()
            endpoint.headers.clear()
            node.events.clear()

        went("worker, predictions asked of an endpoint", worker, predictions, BATCH, predict)
        went("worker, the same from kept answers", worker, predictions, BATCH, predict)
        kept = sum(path.stat().st_size for path in Path(data).rglob("*") if path.is_file())
        node.close()
    endpoint.close()
    heads = ("", "how many", "each", "after a tenth", "after a half", "at the end", "")
    return f"{markdown(heads, rows)}\n\nOn the disk lie {megabytes(kept)} of answers.", judged


def ask(node: NodeClient, count: int) -> None:
    """So many requests: half health checks, the others lists and statistics."""
    verbs = ("health_check", "list_programs", "health_check", "stats")
    pipelined(node, ((verbs[number % len(verbs)], {}, None) for number in range(count)), IN_FLIGHT)


def inputs(first: int) -> list[dict[Atom, bytes]]:
    """A batch of tickets, each another one."""
    row = TICKETS[0]
    subject, body = row[Atom("subject")], row[Atom("body")]
    return [{Atom("subject"): subject, Atom("body"): b"%s (%d)" % (body, first + n)} for n in range(BATCH)]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--predictions", type=at_least(BATCH), metavar="N", help=f"{PREDICTIONS:,}")
    parser.add_argument("--requests", type=at_least(SLICES), metavar="N", help=f"{REQUESTS:,}")
    takes_flags(parser)
    given = parser.parse_args()
    refuse_part(
        parser,
        given,
        (given.requests or REQUESTS) < REQUESTS and f"--requests of at least {REQUESTS}",
        (given.predictions or PREDICTIONS) < PREDICTIONS and f"--predictions of at least {PREDICTIONS}",
    )
    held, judged = shares()
    over_day, flat = day(
        given.requests or (2_000 if given.short else REQUESTS),
        given.predictions or (500 if given.short else PREDICTIONS),
    )
    judged += flat
    publish("memory", held, over_day, aims(judged), write=given.write)
    return gate(judged) if given.gate else 0


if __name__ == "__main__":
    sys.exit(main())
