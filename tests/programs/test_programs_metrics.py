"""Metrics: their scores on pairs of values, and how they become verdicts for bootstrapping."""

from __future__ import annotations

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_jobs import Watcher

from erlbridge.core.configs import Budget
from erlbridge.core.metrics import Metric
from erlbridge.programs import metrics
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.metrics import Scorer


def scorer(metric: Metric, fields: tuple[str, ...] = ("a",), threshold: float | None = None) -> Scorer:
    return Scorer(metric, fields, Guard(Watcher(), Budget()), threshold)


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
        Scorer(Metric("numeric"), ("a",), guard).score({"a": "many"}, {"a": 1})
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
@pytest.mark.parametrize("name", ["exact_match", "normalized_match", "f1", "contains"])
def test_a_score_is_between_nothing_and_one_and_a_value_matches_itself(name: str, gold: object, found: object) -> None:
    compare = getattr(metrics, name)
    assert 0.0 <= compare(gold, found) <= 1.0
    assert compare(gold, gold) == 1.0
