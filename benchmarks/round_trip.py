"""From a BEAM to a node and back, beside bare echo ports, JSON over a port, and ErlPort, in turn in one run.

    python benchmarks/round_trip.py [--write | --short] [--gate] [ROUNDS]

Needs `mix` and `cc`. ErlPort is measured where the variable ERLPORT names a checkout of its sources (`src/*.erl` and
`priv/python3/erlport`), which are compiled on the spot. A request and each echo have 300 bytes; the answer to a
health_check has some 1,400. The BEAM's side makes and reads terms, but for the two bare echoes, which are the
floor, and a relay of two of them, the floor of what a worker does. What is measured stands in
benchmarks/peers/round_trip.exs.
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
from typing import Any

import report

from erlbridge.codec import binary_to_term
from erlbridge.tools.bench import EXIT_CANNOT

PEERS = Path(__file__).resolve().parent / "peers"
ROUNDS = {"full": 15, "short": 3}
MILLISECONDS = {"full": 300, "short": 120}
"""What each end has in a round for single requests, for those now and then, and for many in flight."""
C, ECHO, RELAY = "a C echo", "a bare Python echo", "a relay of two bare Python echoes"
JSON, ERLPORT = "JSON, base64, a blocking loop", "ErlPort"
NODE, WORKER, PREDICT = (
    "the node: health_check",
    "through a worker: load_workflow",
    "through a worker: predict, offline",
)
BRIDGE = "`PythonBridge.health_check`"
LARGE_BYTES = 16_000_000

Found = Mapping[str, Mapping[str, list[list[float]] | list[float]]]
"""By end and measure, for each round: seconds of each request, one by one (`single`) and now and then
(`paced`); with 64 in flight requests per second (`rate`) and processor seconds of the other end for one (`work`); and
seconds of a large one (`large`)."""


def measured(rounds: int, milliseconds: int, erlport: str | None) -> Found:
    """Raises LookupError where mix or a C compiler is missing, or where ErlPort does not compile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # where it is ended, nodes still write there
        folder = Path(name)
        echo = folder / "echo"
        subprocess.run([_program("cc"), "-O2", PEERS / "echo.c", "-o", echo], check=True, timeout=60)
        out = folder / "found"
        command = [_program("mix"), "run", PEERS / "round_trip.exs", out, echo, str(rounds), str(milliseconds)]
        environment = {"LC_ALL": "C.UTF-8", "ERLBRIDGE_PYTHON": sys.executable, **os.environ}
        subprocess.run(
            [*command, *_erlport(folder / "erlport", erlport)],
            cwd=PEERS.parents[1] / "priv_stub",
            env=environment,
            stdout=sys.stderr,  # what mix says of compiling
            check=True,
            timeout=300 + 30 * rounds,
        )
        whole = binary_to_term(out.read_bytes())
    return {
        end.decode(): {key.decode(): _in_seconds(key, rounds) for key, rounds in by.items()}
        for end, by in whole.items()
    }


def _in_seconds(measure: bytes, values: list) -> list:
    if measure == b"rate":  # which is a number of them in a second already
        return values
    return [[one / 1e9 for one in value] if isinstance(value, list) else value / 1e9 for value in values]


def _erlport(folder: Path, sources: str | None) -> Iterator[Path]:
    """A folder `erlport` as a release has it, compiled from the sources that somebody has given; none if nobody has."""
    if not sources:
        print("ErlPort is left out: set ERLPORT to a checkout of its sources to have it measured", file=sys.stderr)
        return
    modules = sorted(Path(sources, "src").resolve().glob("*.erl"))
    (folder / "ebin").mkdir(parents=True)
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
    shutil.copytree(Path(sources, "priv"), folder / "priv")
    yield folder


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LookupError(f"this benchmark needs {name} on the path")
    return found


def p50(found: Found, end: str, measure: str) -> float:
    """Of all rounds together for single requests, else the median of the rounds."""
    values = found[end][measure]
    return report.percentile(chain.from_iterable(values), 0.5) if measure in ("single", "paced") else median(values)


def against(found: Found, end: str, other: str, measure: str) -> float:
    """The ratio of two ends' p50."""
    return p50(found, end, measure) / p50(found, other, measure)


def table(found: Found) -> str:
    """A line for each end, and how it compares with the bare echo in Python."""
    rows = []
    for end in (C, ECHO, RELAY, ERLPORT, JSON, NODE, BRIDGE, WORKER, PREDICT):
        if end not in found:
            continue
        row = [end]
        for measure in ("single", "paced"):
            late = report.percentile(chain.from_iterable(found[end][measure]), 0.99)
            ratio = report.ratio(against(found, end, ECHO, measure))
            row.append(f"{report.span(p50(found, end, measure))} ({report.span(late)}), {ratio}")
        if found[end]["rate"]:
            row.append(f"{p50(found, end, 'rate'):,.0f}/s, {report.ratio(against(found, end, ECHO, 'rate'))}")
            row.append(report.span(p50(found, end, "work")))
        else:
            row += ["–", "–"]
        row.append(f"{LARGE_BYTES / p50(found, end, 'large') / 1e6:,.0f} MB/s" if found[end]["large"] else "–")
        rows.append(row)
    heads = (
        "300 bytes",
        "one by one",
        "one every 3 ms",
        "64 in flight",
        "its processor time for one",
        "16 MB",
    )
    return report.markdown(heads, rows)


