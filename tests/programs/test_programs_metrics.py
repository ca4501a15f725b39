"""Metrics: their scores on pairs of values, and how they become verdicts for bootstrapping."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_jobs import Endpoint, Jobs, Watcher, completion

from erlbridge.core.configs import Budget
from erlbridge.core.metrics import Metric
from erlbridge.errors import OptimizationError
from erlbridge.programs.comparisons import COMPARISONS
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.intervals import interval95
from erlbridge.programs.metrics import Comparison, Scorer, Weighted


def scorer(metric: Metric, fields: tuple[str, ...] = ("a",), threshold: float | None = None) -> Scorer:
    return Scorer(metric, Comparison(metric, fields), fields, Guard(Watcher(), Budget()), threshold)


SCORES = [
    ("exact_match", "billing", "billing", 1.0),
    ("exact_match", "billing", "Billing", 0.0),
    ("exact_match", 1, True, 0.0),
    ("exact_match", 1, 1.0, 1.0),
    ("exact_match", ["a", "b"], ["b", "a"], 0.0),
    ("exact_match", {"k": [1]}, {"k": [1]}, 1.0),
    ("exact_match", "x", None, 0.0),
    ("exact_match", None, None, 1.0),
    ("normalized_match", "  The  Answer!", "the answer", 1.0),
    ("normalized_match", "STRASSE", "straße", 1.0),
    ("normalized_match", "ﬁne", "fine", 1.0),
    ("normalized_match", ["A."], ["a"], 1.0),
    ("normalized_match", 3, 3, 1.0),
    ("normalized_match", "3", 3, 0.0),
    ("f1", "the red house", "the red car", 2 / 3),
    ("f1", "a a b", "a", 0.5),
    ("f1", "", "", 1.0),
    ("f1", "a", "", 0.0),
    ("f1", ["red", "house"], "red house", 1.0),
    ("contains", "Paris", "It is paris, of course.", 1.0),
    ("contains", "Paris", "Rome", 0.0),
    ("contains", "", "anything", 0.0),
    ("contains", "", "", 1.0),
    ("numeric", 42, "The answer is 42.", 1.0),
    ("numeric", "1,234.5", 1234.5, 1.0),
    ("numeric", 42, "41 or 42", 0.0),
    ("numeric", -1e3, "-1e3", 1.0),
    ("numeric", 1, None, 0.0),
    ("numeric", 1, True, 0.0),
    ("numeric", 1, 10**400, 0.0),
    ("set_overlap", ["red", "blue"], ["Blue", "green"], 1 / 3),
    ("set_overlap", ["a", "a"], ["a"], 1.0),
    ("set_overlap", [1, True], [True], 0.5),
    ("set_overlap", [], None, 1.0),
    ("set_overlap", ["a"], None, 0.0),
    ("list_overlap", ["a", "a", "b"], ["a", "c"], 0.4),
    ("list_overlap", [{"k": [1]}], [{"k": [1]}], 1.0),
    ("list_overlap", "a", ["a"], 1.0),
]


@pytest.mark.parametrize(("name", "gold", "found", "score"), SCORES)
def test_a_metric_scores_a_pair_of_values(name: str, gold: object, found: object, score: float) -> None:
    assert scorer(Metric(name)).score({"a": gold}, {"a": found}) == pytest.approx(score)


def test_numbers_match_within_their_tolerance() -> None:
    close = scorer(Metric("numeric", tolerance=0.5))
    assert [close.score({"a": 10}, {"a": found}) for found in (10.5, 10.51, 9.5)] == [1.0, 0.0, 1.0]


def test_without_a_field_the_score_is_the_mean_over_all_outputs() -> None:
    both = scorer(Metric(), ("a", "b"))
    assert both.score({"a": "x", "b": "y"}, {"a": "x", "b": "z"}) == 0.5
    assert scorer(Metric(field="a"), ("a", "b")).score({"a": "x", "b": "y"}, {"a": "x"}) == 1.0


def test_a_missing_output_scores_nothing() -> None:
    assert scorer(Metric()).score({"a": "x"}, {}) == 0.0


@pytest.mark.parametrize(
    ("metric", "option", "threshold"),
    [
        (Metric(), None, 1.0),
        (Metric("f1"), None, 0.5),
        (Metric("f1", threshold=0.8), None, 0.8),
        (Metric("f1", threshold=0.8), 0.0, 0.0),
    ],
)
def test_a_trace_is_taken_from_its_threshold_on(metric: Metric, option: float | None, threshold: float) -> None:
    made = scorer(metric, threshold=option)
    assert made.threshold == threshold
    example = dspy.Example(q="q", a="a b c d").with_inputs("q")
    for answer in ("x", "a", "a b", "a b c", "a b c d"):
        prediction = dspy.Prediction(a=answer)
        score = made(example, prediction)
        verdict = made(example, prediction, trace=[])
        assert isinstance(verdict, bool)  # DSPy takes any truthy value, and 0.01 is one
        assert verdict == (score >= threshold)


def test_fields_that_are_called_like_methods_are_read() -> None:
    example = dspy.Example({"q": "q", "items": "x"}).with_inputs("q")
    assert scorer(Metric(), ("items",))(example, dspy.Prediction(items="x")) == 1.0


def test_a_metric_that_raises_stops_the_job_and_says_where() -> None:
    guard = Guard(Watcher(), Budget())
    with pytest.raises(Stop):
        Scorer(Metric("numeric"), Comparison(Metric("numeric"), ("a",)), ("a",), guard).score({"a": "many"}, {"a": 1})
    assert "ValueError" in str(guard.reason)
    assert guard.reason is not None
    assert "in numeric" in str(guard.reason.traceback)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(VALUES, VALUES)
@pytest.mark.parametrize("name", [name for name in COMPARISONS if name != "numeric"])
def test_a_score_is_between_nothing_and_one_and_a_value_matches_itself(name: str, gold: object, found: object) -> None:
    compare = COMPARISONS[name]
    assert 0.0 <= compare(gold, found) <= 1.0
    assert compare(gold, gold) == 1.0


def test_weights_make_a_mean_that_needs_not_add_up_to_one() -> None:
    parts = [(3.0, Comparison(Metric(field="a"), ("a", "b"))), (1.0, Comparison(Metric("f1", field="b"), ("a", "b")))]
    judge = Weighted(parts)
    assert judge({"a": "x", "b": "red car"}, {"a": "x", "b": "red bus"}).score == pytest.approx((3 + 0.5) / 4)
    assert judge({"a": "x", "b": "y"}, {}).score == 0.0


@pytest.mark.parametrize("weight", [5e-324, 1.0, 1.7e308])
def test_weights_of_any_size_make_a_mean(weight: float) -> None:
    parts = [(weight, Comparison(Metric(field="a"), ("a", "b"))), (weight, Comparison(Metric(field="b"), ("a", "b")))]
    judge = Weighted(parts)
    assert judge({"a": "x", "b": "y"}, {"a": "x", "b": "y"}).score == 1.0
    assert judge({"a": "x", "b": "y"}, {"a": "x", "b": "z"}).score == 0.5


def judged(endpoint: Endpoint, jobs: Jobs, *answers: str, **metric: object) -> Any:
    """An evaluation of three tickets by a judge whose answers are given, each beside a category of the program's."""
    program, judge = {"model": "offline"}, endpoint.lm()
    endpoint.script(*(completion(answer) for answer in answers))
    named = {"name": "judge", "rubric": "The category must fit.", "lm": judge, **metric}
    return jobs.evaluate(jobs.signature, count=3, metric=named, lm=program, num_threads=1, cache=False)


