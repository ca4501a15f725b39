"""What a record may hold at most, so that drawing it keeps nobody waiting, whoever has made it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from report_records import record

from erlbridge.errors import ValidationError
from erlbridge.reports.difference import Effort, difference
from erlbridge.reports.record import Demo, Moment, Prompt, Record, Row, Trial, pack, unpack
from erlbridge.reports.term import report_term


def worst() -> Iterator[tuple[str, Record]]:
    """Records that cost a page as much as one can that is taken, each in its own way."""
    short, long = (("f", "<"),) * 40, (("f", "<" * 3_000),) * 2
    again, anew = ("\n".join(letters[at % len(letters)] for at in range(199)) for letters in ("ab", "abc"))
    words = ["".join(letters[at % len(letters)] for at in range(298)) for letters in (".,", ".,;")]
    rewritten = ["\n".join(f"{word}{at}" for at in range(60)) for word in words]
    yield "trials", record(trials=tuple(Trial(at, at / 1000, True, at, at) for at in range(1000)))
    yield "stages", record(moments=tuple(Moment(at, "<" * 96 + f"{at}", at, at, at, at) for at in range(512)))
    yield "values", record(rows=(Row(0, short, short, short, short, 0.0, 1.0),) * 60)
    yield "texts", record(rows=(Row(0, long, long, long, long, 0.0, 1.0),) * 60)
    yield "lines", record(prompts=(Prompt("p", "\n" * 9_000, "\n" * 9_000 + "x", (), 0),) * 64)
    yield "compared lines", record(prompts=(Prompt("p", again, anew, (), 0),) * 64)
    yield "compared words", record(prompts=(Prompt("p", *rewritten, (), 0),) * 32)


@pytest.mark.parametrize(("_what", "one"), [pytest.param(what, one, id=what) for what, one in worst()])
def test_a_record_that_can_be_stored_is_drawn_within_half_a_second_or_so(_what: str, one: Record) -> None:
    """Whatever a worker has put into it: the thread of the node's disk draws it each time that it is asked for."""
    content = pack(one)
    began = time.process_time()
    report_term(unpack(content), "program:1")
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize(
    ("one", "path", "limit"),
    [
        (
            record(rows=(), prompts=(Prompt("p", "", "", (Demo((("f", ""),) * 64, True),) * 24, 24),) * 64),
            "report.prompts[6].demos[12].fields",
            "10000 values",
        ),
        (record(prompts=(Prompt("p", "x" * 60_000, "", (), 0),) * 64), "report.prompts[24].before", "1500000 char"),
        (
            record(rows=(Row(0, (("f", "x" * 5_000),), (), (), (), 0.0, 1.0),)),
            "report.rows[0].inputs[0][1]",
            "4000 char",
        ),
    ],
)
def test_a_record_that_holds_too_much_in_all_is_refused_where_it_does(one: Record, path: str, limit: str) -> None:
    with pytest.raises(ValidationError, match=f"expected at most {limit}") as caught:
        unpack(pack(one))
    assert caught.value.path == path


def test_what_is_left_when_the_effort_is_spent_is_shown_as_gone_and_new() -> None:
    before, after = "one two three\nfour five six", "one two seven\nfour five nine"
    whole, spent = list(difference(before, after)), list(difference(before, after, Effort(0)))
    assert [line.kind for line in whole] == [line.kind for line in spent] == ["gone", "gone", "new", "new"]
    assert [any(differs for _, differs in line.pieces) for line in whole] == [True] * 4
    assert ["".join(text for text, _ in line.pieces) for line in spent] == [*before.split("\n"), *after.split("\n")]
    assert [line.pieces for line in spent] == [((text, False),) for text in [*before.split("\n"), *after.split("\n")]]
