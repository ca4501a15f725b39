"""What a sleep costs the code that runs after it: the same work at once, after looking at the clock, and after sleeps.

    python benchmarks/sleep.py [--write | --short] [ROUNDS]

The work is none of ours, and the process speaks with nobody: few functions of the standard library over and over, and
many of them once each. So what is found here is what every Python program pays that waits for others, a node too.
"""

from __future__ import annotations

import ast
import configparser
import copy
import email
import fractions
import shlex
import string
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import datetime
from statistics import median
from typing import Final

import report

FULL, SHORT = 20, 3
TIMES: Final = 20
"""Of each work after each way to wait, in a round."""
AWAKE_S: Final = 0.0002
SLEPT_S: Final = (0.00005, 0.0002, 0.001, 0.003)
VALUE: Final = {"name": "w", "steps": [{"name": str(number), "fields": [number, None, "x"]} for number in range(4)]}


def few() -> None:
    """The same functions for each part of a value."""
    copy.deepcopy(VALUE)


def many() -> None:
    """Functions of seven modules, nearly each once."""
    email.message_from_string("Subject: s\n\nbody")
    ast.literal_eval("{'a': [1, -2]}")
    string.Template("$a and ${b}").substitute(a=1, b=2)
    textwrap.fill("some words that are wrapped", 12)
    shlex.split("a 'b c'")
    datetime.strptime("2026-01-02", "%Y-%m-%d").isoformat()
    fractions.Fraction("1/3").limit_denominator(2)
    configparser.ConfigParser().read_string("[a]\nb = c")


def awake() -> None:
    """Lets as much time pass as a short sleep."""
    until = time.perf_counter() + AWAKE_S
    while time.perf_counter() < until:
        pass


def asleep(seconds: float) -> Callable[[], None]:
    """A way to let so much time pass."""
    return lambda: time.sleep(seconds)


WORKS: Final = {"few functions, often": few, "many functions, once": many}
WAYS: Final[dict[str, Callable[[], None]]] = {
    "at once": lambda: None,
    f"after {report.span(AWAKE_S)} awake": awake,
    **{f"after {report.span(seconds)} asleep": asleep(seconds) for seconds in SLEPT_S},
}


def measured(rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by work and by what came before it; in turn, so that a machine whose speed drifts slows all."""
    found: dict[tuple[str, str], list[float]] = {(work, way): [] for work in WORKS for way in WAYS}
    for _ in range(rounds):
        for (work, way), times in found.items():
            for _ in range(TIMES):
                WAYS[way]()
                began = time.perf_counter()
                WORKS[work]()
                times.append(time.perf_counter() - began)
    return found


def main() -> int:
    options = report.options(__doc__, full=FULL, short=SHORT)
    found = {key: median(times) for key, times in measured(options.rounds).items()}
    rows = [
        [
            work,
            *(
                f"{report.span(found[work, way])}, {report.ratio(found[work, way] / found[work, 'at once'])}"
                for way in WAYS
            ),
        ]
        for work in WORKS
    ]
    report.publish("sleep", report.markdown(("the same work", *WAYS), rows), write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
