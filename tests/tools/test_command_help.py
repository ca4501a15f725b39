"""What the command line says about itself: completion, help and examples."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from erlbridge.tools.cli import FAMILIES, main, whole_parser


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_a_shell_completes_every_family(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [name for name in FAMILIES if name not in script] == []
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        asked = 'COMP_WORDS=(erlbridge opt); COMP_CWORD=1; _shtab_erlbridge; echo "${COMPREPLY[@]}"'
        ran = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
        assert ran.stdout.split() == ["optimize"]


def test_every_command_has_examples_and_json_and_stands_in_the_guide(root: Path) -> None:
    def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for action in inner:
            for command in action.choices.values():
                yield from leaves(command)
        if not inner:
            yield parser

    commands = {parser.prog.removeprefix("erlbridge "): parser for parser in leaves(whole_parser())}
    assert [name for name, parser in commands.items() if "examples:\n" not in (parser.epilog or "")] == []
    no_json = {name for name, parser in commands.items() if "--json" not in parser._option_string_actions}
    assert no_json == {"serve", "completion", "vocabulary", "dataset export"}  # whose output has a form of its own
    guide = (root / "docs" / "operating.md").read_text().partition("## Command line")[2].partition("### Exit codes")[0]
    assert [name for name in FAMILIES if f"`{name}`" not in guide] == []


@pytest.mark.parametrize(
    "family", ["optimize", "evaluate", "predict", "run", "ask", "demo", "bench", "completion", "doctor"]
)
def test_the_help_has_examples_that_parse(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main([family, "--help"])
    assert exited.value.code == 0
    text = capsys.readouterr().out.partition("examples:\n")[2]
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("erlbridge ")]
    assert commands
    for command in commands:
        whole_parser().parse_args(shlex.split(command.partition(" > ")[0])[1:])
