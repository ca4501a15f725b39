"""GEPA: its budget, and what it is told about an output that falls short."""

from __future__ import annotations

import dspy
import pytest
from program_jobs import Jobs, Watcher
from test_programs_optimizers import DATA

from erlbridge.core.configs import Budget
from erlbridge.core.metrics import Metric
from erlbridge.errors import Cancelled
from erlbridge.programs.feedback import Feedback
from erlbridge.programs.guard import Guard
from erlbridge.programs.judgements import Judge, Judgement
from erlbridge.programs.metrics import Comparison, Scorer


def test_gepas_own_budget_is_foretold(jobs: Jobs) -> None:
    jobs.watcher.stop_when = lambda state: state.stage == "searching"
    jobs.watcher.reason = Cancelled("cancelled as asked")
    with pytest.raises(Cancelled):
        jobs.optimize("gepa", **DATA, options={"auto": "light"})
    foretold = {state.total for state in jobs.watcher.seen if state.stage == "searching"}
    assert len(foretold) == 1
    assert foretold != {None}


def feedback(*fields: str, judge: Judge | None = None) -> Feedback:
    metric = Metric("exact_match")
    return Feedback(Scorer(metric, judge or Comparison(metric, fields), fields, Guard(Watcher(), Budget())))


def test_gepa_is_told_what_the_metric_itself_has_to_say() -> None:
    found = feedback("a", judge=lambda *_: Judgement(0.5, "too short"))(
        dspy.Example(a="x"), dspy.Prediction(a="y"), None, "answer", []
    )
    assert (found["score"], found["feedback"]) == (0.5, "too short")


@pytest.mark.parametrize(
    ("example", "prediction", "said"),
    [
        ({"a": "x", "b": 1}, {"a": "y", "b": 1}, "Partly right, score 0.50: `a`: expected x, got y."),
        ({"a": "x", "b": 1}, {"a": "y"}, "`a`: expected x, got y; `b`: expected 1, got None."),
        ({"a": "x", "b": 1}, {"a": "x", "b": 1}, "This output is correct."),
    ],
)
def test_gepas_feedback_says_what_each_output_should_have_been(
    example: dict[str, object], prediction: dict[str, object], said: str
) -> None:
    metric = feedback("a", "b")
    found = metric(dspy.Example(example), dspy.Prediction(**prediction), None, "answer", [])
    assert found["feedback"] == said
    assert found["score"] == metric(dspy.Example(example), dspy.Prediction(**prediction))


def test_a_long_value_is_cut_in_the_feedback() -> None:
    metric = feedback("a")
    found = metric(dspy.Example(a="x" * 9000), dspy.Prediction(a="y" * 9000), None, "answer", [])
    assert len(found["feedback"]) < 1100