def verdict(reason: str, score: object) -> str:
    return f"[[ ## reason ## ]]\n{reason}\n\n[[ ## score ## ]]\n{score}\n\n[[ ## completed ## ]]"


def test_a_judge_scores_by_its_rubric_and_says_why(endpoint: Endpoint, jobs: Jobs) -> None:
    result = judged(endpoint, jobs, verdict("right", 1.0), verdict("so so", 0.25), verdict("wrong", 0.0))
    assert [row["score"] for row in result["results"]] == [1.0, 0.25, 0.0]
    assert [row["feedback"] for row in result["results"]] == ["right", "so so", "wrong"]
    assert result["score"] == pytest.approx(1.25 / 3)
    low, high = result["confidence_interval"]
    assert 0.0 <= low < result["score"] < high <= 1.0
    asked = endpoint.requests[0]["messages"][-1]["content"]
    assert "The category must fit." in asked
    assert jobs.tickets[0]["body"] in asked
    assert len(endpoint.requests) == 3
    assert result["metrics"]["lm_calls"] == 6


def test_a_judge_without_a_usable_score_is_asked_once_more_and_then_ends_the_job(
    endpoint: Endpoint, jobs: Jobs
) -> None:
    result = judged(endpoint, jobs, verdict("?", 7.5), *[verdict("right", 1.0)] * 3)
    assert [row["score"] for row in result["results"]] == [1.0, 1.0, 1.0]
    with pytest.raises(OptimizationError, match=r"the judge gave the score 7.5, expected a number from 0 to 1"):
        judged(endpoint, jobs, *[verdict("?", 7.5)] * 2)


@pytest.mark.parametrize("score", [0.0, 1.0])
@pytest.mark.parametrize("count", range(1, 30))
def test_an_interval_holds_its_mean(score: float, count: int) -> None:
    low, high = interval95([score] * count)
    assert 0.0 <= low <= score <= high <= 1.0


def test_an_interval_is_as_wide_as_the_sample_is_small() -> None:
    few, many = interval95([1.0, 0.0]), interval95([1.0, 0.0] * 500)
    assert few == pytest.approx((0.0945, 0.9055), abs=1e-4)  # Wilson's own method, worked by hand
    assert many == pytest.approx((0.4691, 0.5309), abs=1e-4)
    assert interval95([1.0])[1] == 1.0
