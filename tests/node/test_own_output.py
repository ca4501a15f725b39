"""The node's own standard output: read by itself, never waited for, and given back before a crash is told of."""

from __future__ import annotations

import subprocess
import sys

PROLOGUE = """
import os, selectors, signal, sys
from erlbridge.node.output import OwnOutput
selector, told = selectors.PollSelector(), []
def turn():
    while found := selector.select(0):
        for key, events in found:
            key.data(events)
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + body], capture_output=True, text=True, timeout=60, check=False
    )


def test_ten_megabytes_in_one_turn_are_not_waited_for() -> None:
    ran = run(
        """
with OwnOutput(selector, lambda lines, dropped: told.append((len(lines), dropped))):
    for _ in range(100_000):
        print("x" * 99)
    turn()
print(500 <= sum(lines for lines, _ in told) < 1000, sum(map(sum, told)) > 5000)
"""
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("True True\n", "", 0)


def test_a_crash_is_told_where_somebody_reads_it() -> None:
    ran = run(
        """
with OwnOutput(selector, lambda lines, dropped: told.extend(lines)):
    print("read by the node")
    turn()
    sys.stderr.write("nobody has read this yet")
    raise ValueError("the end")
"""
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("nobody has read this yet\nTraceback")
    assert ran.stderr.endswith("ValueError: the end\n")
    assert ran.stdout == ""


def test_a_fatal_signals_traceback_is_told_there_too() -> None:
    ran = run(
        """
with OwnOutput(selector, lambda lines, dropped: None):
    os.kill(os.getpid(), signal.SIGSEGV)
"""
    )
    assert ran.returncode == -11
    assert "Segmentation fault" in ran.stderr
    assert "line 11" in ran.stderr
