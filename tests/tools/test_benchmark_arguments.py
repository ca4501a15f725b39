"""What real benchmarks do with arguments that cannot be used, before they have measured anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from erlbridge.tools.bench import benchmarks

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def refused(name: str, *arguments: str, **environment: str) -> str:
    """The sentence with which this one ends. Those in Elixir read what they take before they use anything of the
    project, and so without it."""
    one = benchmarks()[name]
    interpreter = sys.executable if one.file.suffix == ".py" else shutil.which("elixir")
    assert interpreter, "elixir is not on the PATH, in which some benchmarks are written"
    written = DOCUMENT.read_bytes()
    ran = subprocess.run(
        [interpreter, one.file, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert DOCUMENT.read_bytes() == written
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stdout + ran.stderr
    usage, _, sentence = ran.stderr.rpartition(f"{one.file.name}: error: ")
    assert f"usage: {one.file.name} " in usage
    return sentence.strip()


@pytest.mark.parametrize("name", benchmarks())
def test_every_benchmark_refuses_a_short_run_that_is_to_be_written(name: str) -> None:
    assert refused(name, "--write", "--short") == "argument --short: not allowed with argument --write"


@pytest.mark.parametrize("name", sorted(name for name, one in benchmarks().items() if not one.gated))
def test_one_that_judges_nothing_knows_no_gate(name: str) -> None:
    assert refused(name, "--gate") == "unrecognized arguments: --gate"


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("callbacks", ["abc"], "argument ROUNDS: a whole number from 1 on is wanted, not"),
        ("callbacks", ["1", "2"], "unrecognized arguments: 2"),
        ("codec", ["0"], "argument ROUNDS: a whole number from 1 on is wanted, not"),
        ("codec", ["--workloads", "q"], "no workload here: q"),
        ("growth", ["time"], "nothing here is called time"),
        ("memory", ["--requests", "19"], "argument --requests: a whole number from 20 on is wanted, not"),
        ("optimizers", ["--latency-ms", "nan"], "argument --latency-ms: a whole number from 0 on is wanted, not"),
        ("round_trip", ["many"], "argument ROUNDS: a whole number from 1 on is wanted, not"),
        ("transfer_bounds", ["/nowhere"], "a file past the cache cannot be written to /nowhere: No such file"),
        ("transfer_latency", ["-1"], "argument MEGABYTES: a whole number from 1 on is wanted, not"),
        ("transfers", ["0"], "argument MEGABYTES: a whole number from 1 on is wanted, not"),
        ("transfers", ["2000", "0"], "argument ROUNDS: a whole number from 1 on is wanted, not"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(name: str, arguments: list[str], told: str) -> None:
    assert refused(name, *arguments).startswith(told)


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("callbacks", ["3"], "ROUNDS of at least 61"),
        ("codec", ["--workloads", "ab"], "all workloads"),
        ("codec", ["5"], "ROUNDS of at least 9"),
        ("growth", ["store"], "all measures"),
        ("memory", ["--predictions", "500"], "--predictions of at least 5000"),
        ("optimizers", ["mipro_v2"], "all of labeled_few_shot, "),
        ("optimizers", ["--runs", "1"], "--runs of at least 3"),
        ("optimizers", ["--latency-ms", "5"], "--latency-ms 50"),
        ("transfers", ["100"], "MEGABYTES of 2000 or 5000"),
        ("transfers", ["2000", "1"], "ROUNDS of at least 3"),
    ],
)
def test_a_part_does_not_replace_the_whole_of_a_section(name: str, arguments: list[str], wanted: str) -> None:
    assert refused(name, "--write", *arguments).startswith(f"--write replaces the whole section, which takes {wanted}")


def test_drawings_that_cannot_be_made_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "vl_convert.py").write_text("raise ModuleNotFoundError(\"No module named 'vl_convert'\")\n")
    assert refused("growth", "--write", PYTHONPATH=f"{tmp_path}") == (
        "--write draws what was measured, which needs vl-convert (No module named 'vl_convert'): "
        "pip install 'erlbridge[charts]'"
    )
