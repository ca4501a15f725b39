"""What the README shows works when it is pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def snippet(root: Path, language: str) -> str:
    """The README's one block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    return str(found)


def test_the_python_snippet_runs(root: Path) -> None:
    code = snippet(root, "python")
    assert len(code.strip().splitlines()) <= 10
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "2 a b"


@pytest.mark.timeout(180)
def test_the_elixir_snippet_runs(root: Path, tmp_path: Path) -> None:
    code = snippet(root, "elixir")
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    script = tmp_path / "snippet.exs"
    script.write_text(code)
    ran = subprocess.run(
        ["mix", "run", str(script)],
        cwd=root / "priv_stub",
        env={
            **os.environ,
            "MIX_ENV": "test",  # which the checks have compiled
            "ERLBRIDGE_PYTHON": sys.executable,
            "ERLBRIDGE_DATA": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *progress, scores, team = ran.stdout.splitlines()
    assert any(line.startswith("baseline 20 of 20") for line in progress)
    before, after = (float(score) for score in re.findall(r"[\d.]+(?= before| after)", scores))
    assert before < after
    assert team == "the ticket goes to billing"


def test_the_licence_is_the_one_that_the_package_names(root: Path) -> None:
    assert "Apache License" in (root / "LICENSE").read_text()[:200]
    assert 'license = "Apache-2.0"' in (root / "pyproject.toml").read_text()
