"""What a strict type checker says to users of the codec: nothing to what is right, and its error to each mistake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import erlbridge

HERE = Path(__file__).parent
TWINS = ("erlbridge.codec", "erlbridge.codec._compiled", "erlbridge.codec._pure")
FUNCTIONS = "import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec"
ERROR = re.compile(r"^(\w+)\.py:(\d+): error: .*  \[([a-z-]+)\]$")
EXPECTED = re.compile(r"  # \[([a-z-]+)\]$")


def copies(kind: str, folder: Path) -> dict[str, str]:
    """The users' file once as it is and once for each twin, by the module names they have in the folder."""
    text = (HERE / f"{kind}.py").read_text()
    assert text.count(f"from erlbridge.codec {FUNCTIONS}") == 1
    made = {}
    for number, twin in enumerate(TWINS):
        made[f"{kind}{number}"] = text.replace(f"from erlbridge.codec {FUNCTIONS}", f"from {twin} {FUNCTIONS}")
        (folder / f"{kind}{number}.py").write_text(made[f"{kind}{number}"])
    return made


def mypy(folder: Path) -> str:
    """mypy's output for a folder. The package is found as an installed one is, which must say that it is typed."""
    variables = os.environ | {"PYTHONPATH": str(Path(erlbridge.__file__).parents[1])}
    variables.pop("MYPYPATH", None)
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "."]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=110, check=False)
    assert not done.stderr
    return done.stdout


def test_what_users_write_is_accepted(tmp_path: Path) -> None:
    copies("accepted", tmp_path)
    assert not mypy(tmp_path)


def test_each_mistake_has_its_error_and_nothing_else_has(tmp_path: Path) -> None:
    expected = {
        (name, line, found[1])
        for name, text in copies("refused", tmp_path).items()
        for line, written in enumerate(text.splitlines(), 1)
        if (found := EXPECTED.search(written))
    }
    output = mypy(tmp_path).splitlines()
    errors = [line for line in output if ": note: " not in line]
    said = {(match[1], int(match[2]), match[3]) for line in errors if (match := ERROR.match(line))}
    assert said == expected, "\n".join(output)
    assert len(expected) >= 30 * len(TWINS)


@pytest.mark.parametrize("name", ["py.typed", "codec/_compiled.pyi"])
def test_what_makes_the_package_typed_is_in_it(name: str) -> None:
    assert (Path(erlbridge.__file__).parent / name).is_file()
