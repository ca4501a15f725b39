"""Each optimizer through a real node on the demo's tickets, beside the same compile in plain DSPy in one process.

    python benchmarks/optimizers.py [--runs N] [--latency-ms MS] [OPTIMIZER ... | all]

The endpoint is a real one on a loopback port; behind it answers the offline LM, after a pause. Two ratios: of the
compile alone, from the request to the answer at a node whose worker has booted, beside plain DSPy after its import; and
of all, from the start of the process, the node's forkserver and plain DSPy's import included. They are measured in
turn, and the shorter of the runs counts. Processor time is that of node and worker, and of the plain process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instruments.costs import cpu_s
from node_client import NodeClient, descendants
from offline_endpoint import OfflineEndpoint
from peers.plain_dspy import ALL, CHOOSE, INSTRUCTIONS, LABELS, LEARN, OPTIONS, THREADS, tickets
from program_jobs import Reply, atoms
from report import Aim, aims, at_least, count, gate, markdown, publish, ratio, refuse_part, takes_flags

from erlbridge.codec import Atom

PLAIN = Path(__file__).resolve().parent / "peers" / "plain_dspy.py"
CHOSEN = ("labeled_few_shot", "bootstrap_few_shot_with_random_search", "mipro_v2")
"""A short one and two long ones: all of them take ten minutes."""
SHORT = ("bootstrap_few_shot",)
RUNS, LATENCY_MS = 3, 50


@dataclass(frozen=True, slots=True)
class Run:
    """One compile: seconds of all of it, of the compile alone and of the processor, and the calls that arrived."""

    whole_s: float
    compile_s: float
    cpu_s: float
    arrived: int


@dataclass(frozen=True, slots=True)
class Scored:
    """What a compile through the node was worth: held-out scores before and after, and the calls that it counted."""

    before: float
    after: float
    calls: int


def through_node(optimizer: str, endpoint: OfflineEndpoint) -> tuple[Run, Scored]:
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
        node = NodeClient("--workers", "1", "--spare-workers", "0", "--credit", "1000000", data=Path(data))
        node.ready()
        node.wait_until_healthy()
        processes = [node.node_pid, *descendants(node.node_pid)]
        asked, worked = time.monotonic(), sum(map(cpu_s, processes))
        tag, result = node.ask("optimize_signature", atoms(payload))
        ended = time.monotonic()
        assert tag == "ok", result
        run = Run(ended - began, ended - asked, sum(map(cpu_s, processes)) - worked, len(endpoint.requests))

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
    assert calls == run.arrived, f"{optimizer}: {calls} calls counted, {run.arrived} arrived"
    return run, Scored(before, after, calls)


def in_plain_dspy(optimizer: str, endpoint: OfflineEndpoint) -> Run:
    """The same compile in a process of its own, from its start to its end."""
    endpoint.requests.clear()
    began = time.monotonic()
    command = [sys.executable, str(PLAIN), optimizer, endpoint.url]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    compile_s, worked_s = map(float, ran.stdout.split()[-2:])
    return Run(time.monotonic() - began, compile_s, worked_s, len(endpoint.requests))


@dataclass(frozen=True, slots=True)
class Compared:
    """An optimizer both ways, the shortest of the runs of each."""

    optimizer: str
    scored: Scored
    ours: Run
    plain: Run

    @property
    def compile(self) -> float:
        return self.ours.compile_s / self.plain.compile_s

    @property
    def whole(self) -> float:
        return self.ours.whole_s / self.plain.whole_s

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        options = json.dumps(OPTIONS[self.optimizer])[1:-1].replace('"', "`")
        return (
            f"`{self.optimizer}`",
            options,
            f"{self.scored.before:.1%}",
            f"{self.scored.after:.1%}",
            str(self.scored.calls),
            str(self.plain.arrived),
            *(f"{ours:.2f} / {plain:.2f}" for ours, plain in (
                (self.ours.compile_s, self.plain.compile_s),
                (self.ours.whole_s, self.plain.whole_s),
                (self.ours.cpu_s, self.plain.cpu_s),
            )),
            ratio(self.compile),
            ratio(self.whole),
        )  # fmt: skip


HEADS = (
    "optimizer",
    "options",
    "before",
    "after",
    "calls",
    "calls, plain DSPy",
    "compile, s: node / plain",
    "with the start, s",
    "processor, s",
    "compile",
    "with the start",
)


def compare(optimizer: str, endpoint: OfflineEndpoint, runs: int) -> Compared:
    ours, plain = [], []
    for _ in range(runs):
        run, scored = through_node(optimizer, endpoint)
        ours.append(run)
        plain.append(in_plain_dspy(optimizer, endpoint))
    return Compared(optimizer, scored, _shortest(ours), _shortest(plain))


def _shortest(runs: list[Run]) -> Run:
    """What disturbs only adds: of each figure the least."""
    return Run(
        min(run.whole_s for run in runs),
        min(run.compile_s for run in runs),
        min(run.cpu_s for run in runs),
        runs[0].arrived,
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER", help=f"all, or some of {', '.join(OPTIONS)}")
    parser.add_argument("--runs", type=count, metavar="N", help=f"{RUNS} of each; 2 where it is short")
    parser.add_argument("--latency-ms", type=at_least(0), default=LATENCY_MS, metavar="MS", help=f"{LATENCY_MS}")
    takes_flags(parser)
    given = parser.parse_args()
    names = given.optimizers or (SHORT if given.short else CHOSEN)
    names = list(OPTIONS) if names == ["all"] else names
    if unknown := set(names) - set(OPTIONS):
        parser.error(f"no optimizer here: {', '.join(sorted(unknown))}; there are {', '.join(OPTIONS)}")
    runs = given.runs or (2 if given.short else RUNS)
    refuse_part(
        parser,
        given,
        not set(CHOSEN) <= set(names) and f"all of {', '.join(CHOSEN)}",
        runs < RUNS and f"--runs of at least {RUNS}",
        given.latency_ms != LATENCY_MS and f"--latency-ms {LATENCY_MS}",
    )
    endpoint = OfflineEndpoint()
    answer = endpoint.default

    def paced(request: dict[str, Any]) -> Reply:
        time.sleep(given.latency_ms / 1000)
        return answer(request)

    endpoint.default = paced
    found = []
    for name in names:
        found.append(compare(name, endpoint, runs))
        print(
            f"{name}: {ratio(found[-1].compile)}, with the start {ratio(found[-1].whole)}", file=sys.stderr, flush=True
        )
    endpoint.close()
    judged = [
        Aim(
            "a compile, beside plain DSPy; median",
            statistics.median(one.compile for one in found),
            1.05,
            limit="a millisecond a call of a model: its cost is booked, its progress told, its budget looked at",
            margin=2.0,
        ),
        Aim(
            "the same with the start of the processes; median",
            statistics.median(one.whole for one in found),
            1.05,
            limit="the forkserver's import of DSPy and a fork, which a node pays once in its life",
            margin=2.0,
        ),
    ]
    publish("optimizers", markdown(HEADS, [one.cells() for one in found]), aims(judged), write=given.write)
    return gate(judged) if given.gate else 0


if __name__ == "__main__":
    sys.exit(main())