def aims(found: Found) -> list[report.Aim]:
    """What a round trip is to cost, in ratios of one run.

    Times move with whatever else the machine does, and those that miss their aim by far need a wide margin besides.
    What the gate watches closely is processor time, in which is no waiting, and a worker's p50 beside the relay's where
    both have slept, which stays also on a busy machine.
    """

    def aim(what: str, end: str, other: str, measure: str, wanted: float, **more: Any) -> report.Aim:
        return report.Aim(what, against(found, end, other, measure), wanted, **more)

    def hops(measure: str) -> str:
        relayed = report.ratio(against(found, RELAY, ECHO, measure))
        return f"{HOPS}; the ways between them alone, as of the relay, take {relayed}"

    paced, single = hops("paced"), hops("single")
    wanted = [
        aim("health_check: the echo's p50, one by one", NODE, ECHO, "single", 2.0, limit=CHECKED, margin=30),
        aim("health_check: the echo's p50, one every 3 ms", NODE, ECHO, "paced", 2.0, limit=COLD, margin=30),
        aim("`PythonBridge`: the echo's p50, one by one", BRIDGE, ECHO, "single", 2.0, limit=TURNS, margin=60),
        aim("`PythonBridge`: the echo's p50, one every 3 ms", BRIDGE, ECHO, "paced", 2.0, limit=COLD, margin=60),
        aim("through a worker: the echo's p50, one by one", WORKER, ECHO, "single", 5.0, limit=single, margin=100),
        aim("through a worker: the echo's p50, one every 3 ms", WORKER, ECHO, "paced", 5.0, limit=paced, margin=30),
        aim("through a worker: the relay's p50, one by one", WORKER, RELAY, "single", 3.0, limit=WORK, margin=50),
        aim("through a worker: the relay's p50, one every 3 ms", WORKER, RELAY, "paced", 3.0, limit=WORK, margin=10),
        aim("64 in flight: the echo's rate", NODE, ECHO, "rate", 0.6, limit=TERMS, at_least=True, margin=100),
        aim("64 in flight: the JSON loop's processor time for one", NODE, JSON, "work", 3.0, limit=CHECKED),
        aim("the same through a worker, its own included", WORKER, JSON, "work", 40.0, limit=HOPS),
        aim("16 MB: the echo's time", NODE, ECHO, "large", 1.5, limit=COPIES, margin=8),
    ]
    for peer, name in ((JSON, "the JSON loop"), (ERLPORT, "ErlPort")):
        if peer in found:
            wanted += [
                aim(f"health_check: {name}'s p50, one by one", NODE, peer, "single", 1.0, limit=CHECKED, margin=30),
                aim(f"health_check: {name}'s p50, one every 3 ms", NODE, peer, "paced", 1.0, limit=COLD, margin=30),
                aim(f"64 in flight: {name}'s rate", NODE, peer, "rate", 1.0, limit=CHECKED, at_least=True, margin=20),
                aim(f"16 MB: {name}'s time", NODE, peer, "large", 1.0),
            ]
    return wanted


# The limits' names, where an aim is missed.
CHECKED = "the interpreter's time for what an echo leaves out: checks, 40 values looked up and encoded, an audit record"
TERMS = "decoding the request and encoding its answer, both in C, take as long as it leaves for all"
COLD = "sleep: the more functions a request passes through, the more of them the processor has forgotten (`sleep`)"
TURNS = "a bridge process and a caller take turns, four messages for each request"
WORK = "both check, decode and encode what a relay hands on as it is, and the worker does the job"
HOPS = "the work of node and worker, which are both the interpreter's, and three processes to wake"
COPIES = "the node reads a frame into memory of its own, checks its outline and decodes it, where an echo drops it"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    report.takes_flags(parser)
    report.takes_rounds(parser, **ROUNDS)
    options = parser.parse_args()
    report.settle_rounds(parser, options, **ROUNDS)
    sources = os.environ.get("ERLPORT")
    if sources and not (Path(sources, "src", "python.erl").is_file() and Path(sources, "priv", "python3").is_dir()):
        parser.error(f"{sources}, which ERLPORT names, has no src/python.erl and priv/python3")
    try:
        found = measured(options.rounds, MILLISECONDS["short" if options.short else "full"], sources)
    except LookupError as missing:
        print(f"round_trip: {missing}", file=sys.stderr)
        return EXIT_CANNOT
    wanted = aims(found)
    report.publish("round_trip", table(found), report.aims(wanted), write=options.write)
    return report.gate(wanted) if options.gate else 0


if __name__ == "__main__":
    sys.exit(main())
