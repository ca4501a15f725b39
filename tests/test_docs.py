"""The Python that the pages show is run as it stands there; the Elixir is run by priv_stub/test/docs_test.exs.

A page is one session: what one block binds, the next one has. `# => text` below what prints says what comes out, `…` in
it stands for anything. A block that begins with three backticks and `python example` needs what no test has; it is
only parsed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python( example)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SAID = re.compile(r"^ *# => (.*)$", re.MULTILINE)

# What a page has and does not make itself: a file of terms, and a mapped one with a term to reach into.
GIVEN = {
    "docs/codec.md": """
import io
from erlbridge.codec import Atom, term_to_binary
file = io.BytesIO(term_to_binary([1, 2]) + term_to_binary(Atom("ok")))
mapped_file = term_to_binary({Atom("payload"): {Atom("training_data"): [{"question": "1 + 1"}] * 5001}})
""",
}


def pages() -> list[Path]:
    """All pages but those of docs/reference, which are made from the sources."""
    reference = ROOT / "docs" / "reference"
    return [ROOT / "README.md", *sorted(path for path in ROOT.glob("docs/**/*.md") if reference not in path.parents)]


SHOWING = [name for path in pages() if BLOCK.search(path.read_text()) for name in [str(path.relative_to(ROOT))]]


@pytest.mark.parametrize("name", SHOWING)
def test_the_python_of_a_page_runs_and_says_what_it_says(name: str, tmp_path: Path) -> None:
    session, said = [GIVEN.get(name, "")], []
    for example, code in BLOCK.findall((ROOT / name).read_text()):
        ast.parse(code)
        if not example:
            session.append(code)
            said += SAID.findall(code)
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(session)],
        env={**os.environ, "ERLBRIDGE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    expected = "".join(".*".join(re.escape(part) for part in line.split("…")) + "\n" for line in said)
    assert re.fullmatch(expected, ran.stdout), ran.stdout


def test_the_pages_with_python_are_found() -> None:
    assert {"README.md", "docs/codec.md", "docs/operating.md"} <= set(SHOWING)


def test_the_readme_is_read_in_five_minutes(root: Path) -> None:
    lines = (root / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    (elixir,) = re.findall(r"```elixir\n(.*?)```", "\n".join(lines), re.DOTALL)
    assert len([line for line in elixir.splitlines() if line.strip()]) <= 22


def test_the_licence_is_the_one_that_the_package_names(root: Path) -> None:
    assert "Apache License" in (root / "LICENSE").read_text()[:200]
    assert 'license = "Apache-2.0"' in (root / "pyproject.toml").read_text()
