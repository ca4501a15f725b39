"""What benchmarks print and write, without measuring anything."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


report = load("report")
TIMES = " \N{MULTIPLICATION SIGN}"


def test_a_section_is_replaced_between_its_marks_and_nothing_else() -> None:
    document = "# Figures\n\n<!-- one -->\nold\n<!-- end of one -->\n\nProse.\n\n<!-- two -->\n<!-- end of two -->\n"
    after = report.with_section(document, "one", "| new |")
    assert after == document.replace("old", "| new |")
    assert report.with_section(after, "one", "| new |") == after


@pytest.mark.parametrize("document", ["", "<!-- one -->\n<!-- end of one -->\n" * 2])
def test_a_section_that_is_not_there_once_is_refused(document: str) -> None:
    with pytest.raises(LookupError, match="'one'"):
        report.with_section(document, "one", "text")


def test_what_is_published_ends_with_the_machine_and_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "benchmarks.md"
    marks = "<!-- one -->\n<!-- end of one -->\n"
    document.write_text(marks + "<!-- all aims -->\n<!-- end of all aims -->\n", encoding="utf-8")
    monkeypatch.setattr(report, "DOCUMENT", document)
    report.publish("one", report.markdown(("a", "b"), [("1", "2")]), write=True)
    printed = capsys.readouterr().out
    assert printed.startswith("| a | b |\n|---|---|\n| 1 | 2 |\n\n*")
    assert document.read_text(encoding="utf-8").startswith(f"<!-- one -->\n{printed}<!-- end of one -->\n")


def test_the_aims_of_all_sections_stand_together_with_their_benchmarks() -> None:
    one, two = (report.aims([report.Aim(what, 1.0, 2.0)]) for what in ("a time", "a size"))
    document = (
        f"<!-- x -->\n{one}\n\n*A machine.*\n<!-- end of x -->\n<!-- y of 2 MB -->\n{two}\n<!-- end of y of 2 MB -->\n"
    )
    together = report.all_aims(document)
    assert [line.split(" | ")[:2] for line in together.splitlines()[2:]] == [
        ["| `x`", "a time"],
        ["| `y of 2 MB`", "a size"],
    ]
    written = report.with_section(f"{document}<!-- all aims -->\n<!-- end of all aims -->\n", "all aims", together)
    assert report.all_aims(written) == together


def test_an_aim_is_reached_or_its_limit_named_and_the_gate_falls_far_behind_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reached = report.Aim("a rate", 0.7, 0.6, at_least=True)
    missed = report.Aim("a time", 3.0, 2.0, limit="two threads")
    assert report.aims([reached, missed]).splitlines()[2:] == [
        f"| a rate | 0.70{TIMES} | at least 0.60{TIMES} | reached |",
        f"| a time | 3.0{TIMES} | at most 2.0{TIMES} | not reached: two threads |",
    ]
    assert report.gate([reached, missed]) == 0
    assert report.gate([reached, report.Aim("a time", 8.1, 2.0), report.Aim("a rate", 0.1, 0.6, at_least=True)]) == 1
    assert f"a time: 8.1{TIMES}, to be at most 2.0{TIMES}; the gate is at 8.0{TIMES}\n" in capsys.readouterr().err


def test_a_gate_falls_where_a_figure_is_no_number_or_nothing_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.gate([report.Aim("a time", float("nan"), 2.0)]) == 1
    assert report.gate([]) == 1
    assert "nothing was compared" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_rounds_are_counted_from_one(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"a whole number from 1 on is wanted, not '{text}'"):
        report.count(text)


def test_a_section_is_not_written_with_less_than_it_is_to_have(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    report.takes_flags(parser)
    report.takes_rounds(parser, full=9, short=3)

    def settled(*arguments: str) -> int:
        given = parser.parse_args(arguments)
        report.settle_rounds(parser, given, full=9, short=3)
        return int(given.rounds)

    assert [settled("--write"), settled("--write", "11"), settled("2"), settled("--short")] == [9, 11, 2, 3]
    with pytest.raises(SystemExit, match="2"):
        settled("--write", "8")
    assert "--write replaces the whole section, which takes ROUNDS of at least 9" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        settled("--write", "--short")


def test_what_the_figures_document_gathers_is_what_its_sections_have() -> None:
    document = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert report.with_section(document, "all aims", report.all_aims(document)) == document


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.00 µs"), (3.1e-5, "31.0 µs"), (0.00085, "850 µs"), (0.085, "85.0 ms"), (1.2, "1.20 s")],
)
def test_a_time_is_told_in_the_unit_in_which_it_is_short(seconds: float, shown: str) -> None:
    assert report.span(seconds) == shown
