"""What a report shows of a record: the charts' values, both ways to draw them, a page that nothing breaks out of."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import HOSTILE, hostile, record

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.errors import BridgeError, ValidationError
from erlbridge.reports.charts import Dots, Pairs, Steps, charts
from erlbridge.reports.difference import difference
from erlbridge.reports.markup import Markup, tag
from erlbridge.reports.page import page
from erlbridge.reports.record import Moment, Prompt, Record, Row, Trial, cut, pack, unpack
from erlbridge.reports.svg import draw
from erlbridge.reports.vega import spec


class Reader(HTMLParser):
    """A page's elements, with the text in each kind of them; what is never closed is found."""

    EMPTY = ("meta", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def chart(found: Record, key: str) -> Any:
    return next(one for one in charts(found) if one.key == key)


# -- charts


def test_best_so_far_rises_with_trials_on_all_examples_alone() -> None:
    layers = {layer.name: layer for layer in chart(record(), "score").layers if isinstance(layer, Steps | Dots)}
    assert [(point.x, point.y) for point in layers["best so far"].points] == [(0, 0.25), (3, 0.5), (4, 0.75), (5, 0.75)]
    assert [point.x for point in layers["trial on some examples"].points] == [2]
    assert layers["trial on some examples"].faint


def test_an_optimization_without_trials_shows_its_two_scores() -> None:
    layers = chart(record(trials=(), trial_count=0), "score").layers
    assert [(point.x, point.y) for layer in layers if isinstance(layer, Dots) for point in layer.points] == [
        (0, 0.25),
        (1, 0.75),
    ]


def test_what_nobody_knows_or_nobody_paid_has_no_chart() -> None:
    assert [one.key for one in charts(record())] == ["score", "examples", "calls", "tokens", "cost"]
    assert [one.key for one in charts(record(cost_usd=None, tokens=0, rows=()))] == ["score", "calls"]
    assert [one.key for one in charts(record(cost_usd=0.0))] == ["score", "examples", "calls", "tokens"]


def test_a_line_of_spending_keeps_only_the_points_where_it_rises_and_its_end() -> None:
    moments = tuple(Moment(at * 1.0, "searching", at // 10, 0, 0, None) for at in range(30))
    (line,) = (one for one in chart(record(moments=moments, cached_calls=0), "calls").layers if isinstance(one, Steps))
    assert [(point.x, point.y) for point in line.points] == [(0, 0), (10, 1), (20, 2), (29, 2)]


@pytest.mark.parametrize("key", ["score", "examples", "calls", "tokens", "cost"])
def test_a_drawing_is_xml_with_the_values_of_its_specification(key: str) -> None:
    found = chart(record(), key)
    drawn = ElementTree.fromstring(draw(found, 760))
    said = json.dumps(spec(found))
    assert json.loads(said)["$schema"].endswith("v5.json")
    titles = [title.text or "" for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    if any(isinstance(layer, Pairs) for layer in found.layers):
        assert titles == [
            "#1: 0 % before, 100 % after",
            "#5: 25 % before, 50 % after",
            "#8: 100 % before, 50 % after",
            "#10: 50 % before, 50 % after",
        ]
    for layer in found.layers:
        if isinstance(layer, Dots):
            assert all(point.label in titles and json.dumps(point.label) in said for point in layer.points)


@given(
    scores=st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=6),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    times=st.lists(st.floats(0, 1e9), max_size=6),
    calls=st.integers(0, 2**53),
)
@settings(max_examples=30, deadline=None)
def test_charts_of_any_numbers_are_drawn_within_their_frame(
    scores: list[tuple[float, bool]], ends: tuple[float, float], times: list[float], calls: int
) -> None:
    trials = tuple(Trial(at, score, whole, 0.0, 0) for at, (score, whole) in enumerate(scores, 1))
    moments = tuple(Moment(at, "searching", calls, calls, calls, calls / 1e6) for at in sorted(times))
    found = record(trials=trials, score_before=ends[0], score_after=ends[1], moments=moments)
    for one in charts(found):
        for width in (340.0, 760.0):
            for element in ElementTree.fromstring(draw(one, width)).iter():
                for name, low, high in (("cx", 0, width), ("x", 0, width), ("cy", 0, 2000), ("y1", 0, 2000)):
                    assert low <= float(element.get(name, low)) <= high
        json.dumps(spec(one), allow_nan=False)


# -- what has changed


def lines(before: str, after: str) -> list[str]:
    signs = {"same": " ", "gone": "-", "new": "+"}
    return [
        signs[line.kind] + "".join(f"[{text}]" if differs else text for text, differs in line.pieces)
        for line in difference(before, after)
    ]


def test_a_rewritten_line_shows_which_words_are_new() -> None:
    assert lines("Sort it.\nBe kind.", "Sort it.\nBe very kind.") == [" Sort it.", "-Be kind.", "+Be[ very] kind."]


def test_a_line_that_became_another_is_shown_whole() -> None:
    assert lines("a b c", "x y z w") == ["-a b c", "+x y z w"]


def test_texts_that_are_long_to_compare_are_shown_one_after_the_other() -> None:
    one, two = ("\n".join(f"{word} {at}" for at in range(5000)) for word in "ab")
    assert lines(one, two)[4999:5001] == ["-a 4999", "+b 0"]
    assert lines("a " * 5000, "b " * 5000)[0].startswith("-a a")


def test_what_two_long_texts_have_in_common_at_both_ends_is_no_difference() -> None:
    long = "\n".join(map(str, range(1000)))
    assert [line for line in lines(f"{long}\none\n{long}", f"{long}\ntwo\n{long}") if line[0] != " "] == [
        "-one",
        "+two",
    ]
    assert lines("a\na", "a") == [" a", "-a"]
    assert lines("", "") == [" "]


def test_how_a_line_ends_is_no_difference() -> None:
    assert lines("a\r\nb\rc", "a\nb\nd") == [" a", " b", "-c", "+d"]


def test_names_of_stages_that_follow_at_once_do_not_stand_on_each_other() -> None:
    stages = [(0.0, "baseline"), (0.1, "bootstrapping"), (0.2, "searching"), (50.0, "evaluating"), (100.0, "finishing")]
    moments = tuple(Moment(at, stage, int(at), 0, 0, None) for at, stage in stages)
    (chart,) = (chart for chart in charts(record(moments=moments)) if chart.key == "calls")
    drawn: Any = spec(chart)
    rules, names = ([value["what"] for value in layer["data"]["values"]] for layer in drawn["layer"][-3:-1])
    assert rules == [stage for _, stage in stages]
    assert names == ["baseline", "evaluating", "finishing"]


# -- the page


def test_lines_that_end_as_windows_ends_them_are_shown_as_lines() -> None:
    assert "\ufffd" not in page(record(rows=(Row(0, (("body", "Hello,\r\nwhere is it?"),), (), (), (), 0.0, 1.0),)))


def test_prompts_of_nothing_but_lines_make_no_endless_page() -> None:
    prompt = Prompt("p", "\n" * 30_000, "\n" * 30_000 + "x", (), 0)
    found = page(record(prompts=(prompt,) * 20))
    assert len(found) < 5_000_000
    assert found.count("… the further lines are left out") == 20


def test_no_text_of_a_job_becomes_markup() -> None:
    plain, found = Reader(page(record(), "program:1")), Reader(page(hostile(), HOSTILE))
    kinds = {name for name, _ in plain.elements}
    assert {name for name, _ in found.elements} <= kinds
    assert not [
        attributes for _, attributes in found.elements if {"onerror", "onload", "href", "src"} & set(attributes)
    ]
    blocks = [attributes for name, attributes in found.elements if name == "script"]
    assert [block["type"] for block in blocks] == ["application/json"] * 5
    assert [json.loads(text)["layer"] for text in found.texts["script"]]
    shown = "".join(found.texts["h1"])
    assert shown.startswith("</script><script>alert(1)</script>")
    assert not re.search("[\x00\x1b\u202e]", page(hostile(), HOSTILE))


def test_the_page_names_no_address_outside_of_it() -> None:
    text = re.sub(r'"https://vega\.github\.io/schema/[^"]*"|"http://www\.w3\.org/2000/svg"', "", page(record()))
    assert "://" not in text
    assert "default-src &#x27;none&#x27;" in text


def test_the_page_of_the_longest_record_stays_below_five_megabytes() -> None:
    one = hostile("x<" * 1000)
    many = dataclasses.replace(
        one,
        trials=tuple(Trial(at, at / 2000, True, 1.0, at) for at in range(1, 1001)),
        trial_count=123_456,
        rows=one.rows * 60,
        moments=tuple(Moment(at * 1.0, "searching", at, at, at, None) for at in range(512)),
    )
    assert len(page(many)) < 5_000_000
    assert "122456 trials between these are left out" in page(many)


@given(st.text())
def test_a_tag_keeps_any_text_as_text(text: str) -> None:
    read = Reader(tag("p", text, title=text))
    assert [name for name, _ in read.elements] == ["p"]
    shown = "".join(read.texts.get("p", []))
    assert len(shown) == len(text)
    assert all(one in (two, "\ufffd") for one, two in zip(shown, text, strict=True))


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "<"), Markup("&amp;")) == "<p><b>&lt;</b>&amp;</p>"


def test_a_text_that_is_cut_says_how_much_is_missing() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "abc… (1 more characters)"


# -- what is stored of one


def test_a_record_comes_back_as_it_was_packed() -> None:
    for one in (record(), hostile("x\ny"), record(cost_usd=None, trials=(), rows=(), prompts=())):
        assert unpack(pack(one)) == one


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        (b"format", 2, "report.format"),
        (b"name", b"x" * 100_000, "report.name"),
        (b"score_after", 1.5, "report.score_after"),
        (b"tokens", 2**60, "report.tokens"),
        (b"trials", [{}] * 5000, "report.trials"),
        (b"trials", ({b"number": 1},), "report.trials[0]"),
        (b"module", b"<" * 5000, "report.module"),
        (b"rows", b"no", "report.rows"),
        (b"moments", ({b"at_s": b"now"},), "report.moments[0]"),
        (b"prompts", ({b"name": b"x", b"before": b"", b"after": b"", b"demos": (1,)},), "report.prompts[0].demos[0]"),
    ],
)
def test_a_stored_record_that_is_none_is_refused_with_its_path(key: bytes, value: object, path: str) -> None:
    term = binary_to_term(pack(record()))
    assert isinstance(term, dict)
    with pytest.raises(ValidationError) as caught:
        unpack(term_to_binary({**term, key: value}))
    assert str(caught.value.path).startswith(path)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_bytes_that_were_changed_give_a_record_or_an_error_of_ours(data: st.DataObject) -> None:
    content = bytearray(pack(record()))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BridgeError):
        page(unpack(bytes(content)))
