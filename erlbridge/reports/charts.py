"""The charts of a report, as values: what is drawn, not how. `vega` and `svg` are the two ways to draw one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from erlbridge.reports.record import Moment, Record, Trial

_DOLLARS: Final = "US dollars"
LEAST_SPAN: Final = 0.2
"""Of an axis of scores: a hundredth of difference shall not look like a mountain."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A direction of a chart. `share` is whether its values are 0.0 to 1.0 and read as per cent, `counted` whether
    they are whole numbers."""

    title: str
    low: float
    high: float
    share: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One value, and what is said of it to who points at it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Dots:
    """Points that stand by themselves; `faint` ones compare with no other."""

    name: str
    points: tuple[Point, ...]
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """A line that keeps its height until the next point."""

    name: str
    points: tuple[Point, ...]
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A height to compare with, over the whole width."""

    name: str
    y: float


@dataclass(frozen=True, slots=True)
class Marks:
    """Where on the way something begins: places on the x axis, with names."""

    places: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of its own, with two values on the x axis."""

    label: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows, from the top, each from one value to another."""

    rows: tuple[Pair, ...]


Layer: TypeAlias = Dots | Steps | Level | Marks | Pairs


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart. `key` is its name in a result, `about` says in a sentence what there is to see. Where its layer is
    `Pairs`, the y axis is theirs."""

    key: str
    title: str
    about: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...]


def charts(record: Record) -> tuple[Chart, ...]:
    """The charts of a record, in a report's order: `score` and `calls` always, `examples`, `tokens` and `cost` where
    there is something to see."""
    found = [_score(record)]
    if record.rows:
        found.append(_examples(record))
    found.append(_calls(record))
    if record.tokens:
        found.append(_spending(record, "tokens", "Tokens over time", "tokens", lambda moment: moment.tokens))
    if record.cost_usd:
        found.append(_spending(record, "cost", "Cost over time", _DOLLARS, lambda moment: moment.cost_usd))
    return tuple(found)


def percent(share: float) -> str:
    """A share as it is read: to a tenth of a per cent, where it needs that.

    >>> percent(0.625), percent(1.0), percent(2 / 3)
    ('62.5 %', '100 %', '66.7 %')
    """
    return f"{share * 100:.1f}".removesuffix(".0") + " %"


def _score(record: Record) -> Chart:
    whole = [trial for trial in record.trials if trial.whole]
    part = [trial for trial in record.trials if not trial.whole]
    last = max((trial.number for trial in record.trials), default=0) + 1
    best, line = record.score_before, [Point(0, record.score_before, "before")]
    for trial in whole:
        if trial.score > best:
            best = trial.score
            line.append(Point(trial.number, best, f"best after trial {trial.number}: {percent(best)}"))
    line.append(Point(last, best, f"best of all: {percent(best)}"))
    ends = (
        Point(0, record.score_before, f"before: {percent(record.score_before)}"),
        Point(last, record.score_after, f"after: {percent(record.score_after)}"),
    )
    layers: list[Layer] = [Level("before", record.score_before)]
    if record.trials:
        layers.append(Steps("best so far", tuple(line)))
    if part:
        layers.append(Dots("trial on some examples", tuple(map(_dot, part)), faint=True))
    layers.append(Dots("trial" if whole else "before and after", (*ends[:1], *map(_dot, whole), *ends[1:])))
    scores = [record.score_before, record.score_after, *(trial.score for trial in record.trials)]
    count = f"{record.trial_count} trial{'' if record.trial_count == 1 else 's'}"
    about = (
        f"From {percent(record.score_before)} to {percent(record.score_after)} in {count}; "
        f"the program that was kept is measured once more at the end."
    )
    x, y = Axis("trial", 0, last, counted=True), Axis("score", *_span(scores), share=True)
    return Chart("score", "Score by trial", about, x, y, tuple(layers))


def _dot(trial: Trial) -> Point:
    return Point(trial.number, trial.score, f"trial {trial.number}: {percent(trial.score)}")


def _examples(record: Record) -> Chart:
    pairs = tuple(Pair(f"#{row.index + 1}", row.score_before, row.score_after) for row in record.rows)
    shown = len(pairs)
    about = f"{record.improved} of {record.examples} examples score higher than before, {record.worse} lower." + (
        f" Shown: the {shown} with the greatest change." if shown < record.examples else ""
    )
    return Chart(
        "examples", "Before and after, by example", about, Axis("score", 0.0, 1.0, share=True),
        Axis("example", 0, shown), (Pairs(pairs),),
    )  # fmt: skip


def _calls(record: Record) -> Chart:
    chart = _spending(record, "calls", "Model calls over time", "calls", lambda moment: moment.lm_calls)
    if not record.cached_calls:
        return chart
    cached = _line(record.moments, lambda moment: moment.cached_calls, "calls")
    high = max(chart.y.high, float(record.cached_calls))
    layers = (Steps("answered from the cache", cached, faint=True), *chart.layers)
    return Chart(chart.key, chart.title, chart.about, chart.x, Axis("calls", 0, high, counted=True), layers)


def _spending(
    record: Record,
    key: str,
    title: str,
    unit: str,
    value: Callable[[Moment], float | None],
) -> Chart:
    line = _line(record.moments, value, unit)
    total = line[-1].y if line else 0.0
    end = max((moment.at_s for moment in record.moments), default=0.0) or 1.0
    about = f"{_amount(total, unit)} in {end:.1f} seconds."
    return Chart(
        key, title, about, Axis("seconds", 0, end), Axis(unit, 0, total or 1.0, counted=unit != _DOLLARS),
        (Marks(_stages(record.moments)), Steps(unit, line)),
    )  # fmt: skip


def _line(moments: Sequence[Moment], value: Callable[[Moment], float | None], unit: str) -> tuple[Point, ...]:
    found = [
        Point(moment.at_s, float(amount), f"{moment.at_s:.1f} s: {_amount(amount, unit)}")
        for moment in moments
        if (amount := value(moment)) is not None
    ]
    # What a line needs no point for is left out, but for its end.
    kept = [two for one, two in pairwise(found) if one.y != two.y or two is found[-1]]
    return (*found[:1], *kept)


def _stages(moments: Sequence[Moment]) -> tuple[tuple[float, str], ...]:
    found: list[tuple[float, str]] = []
    for moment in moments:
        if not found or found[-1][1] != moment.stage:
            found.append((moment.at_s, moment.stage))
    return tuple(found)


def _amount(amount: float, unit: str) -> str:
    return f"{amount:.4f} {unit}" if unit == _DOLLARS else f"{amount:,.0f} {unit}"


def _span(scores: Sequence[float]) -> tuple[float, float]:
    """An axis that shows all scores with a little room, within 0.0 to 1.0 and not too narrow."""
    low, high = min(scores), max(scores)
    room = max(LEAST_SPAN - (high - low), 0.1 * (high - low), 0.02) / 2
    low, high = low - room, high + room
    if high > 1.0:
        low, high = low - (high - 1.0), 1.0
    if low < 0.0:
        low, high = 0.0, min(1.0, high - low)
    return max(0.0, low), high
