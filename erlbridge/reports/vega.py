"""A chart as a Vega-Lite specification, version 5: data and drawing in one map, as JSON has maps.

What Livebook takes (`VegaLite.from_json/1`, or `%VegaLite{spec: spec}`), and vl-convert for pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, assert_never

from erlbridge.reports.charts import Axis, Chart, Dots, Layer, Level, Marks, Pair, Pairs, Point, Steps

Spec: TypeAlias = Mapping[str, object]
"""Texts, numbers, booleans, lists and maps with texts as keys."""

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
"""What a specification says it is; nothing is fetched from there."""
_BEFORE: Final = "#767676"
_AFTER: Final = "#2a6fdb"
_FAINT: Final = "#b3b3b3"
_WIDTH: Final = 560
_HEIGHT: Final = 260
_ROW: Final = 14
_NAME: Final = 16
"""How wide an upright name of a stage is."""


def spec(chart: Chart) -> Spec:
    """The specification of a chart."""
    rows = next((len(layer.rows) for layer in chart.layers if isinstance(layer, Pairs)), None)
    return {
        "$schema": SCHEMA,
        "title": {"text": chart.title, "subtitle": chart.about, "anchor": "start"},
        "width": _WIDTH,
        "height": _HEIGHT if rows is None else max(4, rows) * _ROW,
        "layer": [part for layer in chart.layers for part in _layer(chart, layer)],
    }


def _layer(chart: Chart, layer: Layer) -> list[Spec]:
    match layer:
        case Dots():
            colour = _FAINT if layer.faint else _AFTER
            mark = {
                "type": "point",
                "filled": not layer.faint,
                "size": 50,
                "color": colour,
                "tooltip": {"content": "data"},
            }
            return [_drawn(chart, mark, layer.points, layer.name)]
        case Steps():
            colour = _BEFORE if layer.faint else _AFTER
            mark = {"type": "line", "interpolate": "step-after", "color": colour, "strokeWidth": 2}
            return [_drawn(chart, mark, layer.points, layer.name)]
        case Level():
            return [
                {
                    "data": {"values": [{"y": layer.y, "what": layer.name}]},
                    "mark": {"type": "rule", "strokeDash": [4, 4], "color": _BEFORE},
                    "encoding": {"y": _quantity("y", chart.y)},
                }
            ]
        case Marks():
            values = [{"x": at, "what": name} for at, name in layer.places]
            told = [{"x": at, "what": name} for at, name in _apart(layer, chart.x)]
            x = {"x": _quantity("x", chart.x, nice=False)}
            text = {"type": "text", "align": "left", "angle": 90, "dx": 4, "dy": -4, "y": 0, "color": _BEFORE}
            return [
                {"data": {"values": values}, "mark": {"type": "rule", "color": "#e0e0e0"}, "encoding": x},
                {"data": {"values": told}, "mark": text, "encoding": {**x, "text": {"field": "what"}}},
            ]
        case Pairs():
            return _pairs(chart, layer)
        case _:
            assert_never(layer)


def _apart(marks: Marks, axis: Axis) -> list[tuple[float, str]]:
    """The places whose names do not stand on the one before."""
    found: list[tuple[float, str]] = []
    for at, name in marks.places:
        if not found or (at - found[-1][0]) / (axis.high - axis.low) * _WIDTH >= _NAME:
            found.append((at, name))
    return found


def _pairs(chart: Chart, layer: Pairs) -> list[Spec]:
    rows = [{"example": row.label, "before": row.before, "after": row.after} for row in layer.rows]
    y = {"field": "example", "type": "nominal", "sort": None, "title": chart.y.title}
    line = {
        "data": {"values": rows},
        "mark": {"type": "rule", "color": _FAINT},
        "encoding": {"y": y, "x": _quantity("before", chart.x), "x2": {"field": "after"}},
    }
    ends = [{"example": row.label, "score": score, "what": what} for row in layer.rows for score, what in _ends_of(row)]
    dots = {
        "data": {"values": ends},
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "tooltip": {"content": "data"}},
        "encoding": {
            "y": y,
            "x": _quantity("score", chart.x),
            "color": {
                "field": "what",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["before", "after"], "range": [_BEFORE, _AFTER]},
            },
        },
    }
    return [line, dots]


def _ends_of(row: Pair) -> tuple[tuple[float, str], tuple[float, str]]:
    return (row.before, "before"), (row.after, "after")


def _drawn(chart: Chart, mark: Mapping[str, object], points: tuple[Point, ...], name: str) -> Spec:
    return {
        "data": {"values": [{"x": point.x, "y": point.y, "what": point.label} for point in points]},
        "name": name.replace(" ", "_"),
        "mark": mark,
        "encoding": {"x": _quantity("x", chart.x, nice=False), "y": _quantity("y", chart.y)},
    }


def _quantity(field: str, axis: Axis, *, nice: bool = True) -> dict[str, object]:
    return {
        "field": field,
        "type": "quantitative",
        "title": axis.title,
        "scale": {"domain": [axis.low, axis.high], "nice": nice, "zero": False},
        "axis": {"format": ".0%"} if axis.share else {},
    }
