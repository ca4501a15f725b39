"""What every command with `--json` says when it fails: one line of JSON in the result's place, and nothing else."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from erlbridge.tools.cli import main, whole_parser

SHAPE = {"error_type", "message", "context", "recovery_strategy", "retryable", "retry_after_ms", "traceback"}
NO_FILE = ["--config", "/nowhere.toml"]
SIGNATURE = ["--signature", "question -> answer"]
PROGRAM = "program:" + "0" * 64
FAILING: dict[str, list[list[str]]] = {
    "ask": [["predict", *NO_FILE]],
    "audit verify": [NO_FILE],
    "bench": [["nothing-of-this-name"]],
    "config show": [NO_FILE],
    "dataset delete": [["3f1c", *NO_FILE]],
    "dataset import": [["/nowhere.jsonl", *NO_FILE]],
    "dataset list": [NO_FILE],
    "dataset show": [["3f1c", *NO_FILE]],
    "decode": [["/nowhere"], ["--hex", "zz"], ["--hex", "8377"], ["--hex", "00"]],
    "demo": [NO_FILE],
    "doctor": [NO_FILE],
    "encode": [["{"]],
    "evaluate": [[*SIGNATURE, "--examples", "/nowhere", *NO_FILE]],
    "optimize": [[*SIGNATURE, "--train", "/nowhere", *NO_FILE]],
    "predict": [[*SIGNATURE, "--input", "question=why", *NO_FILE]],
    "programs delete": [["4f1c", *NO_FILE]],
    "programs get": [["4f1c", *NO_FILE]],
    "programs list": [NO_FILE],
    "programs put": [["/nowhere.etf", *NO_FILE]],
    "programs show": [["4f1c", *NO_FILE]],
    "repl": [["/nowhere"], ["--node", '"'], [__file__]],
    "report": [["/nowhere"], ["program:1"], [PROGRAM, *NO_FILE], [__file__]],
    "run": [["/nowhere.yaml", *NO_FILE]],
    "store export": [["/nowhere/a.tar", *NO_FILE]],
    "store gc": [NO_FILE],
    "store import": [["/nowhere/a.tar", *NO_FILE]],
    "store show": [NO_FILE],
    "store verify": [NO_FILE],
}


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Those that take `--json`, by name."""
    for action in parser._actions:
        if "--json" in action.option_strings:
            yield parser.prog.partition(" ")[2]
        elif isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from commands(below)


def test_every_command_for_programs_is_tried() -> None:
    assert sorted(commands(whole_parser())) == sorted(FAILING)


@pytest.mark.parametrize(("command", "given"), [(name, given) for name, tried in FAILING.items() for given in tried])
def test_a_command_for_programs_fails_with_an_error_in_json_alone(
    command: str, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--json", *given]) in (1, 2)
    said = capsys.readouterr()
    (told,) = said.out.splitlines()
    assert set(json.loads(told)) == {"error"}
    assert set(json.loads(told)["error"]) == SHAPE
    assert said.err == ""


def test_what_is_broken_among_terms_as_json_is_told_in_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(bytes.fromhex("00000003 836101  00000003 836201  00000003 836102".replace(" ", "")))
    for how in (["--json"], ["--format", "json"]):
        assert main(["decode", f"{dump}", *how]) == 1
        said = capsys.readouterr()
        first, broken, last = map(json.loads, said.out.splitlines())
        assert (first, last, said.err) == (1, 2, "")
        assert (broken["error"]["error_type"], broken["error"]["context"]) == (
            "serialization_error",
            {"source": f"{dump}", "offset": 14},
        )
        assert broken["error"]["message"].startswith(f"{dump}: input ends inside a term at offset 14")
