"""A report as one HTML file: no script, no address outside of it, light and dark, wide and narrow, on paper too.

Everything that a job has written stands in it as text and nothing else (`markup`), and a policy in the file's head
forbids scripts and addresses once more. The charts lie beside their drawings as Vega-Lite, in blocks that nothing runs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from erlbridge.reports.charts import Chart, Dots, Layer, Level, Marks, Pairs, Steps, charts, percent
from erlbridge.reports.difference import Effort, Line, difference
from erlbridge.reports.markup import Markup, joined, tag
from erlbridge.reports.record import Demo, Fields, Prompt, Record, Row
from erlbridge.reports.style import STYLE
from erlbridge.reports.svg import draw
from erlbridge.reports.vega import spec

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WIDE: Final = 760.0
_NARROW: Final = 340.0
_MOST_LINES: Final = 2000
"""Of a prompt's difference, and a third of what all prompts show: each line is an element."""
_SIGN: Final = {"same": " ", "gone": "−", "new": "+"}  # noqa: RUF001 - a minus as wide as the plus
_SPOKEN: Final = {"gone": "removed: ", "new": "added: "}


def page(record: Record, program_id: str = "") -> str:
    """The file's text, in UTF-8 when it is written."""
    title = f"{record.name}: {percent(record.score_before)} to {percent(record.score_after)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    found = charts(record)
    drawn = {chart.key: _figure(chart) for chart in found}
    trials = joined(drawn.pop("score"), _trials(record))
    examples = joined(drawn.pop("examples", Markup("")), _rows(record))
    sections = [
        _head(record),
        _section("trials", "Score by trial", trials),
        _section("examples", "Before and after, by example", examples) if record.rows else Markup(""),
        _section("prompts", "What the model is told", joined(*_prompts(record.prompts))),
        _section("spending", "What it took", joined(*drawn.values())),
        _foot(program_id),
    ]
    data = [_data(chart) for chart in found]
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *sections), *data), lang='en')}\n"


def _head(record: Record) -> Markup:
    points = record.change * 100
    said = "no change" if abs(points) < 0.05 else f"{points:+.1f}".removesuffix(".0") + " points"
    kind = "same" if abs(points) < 0.05 else "better" if points > 0 else "worse"
    cost = "unknown" if record.cost_usd is None else f"${record.cost_usd:.4f}".rstrip("0").rstrip(".")
    facts = [
        ("Examples", f"{record.examples:,}", f"{record.improved} higher, {record.worse} lower, {record.same} same"),
        ("Model calls", f"{record.lm_calls:,}", f"{record.cached_calls:,} more from the cache"),
        ("Tokens", f"{record.tokens:,}", "read and written"),
        ("Cost", cost, "estimated"),
        ("Time", _duration(record.duration_ms), f"{record.trial_count:,} trials"),
    ]
    score = tag(
        "p",
        tag("span", percent(record.score_before), class_="was"),
        tag("span", " → ", aria_hidden="true"),
        tag("strong", percent(record.score_after)),
        " ",
        tag("span", said, class_=f"change {kind}"),
        class_="score",
    )
    about = f"{record.optimizer} · {record.module} · {record.metric} · seed {record.seed}"
    tiles = [
        tag("div", tag("dt", name), tag("dd", value), tag("dd", more, class_="more")) for name, value, more in facts
    ]
    return tag("header", tag("h1", record.name, dir="auto"), tag("p", about, class_="about"), score, tag("dl", *tiles))


def _section(name: str, title: str, *inside: str) -> Markup:
    return tag("section", tag("h2", title, id=name), *inside, aria_labelledby=name)


def _figure(chart: Chart) -> Markup:
    wide = tag("div", draw(chart, _WIDE), class_="wide")
    narrow = tag("div", draw(chart, _NARROW), class_="narrow")
    heading = tag("span", chart.title, class_="name")
    return tag("figure", tag("figcaption", heading, " ", chart.about), *_legend(chart), wide, narrow, class_=chart.key)


def _legend(chart: Chart) -> list[Markup]:
    """What each layer is, where there is more than one to tell apart."""
    named = [(kind, name) for layer in chart.layers for kind, name in _named(layer)]
    if len(named) < 2:
        return []
    return [tag("p", *(tag("span", tag("i", class_=kind), name) for kind, name in named), class_="legend")]


def _named(layer: Layer) -> list[tuple[str, str]]:
    match layer:
        case Dots() | Steps():
            kind = "dot" if isinstance(layer, Dots) else "line"
            return [(f"{kind} faint" if layer.faint else kind, layer.name)]
        case Level():
            return [("level", layer.name)]
        case Pairs():
            return [("dot before", "before"), ("dot better", "after, better"), ("dot worse", "after, worse")]
        case Marks():
            return []
        case _:
            assert_never(layer)


