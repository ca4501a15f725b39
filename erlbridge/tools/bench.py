"""`erlbridge bench`: what `benchmarks/` of a checkout measures. A wheel does not bring it along, and says so."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import erlbridge
from erlbridge.errors import NotFound

_SOURCES = Path(erlbridge.__file__).resolve().parents[1] / "benchmarks"


def benchmarks(directory: Path = _SOURCES) -> dict[str, str]:
    """The benchmarks of this checkout by name, each with the first line of what it says of itself; none in a wheel."""
    found = {}
    for file in sorted(directory.glob("*.py")):
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        found[file.stem] = about.partition("\n")[0]
    return found


def show(*, json: bool) -> int:
    """Prints what there is to measure. Raises `NotFound` where there is nothing."""
    found = _there()
    if json:
        print("".join(line + "\n" for line in (_line(name, about) for name, about in found.items())), end="")
        return 0
    width = max(map(len, found))
    for name, about in found.items():
        print(f"{name:<{width}}  {about}")
    return 0


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs one with arguments of its own and gives its exit code. Raises `NotFound`."""
    found = _there()
    if name not in found:
        raise NotFound(f"there is no benchmark {name!r}; known are {', '.join(found)}")
    command = [sys.executable, str(_SOURCES / f"{name}.py"), *arguments]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - a file of this checkout


def _there() -> dict[str, str]:
    found = benchmarks()
    if not found:
        raise NotFound(
            "the benchmarks are not installed with the package: run this in a checkout of its sources "
            "(docs/benchmarks.md has what they measured)"
        )
    return found


def _line(name: str, about: str) -> str:
    return json.dumps({"benchmark": name, "about": about}, ensure_ascii=False)
