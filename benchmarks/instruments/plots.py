"""How a cost grows, drawn: both axes by powers of ten, each line beside a dashed one that grows as its x does."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_COLOURS = ("#2a6fdb", "#c2571a", "#2b8a57", "#8a4fbf", "#b8860b", "#c2185b", "#4a4a4a")
_GUIDE = "#767676"


@dataclass(frozen=True, slots=True)
class Growth:
    """What was measured. `lines` has a name for each, and its points: how many or how much, and its cost."""

    key: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def steepest(points: Sequence[tuple[float, float]]) -> float:
    """The power of x by which y grows between its largest neighbours that differ by a factor of 2 or more: 0 is flat,
    1 as x does. Of the last two steps the larger: what is fixed hides the growth of what is small.

    >>> round(steepest([(1, 5), (10, 5), (100, 50), (1000, 500)]), 2)
    1.0
    """
    steps = [math.log(two[1] / one[1]) / math.log(two[0] / one[0]) for one, two in pairwise(points)]
    return max(steps[-2:])


def lacking() -> str:
    """What `draw` needs and is not there, and how it is had; empty where nothing is."""
    try:
        import vl_convert  # noqa: F401, PLC0415 - for this alone
    except ImportError as error:
        return f"vl-convert ({error}): pip install 'erlbridge[charts]'"
    return ""


def draw(growth: Growth, directory: Path) -> Path:
    """Writes the picture as `growth-KEY.svg` and gives its path. Raises `ImportError` where something is `lacking`."""
    import vl_convert  # noqa: PLC0415 - for this alone

    svg = vl_convert.vegalite_to_svg(json.dumps(_spec(growth)), vl_version="5.21")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"growth-{growth.key}.svg"
    path.write_text(_smaller(svg) + "\n", encoding="utf-8")
    return path


def _spec(growth: Growth) -> Mapping[str, object]:
    values = [{"x": x, "y": y, "what": name} for name, points in growth.lines.items() for x, y in points]
    names = list(growth.lines)
    lowest = min(value["y"] for value in values)  # type: ignore[type-var]
    highest = max(value["y"] for value in values)  # type: ignore[type-var]
    guides = [
        {"x": x, "y": points[0][1] * x / points[0][0], "what": name}
        for name, points in growth.lines.items()
        for x in _until(points, highest)
    ]
    x = {"field": "x", "type": "quantitative", "title": growth.x, "scale": {"type": "log"}}
    x["axis"] = {"format": "~s", "grid": False}
    y = {"field": "y", "type": "quantitative", "title": growth.y}
    y["scale"] = {"type": "log", "domain": [lowest / 2, highest * 2]}
    y["axis"] = {"format": "~s", "tickCount": 6}
    colour = {
        "field": "what",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": _COLOURS[: len(names)]},
    }
    colour["legend"] = {"orient": "bottom", "direction": "vertical", "labelLimit": 500, "symbolType": "stroke"}
    guide = {"x": x, "y": y, "detail": {"field": "what"}}
    measured = {"x": x, "y": y, "color": colour}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "title": {"text": growth.title, "subtitle": "dashed: as much more as there is more of x", "anchor": "start"},
        "width": 560,
        "height": 260,
        "layer": [
            {
                "data": {"values": guides},
                "mark": {"type": "line", "strokeDash": [4, 4], "strokeWidth": 1, "color": _GUIDE},
                "encoding": guide,
            },
            {
                "data": {"values": values},
                "mark": {"type": "line", "strokeWidth": 2, "point": {"filled": True, "size": 40}},
                "encoding": measured,
            },
        ],
    }


def _until(points: Sequence[tuple[float, float]], highest: float) -> tuple[float, float]:
    """From where to where a guide goes: it ends where it leaves the picture."""
    (first_x, first_y), (last_x, _) = points[0], points[-1]
    return first_x, min(last_x, first_x * 2 * highest / first_y)


def _smaller(svg: str) -> str:
    """The same drawing in fewer bytes: labels for screen readers of each single dot are more than the drawing."""
    svg = re.sub(r' aria-(?:label|roledescription|hidden)="[^"]*"| role="graphics-[^"]*"', "", svg)
    return re.sub(r"(\d+\.\d)\d+", r"\1", svg)
