"""Optimizers and their options: every spelling, every range, and what depends on the data, before a worker is used."""

from __future__ import annotations

from pathlib import Path

import dspy
import pytest

from erlbridge.codec import Atom
from erlbridge.core.jobs import parse_job, stored_programs
from erlbridge.core.optimizers import ALIASES, BROKEN, OPTIONS, parse_optimizer, parse_options
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

HERE = "payload.config.options"
ID = "program:" + "a" * 64


def options(optimizer: str, *, trained: int = 10, validated: int = 8, **given: object) -> dict[str, object]:
    term = {Atom(name): value for name, value in given.items()}
    return parse_options(optimizer, Place(term, HERE), validation_count=validated, training_count=trained)


@pytest.mark.parametrize("name", [*OPTIONS, *ALIASES])
def test_every_spelling_names_an_optimizer(name: str) -> None:
    assert parse_optimizer(Place(name.encode(), "here")) in OPTIONS
    assert parse_optimizer(Place(Atom(name), "here")) in OPTIONS


def test_each_class_of_dspy_is_a_spelling_or_is_known_not_to_work() -> None:
    classes = {
        name
        for name in dspy.teleprompt.__all__
        if isinstance(cls := getattr(dspy.teleprompt, name), type)
        and issubclass(cls, dspy.teleprompt.Teleprompter)
        and cls is not dspy.teleprompt.Teleprompter
    }
    assert {"COPRO", "GEPA", "MIPROv2", "SIMBA"} <= classes
    assert classes <= {*ALIASES, *BROKEN}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_avatar_is_refused_with_why_and_what_to_do(name: str) -> None:
    with pytest.raises(ValidationError, match=r"DSPy 3\.4\.1 ships AvatarOptimizer broken.*take simba or gepa"):
        parse_optimizer(Place(name.encode(), "payload.config.optimizer"))


def test_avatar_is_still_broken() -> None:
    with pytest.raises(AttributeError, match="TypedPredictor"):
        dspy.teleprompt.AvatarOptimizer(metric=lambda *_: 1.0)


@pytest.mark.parametrize(
    ("optimizer", "given"),
    [
        ("copro", {"breadth": 2, "depth": 1, "init_temperature": 0}),
        ("simba", {"bsize": 10, "num_candidates": 2, "max_steps": 1, "temperature_for_sampling": 0.2}),
        ("gepa", {"max_metric_calls": 9, "reflection_minibatch_size": 10, "component_selector": b"all"}),
        ("gepa", {"auto": b"light", "max_full_evals": None, "stop_at_score": 1}),
        ("infer_rules", {"num_candidates": 1, "num_rules": 3, "max_rounds": 2}),
        ("knn_few_shot", {"k": 10}),
        ("ensemble", {"size": 2, "num_candidate_programs": 4}),
        ("ensemble", {"programs": [ID.encode(), {}]}),
        ("bootstrap_finetune", {"multitask": False, "train_kwargs": {b"n_epochs": 2, b"deep": [1, None]}}),
        ("better_together", {"strategy": b"p -> w -> p"}),
        ("bootstrap_few_shot_with_optuna", {"num_candidate_programs": 3}),
    ],
)
def test_options_within_their_ranges_are_taken(optimizer: str, given: dict[str, object]) -> None:
    assert set(options(optimizer, **given)) == set(given)


