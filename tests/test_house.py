"""The house stays one that a single person can read: no file too long, and its guide names what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 400
SOURCES = {".py", ".c", ".h", ".ex", ".exs", ".sh", ".js", ".css", ".html"}
FOLDERS = ("erlbridge", "tests", "benchmarks", "scripts", "priv_stub")
MADE = {"_build", "cover", "deps", "doc", "tmp", "__pycache__", "node_modules"}


def sources() -> list[Path]:
    """Every file that somebody has written; scripts of the shell have no ending."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    written = [path for path in found if path.suffix in SOURCES or (not path.suffix and path.parent.name == "scripts")]
    return [path for path in written if not MADE & set(path.relative_to(ROOT).parts)]


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    assert len(sources()) > 500
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_the_guide_for_contributors_names_files_that_are_there() -> None:
    named = re.findall(r"`((?:erlbridge|tests|scripts|priv_stub)/[^` ]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
