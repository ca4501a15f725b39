"""Records of optimizations that never were, for tests of what is drawn of them."""

from __future__ import annotations

from typing import Any

from erlbridge.reports.record import Demo, Moment, Prompt, Record, Row, Trial

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\x1b[31m\u202e]]><!--"
"""What a job's text may hold that a page must not take for more than text."""


def record(**changes: Any) -> Record:
    """An optimization of twelve examples, eight of which became better."""
    trials = tuple(
        Trial(number, score, whole, number * 1.5, number * 10)
        for number, (score, whole) in enumerate([(0.25, True), (0.9, False), (0.5, True), (0.75, True)], 1)
    )
    moments = tuple(
        Moment(at * 1.0, ("baseline", "searching", "evaluating")[at // 4], at * 5, at, at * 900, at * 0.002)
        for at in range(12)
    )
    rows = (_row(0, 0.0, 1.0), _row(4, 0.25, 0.5), _row(7, 1.0, 0.5), _row(9, 0.5, 0.5))
    known: dict[str, Any] = {
        "name": "Triage", "module": "predict", "optimizer": "mipro_v2", "metric": "exact_match", "seed": 0,
        "score_before": 0.25, "score_after": 0.75, "examples": 12, "improved": 8, "same": 3, "worse": 1,
        "lm_calls": 55, "cached_calls": 11, "tokens": 9900, "cost_usd": 0.022, "duration_ms": 11_000,
        "trial_count": 4, "trials": trials, "moments": moments, "rows": rows, "prompts": (_prompt(),),
    }  # fmt: skip
    return Record(**{**known, **changes})


def hostile(text: str = HOSTILE) -> Record:
    """The same, with a hostile text wherever a job's own may stand."""
    fields = ((text, text),)
    return record(
        name=text,
        module=text,
        metric=text,
        rows=(Row(0, fields, fields, fields, fields, 0.0, 1.0),),
        prompts=(Prompt(text, f"{text}\nold", f"{text}\nnew {text}", (Demo(fields, True),), 2),),
        moments=(Moment(0.0, text, 0, 0, 0, 0.0), Moment(1.0, text, 5, 1, 9, 1.0)),
    )


def _row(index: int, before: float, after: float) -> Row:
    return Row(
        index,
        (("subject", "Where is it?"),),
        (("category", "shipping"),),
        (("category", "billing"),),
        (("category", "shipping"),),
        before,
        after,
    )


def _prompt() -> Prompt:
    demo = Demo((("subject", "A refund"), ("category", "billing")), bootstrapped=True)
    return Prompt("answer", "Sort the ticket.\nBe kind.", "Sort the ticket with care.\nBe kind.", (demo,), 3)
