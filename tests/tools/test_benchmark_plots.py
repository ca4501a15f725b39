"""How growth is judged and drawn, without measuring anything."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from instruments.plots import Growth, draw, steepest


@pytest.mark.parametrize(("power", "fixed"), [(0.0, 0.0), (1.0, 0.0), (1.0, 50.0), (2.0, 50.0)])
def test_the_power_of_a_growth_is_that_at_its_far_end(power: float, fixed: float) -> None:
    points = [(float(x), fixed + float(x) ** power) for x in (1, 10, 100, 1000, 10_000)]
    assert steepest(points) == pytest.approx(power, abs=0.03)


def test_a_growth_is_drawn_small_and_whole(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `charts` is not installed")
    growth = Growth(
        "try", "Cost", "in flight", "µs", {"all": [(1, 90), (10, 80), (100, 95)], "one": [(1, 9), (100, 900)]}
    )
    path = draw(growth, tmp_path)
    assert path.name == "growth-try.svg"
    assert path.stat().st_size < 40_000
    texts = {element.text for element in ET.parse(path).iter() if element.text}
    assert {"Cost", "in flight", "µs", "all", "one"} <= texts
