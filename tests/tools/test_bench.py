"""The command that runs benchmarks, over some that do nothing; what real ones measure is no business of a test."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from erlbridge.tools import bench
from erlbridge.tools.cli import main

ECHO = """'''Says what it was given.'''
import sys
def main():
    print("got", *sys.argv[1:])
    return gate(int("fail" in sys.argv))
def gate(code):
    return code
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three benchmarks, one of which needs what no machine has, and a part that they share."""
    sources = tmp_path / "benchmarks"
    sources.mkdir()
    (sources / "one.py").write_text(ECHO)
    (sources / "poor.py").write_text(f"def main(): ...\nraise SystemExit({bench.EXIT_CANNOT})\n")
    (sources / "two.py").write_text(ECHO)
    (sources / "shared.py").write_text("def helper(): ...\n")
    monkeypatch.setattr(bench, "_SOURCES", sources)
    monkeypatch.setattr(bench.benchmarks, "__defaults__", (sources,))
    return sources


def test_what_has_a_main_is_listed_with_what_it_says_of_itself(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "beam.exs").write_text("# Measured from a BEAM.\n\nIO.puts(1)\n")
    assert main(["bench", "--list"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["beam", "one", "poor", "two"]
    assert lines[0][1] == "Measured from a BEAM."
    assert main(["bench", "--json"]) == 0
    assert '{"benchmark": "one", "about": "Says what it was given."}' in capsys.readouterr().out


def test_one_is_listed_by_its_name(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list", "two"]) == 0
    assert capsys.readouterr().out == "two  Says what it was given.\n"
    assert main(["bench", "--json", "two"]) == 0
    assert capsys.readouterr().out == '{"benchmark": "two", "about": "Says what it was given."}\n'
    assert main(["bench", "--list", "tow"]) == 1
    assert "there is no benchmark 'tow' (did you mean `two`?); known are one, poor, two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--list", "--write"], "--list measures nothing: --write"),
        (["--list", "one", "7"], "--list measures nothing: 7"),
        (["--list", "--json", "--gate"], "--list measures nothing: --gate"),
        (["--json", "one", "--short"], "--json measures nothing: --short"),
        (["--write", "--short"], "--write takes whole measurements"),
        (["--short", "--write", "one"], "--write takes whole measurements"),
    ],
)
def test_flags_that_make_no_sense_together_are_refused(
    given: list[str], told: str, checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *given]) == 2
    said = capfd.readouterr()
    assert told in said.err
    assert not said.out


def test_one_by_name_gets_what_stands_before_and_behind_it(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--write", "one", "7", "--runs", "3"]) == 0
    assert main(["bench", "two", "--short"]) == 0
    assert capfd.readouterr().out == "got --write 7 --runs 3\ngot --short\n"


def test_without_a_name_all_run_and_one_that_cannot_is_passed_over(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--write"]) == 0
    printed = capfd.readouterr().out
    assert printed.count("got --write\n") == 2
    assert "-- poor (2 of 3)" in printed


def test_one_that_fails_fails_the_run_when_all_have_run(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checkout / "one.py").write_text(ECHO.replace('"fail" in sys.argv', "1"))
    assert main(["bench"]) == 1
    told = capfd.readouterr()
    assert told.out.count("got\n") == 2
    assert told.err == "failed: one\n"


def test_what_a_gate_finds_slow_is_measured_once_more(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "GATED", ("one", "two"))
    busy = checkout / "busy"
    busy.touch()
    (checkout / "one.py").write_text(
        ECHO.replace(
            'int("fail" in sys.argv)', f"int(os.path.exists({str(busy)!r}) and not os.remove({str(busy)!r}))"
        ).replace("import sys", "import os, sys")
    )
    assert main(["bench", "--short", "--gate"]) == 0
    assert capfd.readouterr().out.count("got --short --gate\n") == 3


def test_one_that_judges_nothing_is_measured_without_the_gate(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (checkout / "two.py").write_text(ECHO.replace("gate", "plain"))
    assert main(["bench", "--gate", "--write"]) == 0
    assert [line for line in capfd.readouterr().out.splitlines() if line.startswith("got")] == [
        "got --write --gate",
        "got --write",
    ]


def test_one_that_does_not_end_is_ended_and_the_others_run(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(bench, "GATED", ("one",))
    (checkout / "one.py").write_text("def main(): ...\nimport signal\nsignal.pause()\n")
    assert main(["bench", "--short"]) == 1
    assert "one is ended: it has taken more than 0 s" in capfd.readouterr().err


def test_with_one_that_is_ended_goes_what_it_has_started(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A BEAM that goes on would be measured with all that comes after it."""
    monkeypatch.setattr(bench, "_FAREWELL_S", 0.2)
    (checkout / "one.py").write_text(
        "def main(): ...\nimport signal, subprocess, sys\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "waiting = [sys.executable, '-c', 'import signal; signal.pause()']\n"
        "started = subprocess.Popen(waiting, stdout=subprocess.DEVNULL)\n"
        "print(started.pid, flush=True)\nsignal.pause()\n"
    )
    assert bench.run("one", [], 1.0) == bench.EXIT_FAILED
    started = Path("/proc", capfd.readouterr().out.strip(), "stat")
    with contextlib.suppress(FileNotFoundError):  # gone altogether, or waiting for whoever takes note of it
        while started.read_text().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.01)


def test_one_that_is_not_there_is_said_with_those_that_are(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nothing"]) == 1
    assert "known are one, poor, two" in capsys.readouterr().err


def test_a_gate_without_sources_does_not_pass(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a wheel is installed."""
    for file in checkout.iterdir():
        file.unlink()
    assert main(["bench", "--short", "--gate"]) == 1
    assert "not installed with the package" in capfd.readouterr().err


def test_a_gate_where_none_can_run_does_not_pass(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "GATED", ("poor",))
    assert main(["bench", "--short", "--gate"]) == bench.EXIT_CANNOT


def test_where_there_is_no_mix_a_benchmark_in_elixir_says_so(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "beam.exs").write_text("# Measured from a BEAM.\n")
    monkeypatch.setenv("PATH", str(checkout))
    assert main(["bench", "beam"]) == 1
    assert "there is no mix on the path" in capsys.readouterr().err


def test_those_of_the_gate_are_there_and_take_its_flags() -> None:
    found = bench.benchmarks()
    assert set(bench.GATED) <= set(found)
    for name in bench.GATED:
        assert found[name].gated


def test_the_document_has_a_section_for_each_benchmark_that_writes_one() -> None:
    """Else `--write` would fail when all has been measured."""
    sources = Path(bench.__file__).resolve().parents[2]
    document = (sources / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, one in bench.benchmarks().items():
        if one.file.suffix == ".py" and f'report.publish("{name}"' in one.file.read_text(encoding="utf-8"):
            assert document.count(f"<!-- {name} -->\n") == 1, name
            assert document.count(f"<!-- end of {name} -->") == 1, name
