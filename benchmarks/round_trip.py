"""From a BEAM to a node and back, beside bare echo ports, JSON over a port, and ErlPort, in turn in one run.

    python benchmarks/round_trip.py [--write] [--short] [--gate] [ROUNDS]

Needs `mix` and `cc`. ErlPort is measured where the variable ERLPORT names a checkout of its sources (`src/*.erl` and
`priv/python3/erlport`), which are compiled on the spot. A request and each echo have 300 bytes; the
answer to a health_check has some 1,400. The BEAM's side makes and reads terms, but for the two bare echoes, which are
the floor. What is measured stands in benchmarks/peers/round_trip.exs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from statistics import median

import report

from erlbridge.codec import binary_to_term

PEERS = Path(__file__).resolve().parent / "peers"
FULL, SHORT = (15, 300), (3, 120)
"""Rounds, and the milliseconds that each end has in a round for single requests and for many in flight."""
C, ECHO, JSON, ERLPORT = "a C echo", "a bare Python echo", "JSON, base64, a blocking loop", "ErlPort"
NODE, WORKER, PREDICT = (
    "the node: health_check",
    "through a worker: load_workflow",
    "through a worker: predict, offline",
)
BRIDGE = "`PythonBridge.health_check`"
LARGE_BYTES = 16_000_000

Found = Mapping[str, Mapping[str, list[list[float]] | list[float]]]
"""By end and measure, for each round: seconds of each request, requests per second, seconds of a large one."""


def measured(rounds: int, milliseconds: int) -> Found:
    """Raises LookupError where mix or a C compiler is missing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        echo = folder / "echo"
        subprocess.run([_program("cc"), "-O2", PEERS / "echo.c", "-o", echo], check=True, timeout=60)
        out = folder / "found"
        command = [_program("mix"), "run", PEERS / "round_trip.exs", out, echo, str(rounds), str(milliseconds)]
        environment = {"LC_ALL": "C.UTF-8", "ERLBRIDGE_PYTHON": sys.executable, **os.environ}
        subprocess.run(
            [*command, *_erlport(folder / "erlport")],
            cwd=PEERS.parents[1] / "priv_stub",
            env=environment,
            stdout=sys.stderr,  # what mix says of compiling
            check=True,
            timeout=600,
        )
        whole = binary_to_term(out.read_bytes())
    return {
        end.decode(): {key.decode(): _in_seconds(key, rounds) for key, rounds in by.items()}
        for end, by in whole.items()
    }


def _in_seconds(measure: bytes, values: list) -> list:
    if measure == b"rate":
        return values
    return [[one / 1e9 for one in value] if isinstance(value, list) else value / 1e9 for value in values]


def _erlport(folder: Path) -> Iterator[Path]:
    """The folder of ErlPort's beams and Python half, compiled from the sources that somebody has given."""
    sources = os.environ.get("ERLPORT")
    if not sources:
        print("ErlPort is left out: set ERLPORT to a checkout of its sources to have it measured", file=sys.stderr)
        return
    (folder / "ebin").mkdir(parents=True)
    modules = sorted(Path(sources, "src").glob("*.erl"))
    # It was written for other releases: what it warns of is not ours to mend.
    compiled = subprocess.run(
        [_program("erlc"), "-Dnamespaced_types", "-W0", "-I", Path(sources, "src"), "-o", folder / "ebin", *modules],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if compiled.returncode != 0:
        raise LookupError(f"ErlPort's sources in {sources} do not compile: {compiled.stdout.strip()[:500]}")
    shutil.copytree(Path(sources, "priv", "python3"), folder / "python")
    yield folder


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LookupError(f"this benchmark needs {name} on the path")
    return found


def times(found: Found, end: str) -> tuple[float, float]:
    """The p50 and p99 of an end, of all rounds together, in seconds."""
    every = list(chain.from_iterable(found[end]["single"]))
    return report.percentile(every, 0.5), report.percentile(every, 0.99)


def table(found: Found) -> str:
    """A line for each end, and how it compares with the bare echo in Python."""
    floor = times(found, ECHO)[0]
    rows = []
    for end in (C, ECHO, ERLPORT, JSON, NODE, BRIDGE, WORKER, PREDICT):
        if end not in found:
            continue
        p50, p99 = times(found, end)
        row = [end, report.span(p50), report.span(p99), report.ratio(p50 / floor)]
        rate, large = found[end].get("rate"), found[end].get("large")
        row += [f"{median(rate):,.0f}/s", report.ratio(against(found, end, ECHO, "rate"))] if rate else ["–", "–"]
        row.append(f"{LARGE_BYTES / median(large) / 1e6:,.0f} MB/s" if large else "–")
        rows.append(row)
    return report.markdown(
        (
            "300 bytes, there and back",
            "p50",
            "p99",
            "of the echo's p50",
            "64 in flight",
            "of the echo's",
            "16 MB there",
        ),
        rows,
    )


def against(found: Found, end: str, other: str, measure: str) -> float:
    """The ratio of two ends' medians: of times the p50, else of what the rounds gave."""
    if measure == "single":
        return times(found, end)[0] / times(found, other)[0]
    return median(found[end][measure]) / median(found[other][measure])


def aims(found: Found) -> list[report.Aim]:
    """What a round trip is to cost, in ratios of one run."""
    single, rate, large = "single", "rate", "large"
    wanted = [
        report.Aim(
            "health_check, of the bare Python echo's p50", against(found, NODE, ECHO, single), 2.0, limit=CHECKED
        ),
        report.Aim("the same through `PythonBridge`", against(found, BRIDGE, ECHO, single), 2.0, limit=SUPERVISED),
        report.Aim(
            "through a worker and back, of the echo's p50", against(found, WORKER, ECHO, single), 5.0, limit=HOPS
        ),
        report.Aim(
            "64 in flight, of the echo's rate", against(found, NODE, ECHO, rate), 0.6, at_least=True, limit=CHECKED
        ),
        report.Aim("16 MB, of the echo's time", against(found, NODE, ECHO, large), 1.5, limit=COPIES),
        report.Aim("health_check, of the p50 of JSON", against(found, NODE, JSON, single), 1.0, limit=EMPTY),
        report.Aim("16 MB, of JSON's time", against(found, NODE, JSON, large), 1.0),
    ]
    if ERLPORT in found:
        wanted += [
            report.Aim("health_check, of ErlPort's p50", against(found, NODE, ERLPORT, single), 1.0, limit=EMPTY),
            report.Aim("64 in flight, of ErlPort's rate", against(found, NODE, ERLPORT, rate), 1.0, at_least=True),
        ]
    return wanted


# The limits' names, where an aim is missed.
CHECKED = "the interpreter's time for what an echo leaves out: checks, 40 values looked up and encoded, an audit record"
SUPERVISED = "a bridge process and a caller take turns, four messages for each request"
HOPS = "two pipes and three processes to wake, on two cores"
COPIES = "the node reads a frame into memory of its own, checks its outline and decodes it, where an echo drops it"
EMPTY = "that loop answers with what it was sent, and this with what it has looked up"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    report.takes_flags(parser)
    parser.add_argument("rounds", nargs="?", type=int, metavar="ROUNDS")
    options = parser.parse_args()
    rounds, milliseconds = SHORT if options.short else FULL
    try:
        found = measured(options.rounds or rounds, milliseconds)
    except LookupError as missing:
        print(f"round_trip: {missing}", file=sys.stderr)
        return 2
    wanted = aims(found)
    report.publish("round_trip", table(found), report.aims(wanted), write=options.write)
    return report.gate(wanted) if options.gate else 0


if __name__ == "__main__":
    sys.exit(main())
