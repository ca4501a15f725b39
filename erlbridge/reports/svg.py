"""A chart as an SVG drawing that needs nothing beside it: colours come from the page's variables, light or dark.

Drawn for a width, since a drawing that shrinks takes its letters with it: a page holds one for wide and one for narrow
screens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, assert_never

from erlbridge.reports.charts import Axis, Chart, Dots, Layer, Level, Marks, Pairs, Point, Steps, percent
from erlbridge.reports.markup import Markup, tag

_LEFT: Final = 52.0
_RIGHT: Final = 24.0
_TOP: Final = 12.0
_BOTTOM: Final = 40.0
_HEIGHT: Final = 260.0
_ROW: Final = 15.0
_LARGE: Final = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
"""From which step between ticks on they are written in which unit: six digits have no room beside an axis."""
_LETTER: Final = 6.6
"""About how wide a letter of a label is."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values lie in the drawing."""

    width: float
    height: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return _LEFT + (self.width - _LEFT - _RIGHT) * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - _TOP) * (value - self.y_low) / (self.y_high - self.y_low)

    @property
    def bottom(self) -> float:
        return self.height - _BOTTOM


def draw(chart: Chart, width: float) -> Markup:
    """The drawing of a chart, so many units wide."""
    rows = next((len(layer.rows) for layer in chart.layers if isinstance(layer, Pairs)), None)
    height = _HEIGHT if rows is None else _TOP + _BOTTOM + max(2, rows) * _ROW
    x_ticks = [tick for tick in _ticks(chart.x, 4 if width < 500 else 8) if chart.x.low <= tick <= chart.x.high]
    y_ticks = [] if rows is not None else _ticks(chart.y, 5)
    y_low, y_high = (0.0, float(max(2, rows))) if rows is not None else (chart.y.low, chart.y.high)
    frame = _Frame(
        width=width,
        height=height,
        x_low=chart.x.low,
        x_high=max(chart.x.high, chart.x.low + 1e-9),
        y_low=min([y_low, *y_ticks]),
        y_high=max([y_high, *y_ticks]),
    )
    parts = [*_grid(chart, frame, x_ticks, y_ticks)]
    for layer in chart.layers:
        parts += _layer(frame, layer)
    return tag(
        "svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", role="img",
        aria_label=f"{chart.title}. {chart.about}",
    )  # fmt: skip


def _grid(chart: Chart, frame: _Frame, x_ticks: list[float], y_ticks: list[float]) -> list[Markup]:
    found = []
    for value in y_ticks:
        y = frame.y(value)
        found.append(tag("line", x1=_LEFT, x2=frame.width - _RIGHT, y1=y, y2=y, class_="grid"))
        found.append(tag("text", _shown(value, chart.y, y_ticks), x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for value in x_ticks:
        x = frame.x(value)
        if not y_ticks:
            found.append(tag("line", x1=x, x2=x, y1=_TOP, y2=frame.bottom, class_="grid"))
        found.append(tag("text", _shown(value, chart.x, x_ticks), x=x, y=frame.bottom + 16, text_anchor="middle"))
    found.append(tag("line", x1=_LEFT, x2=frame.width - _RIGHT, y1=frame.bottom, y2=frame.bottom, class_="axis"))
    middle = (_LEFT + frame.width - _RIGHT) / 2
    found.append(tag("text", chart.x.title, x=middle, y=frame.height - 6, text_anchor="middle", class_="title"))
    return found


def _layer(frame: _Frame, layer: Layer) -> list[Markup]:
    match layer:
        case Dots():
            return [_dot(frame, point, "dot faint" if layer.faint else "dot") for point in layer.points]
        case Steps():
            return [tag("path", d=_path(frame, layer.points), class_="line faint" if layer.faint else "line")]
        case Level():
            y = frame.y(layer.y)
            return [tag("line", x1=_LEFT, x2=frame.width - _RIGHT, y1=y, y2=y, class_="level")]
        case Marks():
            return _marks(frame, layer)
        case Pairs():
            return _pairs(frame, layer)
        case _:
            assert_never(layer)


def _dot(frame: _Frame, point: Point, kind: str) -> Markup:
    return tag("circle", tag("title", point.label), cx=frame.x(point.x), cy=frame.y(point.y), r=4.0, class_=kind)


def _path(frame: _Frame, points: tuple[Point, ...]) -> str:
    if not points:
        return ""
    found = [f"M{frame.x(points[0].x):.1f} {frame.y(points[0].y):.1f}"]
    for one, two in pairwise(points):
        found.append(f"H{frame.x(two.x):.1f}")
        if one.y != two.y:
            found.append(f"V{frame.y(two.y):.1f}")
    return "".join(found)


def _marks(frame: _Frame, layer: Marks) -> list[Markup]:
    """Names stand at the top, each where there is room behind the one before it."""
    found, free = [], 0.0
    for at, name in layer.places:
        x = frame.x(at)
        found.append(tag("line", tag("title", name), x1=x, x2=x, y1=_TOP, y2=frame.bottom, class_="stage"))
        if x >= free and x + len(name) * _LETTER < frame.width:
            found.append(tag("text", name, x=x + 3, y=_TOP + 9, class_="stage"))
            free = x + len(name) * _LETTER + 8
    return found


def _pairs(frame: _Frame, layer: Pairs) -> list[Markup]:
    found = []
    for number, row in enumerate(layer.rows):
        y = _TOP + (number + 0.5) * _ROW
        said = f"{row.label}: {percent(row.before)} before, {percent(row.after)} after"
        kind = "better" if row.after > row.before else "worse" if row.after < row.before else "same"
        found.append(tag("text", row.label, x=_LEFT - 6, y=y + 4, text_anchor="end"))
        if kind != "same":
            found.append(tag("line", x1=frame.x(row.before), x2=frame.x(row.after), y1=y, y2=y, class_=f"pair {kind}"))
        before = tag("circle", cx=frame.x(row.before), cy=y, r=4.0, class_="dot before")
        after = tag("circle", cx=frame.x(row.after), cy=y, r=4.0, class_=f"dot {kind}")
        found.append(tag("g", tag("title", said), before, after))
    return found


def _ticks(axis: Axis, most: int) -> list[float]:
    """Round values from at or below an axis' beginning to at or behind its end, at most about so many."""
    span = max(axis.high - axis.low, 1e-9)
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    if axis.counted:
        step = max(1.0, step)
    first, last = math.floor(axis.low / step + 1e-9), math.ceil(axis.high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _shown(value: float, axis: Axis, ticks: list[float]) -> str:
    if axis.share:
        return percent(value)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    size, letter = next(((size, letter) for least, size, letter in _LARGE if step >= least), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / size) + 1e-9))
    return f"{value / size:,.{decimals}f}{letter if value else ''}"
