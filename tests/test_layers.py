"""The house keeps its shape: imports go down only, and the pure rooms touch neither time nor descriptors."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "erlbridge"
FILES = sorted(PACKAGE.rglob("*.py"))


def table() -> dict[str, tuple[str, set[str]]]:
    """What ARCHITECTURE.md says of each room: what it holds, in words, and which rooms it may import."""
    rooms: dict[str, tuple[str, set[str]]] = {}
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for row in text[text.index("| room |") :].partition("\n\n")[0].splitlines()[2:]:
        names, holds, allowed = (cell.strip() for cell in row.strip("|").split("|"))
        if names != "`priv_stub/`":
            imported = set() if allowed == "nothing of ours" else set(allowed.split(", "))
            rooms |= {name.rstrip("/").removesuffix(".py"): (holds, imported) for name in re.findall(r"`(.+?)`", names)}
    return rooms


ROOMS = {room: allowed for room, (_, allowed) in table().items()}
PURE = {"errors", "limits", "codec", "wire", "core", "reports"}
HANDS = {
    "os",
    "time",
    "socket",
    "subprocess",
    "threading",
    "asyncio",
    "random",
    "select",
    "selectors",
    "multiprocessing",
}
# The one look at the environment: which twin of the codec is in use must be known before the codec is imported.
CHOICE = "codec/choice.py"
DOORS = {"dspy": "programs", "httpx": "programs", "psutil": "node", "tenacity": "programs", "yaml": "core"} | {
    "pyarrow": "tools",
    "vl_convert": "tools",
    "psycopg": "store",
    "h11": "node",
    "prometheus_client": "node",
    "opentelemetry": "programs",
    "fsspec": "store",
    "prompt_toolkit": "tools",
    "rich": "tools",
    "term": "tools",
}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Every module that a file imports, at the top or inside of functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: imports are absolute"
            assert node.module
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_there_is_a_house_to_look_at() -> None:
    assert {room_of(file) for file in FILES} - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_may_import_nothing_that_it_has_no_use_for(room: str) -> None:
    modules = {module for file in FILES if room_of(file) == room for module in imports(file)}
    assert ROOMS[room] == {module.split(".")[1] for module in modules if module.startswith("erlbridge.")} & ROOMS[room]


@pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room).is_dir()])
def test_what_the_table_says_a_room_holds_is_there(room: str) -> None:
    named = set(re.findall(r"`([a-z_]+)/?`", table()[room][0]))
    assert named <= {entry.stem for folder in (PACKAGE / room, PACKAGE) for entry in folder.rglob("*")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path) -> None:
    room = room_of(file)
    if room in ("__init__", "__main__"):
        return
    for module in imports(file):
        parts = module.split(".")
        if parts[0] == "erlbridge" and len(parts) > 1 and parts[1] in ROOMS:
            assert parts[1] in ROOMS[room] | {room}, f"{room} must not import {module}"
        if room in PURE and (file.relative_to(PACKAGE).as_posix(), module.partition(".")[0]) != (CHOICE, "os"):
            assert parts[0] not in HANDS, f"{room} is pure; it must not import {module}"
        if parts[0] in DOORS:
            assert room == DOORS[parts[0]], f"{parts[0]} belongs to {DOORS[parts[0]]}; {room} imports it"


def test_importing_the_package_loads_neither_dspy_nor_psutil() -> None:
    code = (
        "import sys, erlbridge, erlbridge.codec, erlbridge.core.jobs, erlbridge.node.node, erlbridge.tools.cli\n"
        "print([name for name in ('dspy', 'psutil', 'numpy', 'asyncio', 'multiprocessing') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
