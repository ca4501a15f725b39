"""A node takes and says what stands in docs/golden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from golden_frames import GOLDEN, NOTATION, term
from node_client import NodeClient

from erlbridge.codec import Atom

ANSWERS = (Atom("ok"), Atom("error"))
MISSING = Atom("missing")
"""A map in health_check whose keys are what the machine's kernel lacks."""


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