def _trials(record: Record) -> Markup:
    if not record.trials:
        return tag("p", "This optimizer makes one program and tries no others.", class_="note")
    left_out = record.trial_count - len(record.trials)
    rows = [
        (f"{one.number}", percent(one.score), "all" if one.whole else "some", f"{one.at_s:.1f} s", f"{one.lm_calls:,}")
        for one in record.trials
    ]
    table = _table(("Trial", "Score", "On examples", "At", "Calls so far"), rows)
    note = [tag("p", f"{left_out} trials between these are left out.", class_="note")] if left_out > 0 else []
    return tag("details", tag("summary", "The numbers"), *note, table)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    head = tag("tr", *(tag("th", name, scope="col") for name in heads))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    scrolled = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", scrolled, class_="scrolled", tabindex="0", role="region", aria_label="table")


def _rows(record: Record) -> Markup:
    groups = (
        ("better", "Better", [row for row in record.rows if row.change > 0]),
        ("worse", "Worse", [row for row in record.rows if row.change < 0]),
        ("same", "Same", [row for row in record.rows if row.change == 0]),
    )
    found = []
    for kind, title, rows in groups:
        total = {"better": record.improved, "worse": record.worse, "same": record.same}[kind]
        if rows:
            count = f"{len(rows)}" if len(rows) == total else f"{len(rows)} of {total}"
            summary = tag("summary", tag("span", title, class_=f"change {kind}"), f" {count}")
            found.append(tag("details", summary, *map(_row, rows)))
    return joined(*found)


def _row(row: Row) -> Markup:
    scores = f"{percent(row.score_before)} → {percent(row.score_after)}"
    columns = [("Asked", row.inputs), ("Expected", row.expected), ("Before", row.before), ("After", row.after)]
    cells = [tag("div", tag("h4", name), _values(fields)) for name, fields in columns if fields]
    heading = tag("h3", f"#{row.index + 1} ", tag("span", scores, class_="scores"))
    return tag("article", heading, tag("div", *cells, class_="columns"))


def _values(fields: Fields) -> Markup:
    return tag(
        "dl", *(joined(tag("dt", name), tag("dd", value, dir="auto")) for name, value in fields), class_="values"
    )


def _prompts(prompts: Sequence[Prompt]) -> Iterator[Markup]:
    left = 3 * _MOST_LINES
    effort = Effort()
    for prompt in prompts:
        lines = iter(()) if prompt.before == prompt.after else difference(prompt.before, prompt.after, effort)
        shown = list(itertools.islice(lines, min(left, _MOST_LINES)))
        left -= len(shown)
        yield _prompt(prompt, shown, cut_off=next(lines, None) is not None)


def _prompt(prompt: Prompt, lines: Sequence[Line], *, cut_off: bool) -> Markup:
    if prompt.before == prompt.after:
        told: Markup = tag("p", "The instructions are as they were.", class_="note")
        told = joined(told, tag("details", tag("summary", "Instructions"), tag("pre", prompt.after, dir="auto")))
    else:
        told = tag("div", *map(_line, lines), class_="diff")
        if cut_off:
            told = joined(told, tag("p", "… the further lines are left out", class_="note"))
    demos: list[Markup] = []
    if prompt.demo_count:
        more = prompt.demo_count - len(prompt.demos)
        rest = [tag("p", f"… and {more} more", class_="note")] if more else []
        cards = [_demo(demo, at) for at, demo in enumerate(prompt.demos, 1)]
        noun = "demo" if prompt.demo_count == 1 else "demos"
        summary = tag("summary", f"{prompt.demo_count} {noun} shown with each question")
        demos = [tag("details", summary, tag("div", *cards, class_="demos"), *rest, open="")]
    return tag("article", tag("h3", prompt.name, dir="auto"), told, *demos, class_="prompt")


def _demo(demo: Demo, number: int) -> Markup:
    source = "answered by the program" if demo.bootstrapped else "from the training data"
    return tag("article", tag("h4", f"Demo {number}, {source}"), _values(demo.fields))


def _line(line: Line) -> Markup:
    sign = tag("span", _SIGN[line.kind], class_="sign", aria_hidden="true")
    spoken = tag("span", _SPOKEN[line.kind], class_="spoken") if line.kind in _SPOKEN else Markup("")
    pieces = [tag("mark", text) if differs else joined(text) for text, differs in line.pieces]
    return tag("div", sign, spoken, tag("span", *pieces, dir="auto", class_="text"), class_=line.kind)


def _foot(program_id: str) -> Markup:
    named = [tag("p", "Program ", tag("code", program_id))] if program_id else []
    said = "The data of each chart stand in this file as Vega-Lite, in the blocks vega-lite-…"
    return tag("footer", *named, tag("p", said), tag("p", "Made by erlbridge."))


def _data(chart: Chart) -> Markup:
    """A block that no browser runs; `<` is written so that nothing in it ends the block."""
    text = json.dumps(spec(chart), ensure_ascii=True).replace("<", "\\u003c")
    return tag("script", Markup(text), type="application/json", id=f"vega-lite-{chart.key}")


def _duration(duration_ms: int) -> str:
    seconds = duration_ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
