"""The frames of docs/golden: what the codec reads and writes, and what a node takes and says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.codec.annotate import annotate
from erlbridge.codec.notation import from_elixir
from erlbridge.errors import BridgeError
from erlbridge.wire.vocabulary import VERBS

GOLDEN = Path(__file__).resolve().parents[2] / "docs" / "golden"
SECTION = re.compile(r"^### `([\w-]+)\.etf`\n.*?^```elixir\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOTATION: dict[str, str] = dict(SECTION.findall((GOLDEN / "README.md").read_text()))
"""Of each frame what it says, in the conversation's order."""
ANSWERS = (Atom("ok"), Atom("error"))
MISSING = Atom("missing")
"""A map in health_check whose keys are what the machine's kernel lacks."""


def term(name: str) -> Any:
    return binary_to_term((GOLDEN / f"{name}.etf").read_bytes())


@pytest.mark.parametrize("name", NOTATION)
def test_a_golden_frame_is_what_stands_below_it(name: str) -> None:
    frame = (GOLDEN / f"{name}.etf").read_bytes()
    assert binary_to_term(frame) == from_elixir(NOTATION[name])
    assert term_to_binary(from_elixir(NOTATION[name])) == frame


def test_every_file_is_named_and_every_message_is_there() -> None:
    assert {path.stem for path in GOLDEN.glob("*.etf")} == NOTATION.keys()
    said = {str(term(name)[0]) for name in NOTATION if name != "host-predict-map"}
    events = {"progress", "chunk", "data_chunk", "log", "telemetry", "call", "call_over"}
    assert said - {"health_chek"} == {*VERBS, *events, "ready", "ok", "error", "credit", "result"}


def alike(golden: Any, given: Any, path: str = "") -> None:
    """Of the same shape: the same keys, as many elements in tuples, the same types but where one of them is nil."""
    if golden is None or given is None:
        return
    match golden:
        case Mapping():
            assert isinstance(given, Mapping), path
            assert set(golden) == set(given), path
            for key in golden:
                if key != MISSING:
                    alike(golden[key], given[key], f"{path}.{key}")
        case tuple():
            assert isinstance(given, tuple), path
            assert len(golden) == len(given), path
            for index, (one, other) in enumerate(zip(golden, given, strict=True)):
                alike(one, other, f"{path}[{index}]")
        case list():
            assert isinstance(given, list), path
            if golden and given:
                alike(golden[0], given[0], f"{path}[0]")
        case _:
            assert type(golden) is type(given), f"{path}: {golden!r} and {given!r}"


def wanted(golden: Any) -> Callable[[Any], bool]:
    """Whether what a node says is what a golden frame stands for: this answer, or any event of the kind."""
    if golden[0] in ANSWERS:
        return lambda said: said[0] in ANSWERS and said[1] == golden[1]
    if golden[0] == Atom("telemetry"):
        return lambda said: said[:2] == golden[:2]
    return lambda said: said[0] == golden[0]


def test_a_node_holds_the_golden_conversation(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers=1", "--spare-workers=0", "--max-frame-bytes=4096", "--telemetry-interval-s=0.1")
    for name in NOTATION:
        golden = term(name)
        if name.startswith("host-"):
            node.send_frame((GOLDEN / f"{name}.etf").read_bytes())
            continue
        earlier = [event for event in node.events if wanted(golden)(event)]
        said = earlier[0] if earlier else node.until(wanted(golden))
        assert str(said[0]) == str(golden[0]), f"{name}: {said}"
        alike(golden, said, name)
    assert node.wait() == 0


def test_the_specification_names_every_error_with_its_strategy() -> None:
    text = (GOLDEN.parent / "wire.md").read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `:")]
    told = {atom: strategy for types, _when, strategy, _context in rows for atom in re.findall(r"`:(\w+)`", types)}
    assert told.keys() == BridgeError.owners.keys()
    for atom, owner in BridgeError.owners.items():
        assert f"`:{owner.strategy}`" in told[atom], atom


def test_the_specification_names_every_tag_that_a_node_writes() -> None:
    terms = (GOLDEN.parent / "wire.md").read_text().partition("\n## Terms\n")[2].partition("\n## ")[0]
    frames = [path.read_bytes() for path in GOLDEN.glob("node-*.etf")]
    tags = {piece.tag for frame in frames for piece in annotate(frame)} - {"", "VERSION_MAGIC"}
    assert tags <= set(re.findall(r"`(\w+_EXT)`", terms))


def test_the_specification_names_every_verb() -> None:
    text = (GOLDEN.parent / "wire" / "verbs.md").read_text()
    assert set(re.findall(r"^\| `:(\w+)` \|", text, re.MULTILINE)) == set(VERBS)
