"""The frames of docs/golden: what the codec reads and writes, and what the specification says of them."""

from __future__ import annotations

import re

import pytest
from golden_frames import GOLDEN, NOTATION, term

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.codec.annotate import annotate
from erlbridge.codec.notation import from_elixir
from erlbridge.core.metrics import METRICS
from erlbridge.errors import BridgeError
from erlbridge.wire.vocabulary import VERBS


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


def test_the_specification_names_every_metric_and_what_a_job_spends() -> None:
    text = (GOLDEN.parent / "wire" / "verbs.md").read_text()
    rows = text.partition("\n## Metrics\n")[2]
    assert set(re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)) == set(METRICS)
    spent = text.partition("- **`metrics`**")[2].partition("\n- ")[0]
    for name in ("predict", "evaluate_pipeline", "run_pipeline"):
        metrics = term(f"node-ok-{name}")[2][Atom("metrics")]
        assert {str(key) for key in metrics} <= set(re.findall(r"`(\w+)", spent)), name