REFUSALS = [
    ("copro", {"breadth": 1}, ".breadth", "at least 2, got 1"),
    ("copro", {"depth": 0}, ".depth", "at least 1"),
    ("copro", {"bredth": 3}, "", "unknown key `bredth` (did you mean `breadth`?)"),
    ("simba", {"bsize": 11}, ".bsize", "at most 10, the number of training examples, got 11"),
    ("simba", {"num_candidates": 1}, ".num_candidates", "at least 2"),
    ("simba", {"temperature_for_sampling": 0}, ".temperature_for_sampling", "at least 0.01"),
    ("gepa", {"auto": b"light", "max_metric_calls": 50}, "", "`auto` and `max_metric_calls` both say how long"),
    ("gepa", {"max_full_evals": 2, "max_metric_calls": 50}, "", "give one"),
    ("gepa", {"max_metric_calls": 8}, ".max_metric_calls", "more than 8, the number of validation examples"),
    ("gepa", {"reflection_minibatch_size": 11}, ".reflection_minibatch_size", "at most 10, the number of training"),
    ("gepa", {"candidate_selection_strategy": b"best"}, ".candidate_selection_strategy", "one of current_best, pareto"),
    ("gepa", {"log_dir": b"/tmp"}, "", "unknown key `log_dir`"),
    ("mipro_v2", {"minibatch_size": 9}, ".minibatch_size", "at most 8, the number of validation examples"),
    ("knn_few_shot", {"k": 11}, ".k", "at most 10, the number of training examples"),
    ("ensemble", {"programs": [ID.encode()]}, ".programs", "a list of 2 to 100 program ids"),
    ("ensemble", {"programs": [ID.encode(), b"program:1"]}, ".programs[1]", "64 hexadecimal digits"),
    ("ensemble", {"programs": [ID.encode(), 7]}, ".programs[1]", "a program_id"),
    ("ensemble", {"programs": [ID.encode()] * 2, "size": 2}, ".size", "give one of the two"),
    ("ensemble", {"size": 1}, ".size", "at least 2"),
    ("better_together", {"strategy": b"p->w"}, ".strategy", "steps `p` (prompt) and `w` (weights)"),
    ("better_together", {"strategy": b"p" + b" -> w" * 10}, ".strategy", "at most 10 of them"),
    ("bootstrap_finetune", {"train_kwargs": [1]}, ".train_kwargs", "a map"),
    ("labeled_few_shot", {"k": 1001}, ".k", "at most 1000"),
]


@pytest.mark.parametrize(("optimizer", "given", "where", "message"), REFUSALS)
def test_an_option_out_of_its_range_is_refused_with_its_place(
    optimizer: str, given: dict[str, object], where: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        options(optimizer, **given)
    assert message in str(caught.value)
    assert caught.value.path == HERE + where


def test_the_documentation_names_every_optimizer_spelling_option_and_range(root: Path) -> None:
    text = (root / "docs" / "optimizers.md").read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    sections = {part.split("`")[1]: part for part in text.split("\n### ")[1:]}
    assert set(sections) == set(OPTIONS)
    for optimizer, table in OPTIONS.items():
        assert optimizer in rows
        for spelling in (alias for alias, name in ALIASES.items() if name == optimizer):
            assert f"`{spelling}`" in sections[optimizer]
        for name, option in table.items():
            assert f"| `{name}` | {option.allowed} |" in sections[optimizer], f"{optimizer}: {name}"


def payload(count: int, **config: object) -> dict[bytes, object]:
    examples = [{b"q": b"x", b"a": b"y"}] * count
    settings = {b"lm": b"offline", **{name.encode(): value for name, value in config.items()}}
    return {b"signature": b"q -> a", b"training_data": examples, b"validation_data": examples[:2], b"config": settings}


def test_a_batch_is_measured_by_the_training_data_and_not_by_the_validation_data() -> None:
    parse_job("optimize_signature", payload(5, optimizer=b"simba", options={b"bsize": 5}))
    with pytest.raises(ValidationError, match="at most 5, the number of training examples"):
        parse_job("optimize_signature", payload(5, optimizer=b"simba", options={b"bsize": 6}))


def test_the_stored_members_of_an_ensemble_travel_with_the_job() -> None:
    job = parse_job("optimize_signature", payload(2, optimizer=b"ensemble", options={b"programs": [ID.encode(), {}]}))
    assert stored_programs(job) == (ID,)


def test_a_search_for_one_demo_needs_labeled_ones() -> None:
    with pytest.raises(ValidationError, match="at least 1 for bootstrap_few_shot_with_optuna"):
        parse_job("optimize_signature", payload(2, optimizer=b"optuna", max_labeled_demos=0))
