"""Pipelines and modules as hosts write them: how steps are wired, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.jobs import GivenEnsemble, OptimizeSignature, Predict, StoredProgram, parse_job, stored_programs
from erlbridge.core.modules import Module, module_term, parse_module
from erlbridge.core.pipelines import Pipeline, Source, parse_pipeline
from erlbridge.core.signatures import Field, FieldType
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place


def step(name: str, signature: object, **more: object) -> dict[Any, Any]:
    return {Atom("name"): name.encode(), Atom("signature"): signature, **{Atom(k): v for k, v in more.items()}}


def read(*steps: object, **more: object) -> Pipeline:
    term = {Atom("steps"): list(steps), **{Atom(key): value for key, value in more.items()}}
    return parse_pipeline(Place(term, "payload.pipeline"))


def test_an_input_comes_from_the_newest_step_that_gives_it_else_from_the_pipelines_inputs() -> None:
    found = read(
        step("draft", b"question -> text, score: float"),
        step("polish", b"text, tone -> better"),
        step("check", b"text, better -> ok: bool"),
    )
    assert [item.name for item in found.inputs] == ["question", "tone"]
    assert [str(found.steps[2].sources[name]) for name in ("text", "better")] == ["draft.text", "polish.better"]
    assert found.interface.output_fields == (Field("ok", FieldType("boolean")),)


def test_from_names_another_source_and_outputs_are_chosen() -> None:
    found = read(
        step("a", b"x -> y"),
        step("b", b"x -> y", **{"from": {b"x": b"a.y"}}),
        step("c", b"z -> w", **{"from": {b"z": b"raw"}}),
        outputs=[b"a.y", b"w"],
        name=b"Three",
    )
    assert [item.name for item in found.inputs] == ["x", "raw"]
    assert found.steps[1].sources == {"x": Source("a", "y")}
    assert [str(source) for _, source in found.outputs] == ["a.y", "c.w"]


HERE = "payload.pipeline"
REFUSALS: list[tuple[list[object], dict[str, object], str, str]] = [
    ([], {}, f"{HERE}.steps", "1 to 32 steps"),
    ([step("a", b"x -> y"), step("a", b"y -> z")], {}, f"{HERE}.steps[1].name", "there twice"),
    ([step("a b", b"x -> y")], {}, f"{HERE}.steps[0].name", "a letter, then"),
    ([step("__class__", b"x -> y")], {}, f"{HERE}.steps[0].name", "a letter, then"),
    ([step("a", b"x -> config")], {}, f"{HERE}.steps[0].signature", "taken by DSPy"),
    ([step("a", b"x -> y", lm=1)], {}, f"{HERE}.steps[0]", "unknown key `lm`"),
    ([step("a", b"x -> y", module=b"nope")], {}, f"{HERE}.steps[0].module", "one of best_of_n"),
    ([step("a", b"x -> y"), step("b", b"y: int -> z")], {}, f"{HERE}.steps[1].signature",
     "`a.y` is a string, which does not fit `y`, an integer"),
    ([step("a", b"x: int -> y"), step("b", b"x: bool, y -> z")], {}, f"{HERE}.steps[1].signature", "does not fit"),
    ([step("a", b"x -> y", **{"from": {b"q": b"x"}})], {}, f"{HERE}.steps[0].from.q", "no input of the step `a`"),
    ([step("a", b"x -> y", **{"from": {b"x": b"b.y"}})], {}, f"{HERE}.steps[0].from.x", "an earlier step"),
    ([step("a", b"x -> y", **{"from": {b"x": b"a.y"}})], {}, f"{HERE}.steps[0].from.x", "an earlier step"),
    ([step("a", b"x -> y"), step("b", b"z -> w", **{"from": {b"z": b"a.q"}})], {}, f"{HERE}.steps[1].from.z",
     "an output of the step `a`"),
    ([step("a", b"x -> y", **{"from": {b"x": b"demos"}})], {}, f"{HERE}.steps[0].from.x", "taken by DSPy"),
    ([step("a", b"x -> y")], {"outputs": [b"x"]}, f"{HERE}.outputs[0]", "an output of one of the steps"),
    ([step("a", b"x -> y")], {"outputs": [b"y", b"a.y"]}, f"{HERE}.outputs[1]", "there twice"),
    ([step("a", b"x -> y"), step("b", b"y -> x")], {}, HERE, "an input and an output"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "more", "path", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_pipeline_that_does_not_fit_is_refused_with_its_place(
    steps: list[object], more: dict[str, object], path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read(*steps, **more)
    assert message in str(caught.value)
    assert caught.value.path == path


# -- modules ----------------------------------------------------------------------------------------------------------


def module(term: object) -> Module:
    return parse_module(Place(term, "payload.config.module"))


MODULES = [
    (Atom("predict"), "predict", {}),
    (b"ChainOfThought", "chain_of_thought", {}),
    ({b"name": b"best_of_n", b"n": 5}, "best_of_n", {"n": 5, "threshold": 1.0, "module": "predict"}),
    ({b"name": b"knn", b"module": b"chain_of_thought"}, "knn", {"k": 3, "module": "chain_of_thought"}),
    (Atom("program_of_thought"), "program_of_thought", {"max_iters": 3}),
]


@pytest.mark.parametrize(("term", "name", "options"), MODULES, ids=range(len(MODULES)))
def test_a_module_is_a_name_or_a_map_and_has_all_its_options(
    term: object, name: str, options: dict[str, object]
) -> None:
    found = module(term)
    assert (found.name, found.options) == (name, options)
    assert module(module_term(found)) == found


@pytest.mark.parametrize(
    ("reward", "description"),
    [
        ((Atom("call"), Atom("judge")), ""),
        ({b"name": (Atom("call"), b"judge")}, ""),
        ({b"name": (Atom("call"), b"judge"), b"description": b"Short is good."}, "Short is good."),
    ],
)
def test_a_reward_may_be_an_elixir_function(reward: object, description: str) -> None:
    found = module({b"name": b"refine", b"reward": reward})
    assert found.judge is not None
    assert (found.judge.function.text, found.judge.description, found.wishes) == ("judge", description, {})
    again = module(binary_to_term(term_to_binary(module_term(found))))
    assert again.judge is not None
    assert (again.judge.function.text, again.judge.description) == ("judge", description)


def test_a_reward_may_wish_for_more_than_the_signature() -> None:
    found = module({b"name": b"refine", b"reward": {b"name": b"constraints", b"fields": {b"a": {b"maxLength": 9}}}})
    assert module(module_term(found)) == found
    signature = b"q -> a"
    payload = {b"signature": signature, b"input": {b"q": b"x"}, b"config": {b"lm": b"offline", b"module": b"refine"}}
    assert isinstance(parse_job("predict", payload), Predict)


WRONG_MODULES: list[tuple[object, str, str]] = [
    (b"code_act", ".module", "one of best_of_n"),
    (b"ChainOfThoughts", ".module", "did you mean `ChainOfThought`?"),
    ({b"n": 3}, ".module", "expected the key `name`"),
    ({b"name": b"predict", b"n": 3}, ".module", "unknown key `n`"),
    ({b"name": b"best_of_n", b"n": 0}, ".module.n", "at least 1"),
    ({b"name": b"refine", b"n": 1}, ".module.n", "at least 2"),
    ({b"name": b"best_of_n", b"threshold": 2}, ".module.threshold", "at most 1"),
    ({b"name": b"best_of_n", b"module": b"refine"}, ".module.module", "one of chain_of_thought, predict"),
    ({b"name": b"best_of_n", b"reward": b"judge"}, ".module.reward", "one of constraints"),
    ({b"name": b"best_of_n", b"reward": (Atom("cal"), b"judge")}, ".module.reward", "{:call, name}"),
    (
        {b"name": b"best_of_n", b"reward": {b"name": (Atom("call"), b"judge"), b"fields": {}}},
        ".module.reward",
        "description",
    ),
    ({b"name": b"predict", b"reward": (Atom("call"), b"judge")}, ".module", "reward"),
    (
        {b"name": b"best_of_n", b"reward": {b"name": b"constraints", b"fields": {b"zz": {}}}},
        ".module.reward.fields.zz",
        "one of the output fields a",
    ),
    (
        {b"name": b"best_of_n", b"reward": {b"name": b"constraints", b"fields": {b"a": {b"minimum": 1}}}},
        ".module.reward.fields.a.minimum",
        "no bound of the type string",
    ),
    ({b"name": b"knn", b"embedder": b"x"}, ".module", "unknown key `embedder`"),
]


@pytest.mark.parametrize(("term", "path", "message"), WRONG_MODULES, ids=range(len(WRONG_MODULES)))
def test_a_module_that_cannot_be_taken_is_refused_before_a_worker_is_used(
    term: object, path: str, message: str
) -> None:
    payload = {b"signature": b"q -> a", b"input": {b"q": b"x"}, b"config": {b"lm": b"offline", b"module": term}}
    with pytest.raises(ValidationError) as caught:
        parse_job("predict", payload)
    assert caught.value.path == f"payload.config{path}"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        (b"chain_of_thought", b"q -> reasoning"),
        (b"multi_chain_comparison", b"reasoning_attempt_2 -> a"),
        (b"multi_chain_comparison", b"rationale -> a"),
        (b"program_of_thought", b"error -> a"),
        (b"refine", b"hint_ -> a"),
    ],
)
def test_a_field_that_a_module_writes_itself_is_refused(name: bytes, signature: bytes) -> None:
    payload = {b"signature": signature, b"input": {}, b"config": {b"lm": b"offline", b"module": name}}
    with pytest.raises(ValidationError, match="itself; rename it"):
        parse_job("predict", payload)


def test_a_step_that_answers_by_the_training_data_needs_its_fields_there() -> None:
    steps = [step("a", b"x -> y"), step("b", b"y -> z", module=b"knn")]
    payload = {
        b"pipeline": {b"steps": steps},
        b"training_data": [{b"x": b"1", b"z": b"2"}],
        b"config": {b"lm": b"offline"},
    }
    with pytest.raises(ValidationError, match=r"steps\[1\]: knn answers by the training data, which has no `y`"):
        parse_job("optimize_signature", payload)
    steps[1] = step("b", b"y -> z")
    assert isinstance(parse_job("optimize_signature", payload), OptimizeSignature)


def test_an_ensemble_names_the_stored_programs_it_needs() -> None:
    ids = [b"program:" + digit * 64 for digit in (b"0", b"1")]
    program = {b"members": [*ids, ids[0]], b"reduce": b"first"}
    job = parse_job("predict", {b"program": program, b"input": {}, b"config": {b"lm": b"offline"}})
    assert job.source == GivenEnsemble(tuple(StoredProgram(i.decode()) for i in (*ids, ids[0])), "first")
    assert stored_programs(job) == tuple(i.decode() for i in ids)
