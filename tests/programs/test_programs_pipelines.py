"""Modules, pipelines and ensembles with the offline LM: they run, are optimized, and come back from what is kept."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import dspy
import pytest
from program_jobs import CATEGORIES, Endpoint, Jobs, atoms, completion, plain

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.ensembles import MAX_MEMBERS
from erlbridge.core.jobs import Outcome
from erlbridge.core.modules import Module
from erlbridge.core.pipelines import parse_pipeline
from erlbridge.core.signatures import Field, FieldType, Signature, parse_signature
from erlbridge.errors import MissingPackage, OptimizationError, ValidationError
from erlbridge.programs.artifacts import Artifact, fresh, joined, members_of
from erlbridge.programs.envelopes import envelope, pack, read_envelope, unpack
from erlbridge.programs.modules import Recipe
from erlbridge.programs.neighbours import Index
from erlbridge.programs.objects import build_model, model_name
from erlbridge.programs.offline import offline_lm
from erlbridge.programs.pipelines import PipelineRecipe
from erlbridge.programs.signatures import build_signature, pipeline_term
from erlbridge.wire.place import Place

OFFLINE = {"lm": Atom("offline")}
PIPELINE = {
    "name": "Triage",
    "steps": [
        {"name": "shorten", "signature": "subject, body -> summary"},
        {
            "name": "sort",
            "signature": {
                "instructions": "Sort the summary into its category.",
                "input_fields": ["summary"],
                "output_fields": [{"name": "category", "enum": list(CATEGORIES)}],
            },
            "module": "chain_of_thought",
        },
    ],
}


def predict(jobs: Jobs, outcome: Outcome, **more: object) -> Any:
    row = jobs.tickets[70]
    payload = {
        "program": outcome.program_id,
        "input": {"subject": row["subject"], "body": row["body"]},
        "config": OFFLINE,
        **more,
    }
    assert outcome.program is not None
    return jobs.run("predict", payload, {str(outcome.program_id): outcome.program})[0]


MODULES: list[tuple[object, list[str], int]] = [
    ({"name": "best_of_n", "n": 2}, ["category"], 1),
    ({"name": "refine", "n": 2, "module": "chain_of_thought"}, ["reasoning", "category"], 1),
    ({"name": "multi_chain_comparison", "m": 2}, ["rationale", "category"], 3),
    ({"name": "knn", "k": 2}, ["category"], 1),
]


@pytest.mark.parametrize(("module", "outputs", "calls"), MODULES, ids=["best_of_n", "refine", "comparison", "knn"])
def test_each_module_is_optimized_and_answers_from_what_is_kept(
    jobs: Jobs, module: object, outputs: list[str], calls: int
) -> None:
    result, outcome = jobs.optimize("bootstrap_few_shot", train=8, dev=4, module=module)
    demos = [demo for part in result["program"]["state"].values() for demo in part["demos"]]
    assert any(demo.get("augmented") for demo in demos)
    answer = predict(jobs, outcome)
    assert list(answer["prediction"]) == outputs
    assert answer["metrics"]["lm_calls"] == calls
    assert outcome.program is not None
    kept = unpack(str(outcome.program_id), outcome.program)
    assert pack(outcome.result[Atom("program")]) == (outcome.program_id, outcome.program)  # type: ignore[index]
    assert kept.build().dump_state() == kept.build().dump_state()
    given = plain(outcome.result)["program"]["module"]
    assert given["name"] == module["name"]  # type: ignore[index]


def test_every_predictor_of_a_module_is_shown(jobs: Jobs) -> None:
    result, _ = jobs.optimize("labeled_few_shot", train=4, dev=2, module={"name": "multi_chain_comparison", "m": 2})
    shown = result["optimized_signature"]["predictors"]
    assert [part["name"] for part in shown] == ["answer.attempt.predict", "answer.compare.predict"]


def test_the_best_attempt_is_the_one_that_keeps_to_the_signature(jobs: Jobs, endpoint: Endpoint) -> None:
    for text in ("far too long an answer", "short", "never asked for"):
        endpoint.script(completion(f"[[ ## a ## ]]\n{text}\n\n[[ ## completed ## ]]"))
    signature = {"input_fields": ["q"], "output_fields": [{"name": "a", "validation": {"maxLength": 8}}]}
    payload = {
        "signature": signature,
        "input": {"q": "x"},
        "config": {"lm": endpoint.lm(), "cache": False, "module": {"name": "best_of_n", "n": 3}},
    }
    result, _ = jobs.run("predict", payload)
    assert result["prediction"] == {"a": "short"}
    assert len(endpoint.requests) == 2
    assert "at most 8 characters" in str(endpoint.requests[0]["messages"])


@pytest.mark.parametrize("name", ["best_of_n", "refine"])
def test_when_no_attempt_can_be_read_the_last_ones_error_is_told(jobs: Jobs, endpoint: Endpoint, name: str) -> None:
    endpoint.always(completion("nonsense"))
    payload = {
        "signature": "q -> n: int",
        "input": {"q": "x"},
        "config": {"lm": endpoint.lm(), "cache": False, "module": {"name": name, "n": 2}},
    }
    with pytest.raises(OptimizationError, match="the model's answer cannot be read"):
        jobs.run("predict", payload)


def test_a_program_of_thought_without_deno_costs_no_call(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "deno", None)
    with pytest.raises(MissingPackage, match="pip install 'dspy\\[deno\\]'"):
        jobs.optimize("bootstrap_few_shot", train=4, dev=2, module="program_of_thought")
    assert jobs.watcher.seen == []


def test_a_program_of_thought_keeps_its_signatures_instructions_and_comes_back() -> None:
    signature = Signature((Field("q"),), (Field("n", FieldType("integer")),), "Count well.")
    made = fresh(Recipe(signature, Module("program_of_thought", {"max_iters": 2})))
    assert all(part.instructions.startswith("Count well.\n\n") for part in made.state.values())
    assert unpack(*pack(envelope(made))) == made


def test_knn_without_numpy_names_the_extra(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingPackage, match="erlbridge\\[optimizers\\]"):
        jobs.optimize("labeled_few_shot", train=4, dev=2, module="knn")


def test_knn_finds_the_example_with_words_in_common_and_shows_it_last() -> None:
    rows = [{"q": "my parcel was damaged", "a": "x"}, {"q": "I forgot my password", "a": "y"}]
    near = Index(rows, ["q"], 2).nearest({"q": "the Passwords do not work"})
    assert [found.a for found in near] == ["x", "y"]
    assert [found.a for found in Index(rows[:1], ["q"], 3).nearest({"q": "?"})] == ["x"]


def test_knn_without_training_data_says_what_is_missing(jobs: Jobs) -> None:
    payload = {"signature": "q -> a", "input": {"q": "x"}, "config": {**OFFLINE, "module": "knn"}}
    with pytest.raises(ValidationError, match="optimize the signature first"):
        jobs.run("predict", payload)


# -- pipelines --------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_optimized_as_one_program_and_answers_from_what_is_kept(jobs: Jobs) -> None:
    payload = {
        "pipeline": PIPELINE,
        "training_data": jobs.tickets[:24],
        "validation_data": jobs.tickets[64:74],
        "config": {**OFFLINE, "optimizer": "bootstrap_few_shot"},
    }
    result, outcome = jobs.run("optimize_signature", payload)
    metrics = result["optimization_metrics"]
    assert metrics["score_before"] < metrics["score_after"]
    shown = result["optimized_pipeline"]
    assert [step["name"] for step in shown["steps"]] == ["shorten", "sort"]
    assert [step["module"] for step in shown["steps"]] == ["predict", "chain_of_thought"]
    assert [set(step["signature"]["demos"][0]) for step in shown["steps"]] == [
        {"subject", "body", "summary"},
        {"summary", "reasoning", "category"},
    ]
    answer = predict(jobs, outcome)
    assert answer["prediction"]["category"] in CATEGORIES
    assert answer["metrics"]["lm_calls"] == 2
    assert result["warnings"] == []


def test_a_pipeline_is_evaluated_and_a_failure_names_its_step(jobs: Jobs, endpoint: Endpoint) -> None:
    pipeline = {
        "steps": [{"name": "first", "signature": "q -> n: int"}, {"name": "second", "signature": "n: int -> a"}]
    }
    endpoint.always(completion("nonsense"))
    payload = {
        "pipeline": pipeline,
        "data": [{"q": "x", "a": "y"}],
        "config": {"lm": endpoint.lm(), "cache": False},
    }
    result, _ = jobs.run("evaluate_pipeline", payload)
    assert result["failures"] == 1
    assert result["results"][0]["error"].endswith("(in the step `first`)")
    payload = {"pipeline": pipeline, "input": {"q": "x"}, "config": payload["config"]}
    with pytest.raises(OptimizationError, match=r"\(in the step `first`\)"):
        jobs.run("predict", payload)


def test_what_is_written_of_a_pipeline_reads_as_it_was() -> None:
    term = {
        "name": "P",
        "steps": [
            {"name": "a", "signature": "x: int -> y: list[str]", "module": "predict"},
            {
                "name": "b",
                "signature": "z, t: list[any] -> w",
                "module": {"name": "refine", "n": 2},
                "from": {"t": "a.y"},
            },
        ],
        "outputs": ["a.y", "w"],
    }
    read = parse_pipeline(Place(atoms(term), "p"))
    written = binary_to_term(term_to_binary(pipeline_term(read)))
    assert parse_pipeline(Place(written, "p")) == read
    made = fresh(PipelineRecipe(read))
    assert unpack(*pack(envelope(made))) == made


# -- ensembles and envelopes ------------------------------------------------------------------------------------------


def single(signature: str = "q -> a", module: str = "predict") -> Artifact:
    return fresh(Recipe(parse_signature(Place(signature, "s")), Module(module)))


def test_an_ensemble_answers_with_most_of_its_members() -> None:
    made = joined([(f"m{i}", single()) for i in range(3)], "majority")
    program = made.build()
    for member, answer in zip(program.members, ("no", "Yes", "yes "), strict=True):
        member.answer.demos = [dspy.Example(q="x", a=answer)]
    with dspy.context(lm=offline_lm(), trace=None):
        assert program(q="x").a == "Yes"
    assert unpack(*pack(envelope(made))) == made
    assert members_of(made) == (single(),) * 3


def test_stored_and_given_programs_answer_together(jobs: Jobs) -> None:
    stored, outcome = jobs.optimize("labeled_few_shot", train=16, dev=2)
    given, _ = jobs.optimize("labeled_few_shot", train=16, dev=2, module="chain_of_thought")
    program = {"members": [outcome.program_id, given["program"]], "reduce": "majority"}
    answer = predict(jobs, outcome, program=program)
    assert list(answer["prediction"]) == ["category"]  # of equal votes the first member's counts
    assert answer["metrics"]["lm_calls"] == 2
    assert stored["program_id"] != given["program_id"]


@pytest.mark.parametrize(
    ("other", "message"), [(single("q -> b"), "expected the fields"), (single("q: int -> a"), "another type")]
)
def test_members_that_do_not_take_and_give_the_same_are_refused(other: Artifact, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        joined([("program.members[0]", single()), ("program.members[1]", other)], "first")
    assert caught.value.path == "program.members[1]"


def hostile(artifact: Artifact, change: Callable[[dict[str, Any]], object]) -> Place:
    term = plain(binary_to_term(term_to_binary(envelope(artifact))))
    change(term)
    return Place(atoms(term), "program")


CHAIN = fresh(PipelineRecipe(parse_pipeline(Place(atoms(PIPELINE), "p")).with_module(Module(), "p")))
PAIR = joined([("a", single()), ("b", single())], "majority")
NEAR = fresh(Recipe(parse_signature(Place("q -> a", "s")), Module("knn", {"k": 1, "module": "predict"}))).learned(
    [{"q": "x", "a": "y"}]
)


def evil(term: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = term["state"][name]
    return found


A_STEP, A_MEMBER = "program.state.step_shorten", "program.members[0].state.answer"
HOSTILE: list[tuple[Artifact, Callable[[dict[str, Any]], object], str, str]] = [
    (CHAIN, lambda t: t.update(module="predict"), "program", "unknown key `module`"),
    (CHAIN, lambda t: t.update(signature="q -> a"), "program", "expected one of the keys"),
    (CHAIN, lambda t: evil(t, "step_shorten").update(lm={"api_base": "http://evil"}), A_STEP, "`lm`"),
    (CHAIN, lambda t: evil(t, "step_sort.predict").update(train=[]), "program.state.step_sort.predict", "`train`"),
    (CHAIN, lambda t: t["state"].pop("step_shorten"), "program.state", "expected the key `step_shorten`"),
    (CHAIN, lambda t: evil(t, "step_shorten")["demos"].append({"category": "x"}),
     "program.state.step_shorten.demos[0]", "unknown key `category`"),
    (CHAIN, lambda t: t["pipeline"]["steps"][0].update(module="code_act"),
     "program.pipeline.steps[0].module", "one of"),
    (NEAR, lambda t: t["examples"].append({"q": "x"}), "program.examples[1]", "expected the field `a`"),
    (NEAR, lambda t: t["examples"].append({"q": "x", "a": "y", "api_base": "z"}), "program.examples[1]", "unknown key"),
    (PAIR, lambda t: t["members"][1].update(pickle="x"), "program.members[1]", "unknown key `pickle`"),
    (PAIR, lambda t: t["members"][0]["state"]["answer"].update(config={}), A_MEMBER, "`config`"),
    (PAIR, lambda t: t["members"].__setitem__(0, plain(envelope(PAIR))), "program.members[0]", "cannot be a member"),
    (PAIR, lambda t: t.update(reduce="eval"), "program.reduce", "one of first, majority"),
    (PAIR, lambda t: t.update(members=t["members"] * MAX_MEMBERS), "program.members", f"1 to {MAX_MEMBERS} programs"),
    (single(), lambda t: t.update(dspy="latest"), "program.dspy", "a version of DSPy"),
]  # fmt: skip


@pytest.mark.parametrize(("artifact", "change", "path", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_program_of_any_kind_is_refused_by_name(
    artifact: Artifact, change: Callable[[dict[str, Any]], object], path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read_envelope(hostile(artifact, change))
    assert message in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("artifact", [CHAIN, PAIR, NEAR], ids=["pipeline", "ensemble", "knn"])
def test_a_program_of_any_kind_comes_back_as_it_was_written(artifact: Artifact) -> None:
    assert unpack(*pack(envelope(artifact))) == artifact


def test_a_program_of_another_minor_loads_with_a_warning_when_it_fits() -> None:
    assert read_envelope(hostile(single(), lambda term: term.update(dspy="3.4.99"))).warnings == ()
    loaded = read_envelope(hostile(single(), lambda term: term.update(dspy="3.3.0")))
    assert loaded.warnings == (f"the program was made under DSPy 3.3.0, this node has {dspy.__version__}",)
    with pytest.raises(ValidationError, match=r"made under DSPy 3\.3\.0, .* does not fit: program\.state"):
        read_envelope(hostile(single(), lambda term: term.update(dspy="3.3.0", state={})))


# -- objects ----------------------------------------------------------------------------------------------------------

ORDER = {
    "type": "object",
    "properties": {
        "__class__": {"type": "string", "description": "which kind"},
        "model_config": {"type": "integer", "minimum": 1},
        "zip code": {"type": "array", "items": {"type": "string", "maxLength": 5}},
    },
    "required": ["__class__"],
    "additionalProperties": False,
}


def order() -> FieldType:
    term = {"input_fields": ["q"], "output_fields": [{"name": "my_order", "schema": ORDER}]}
    return parse_signature(Place(atoms(term), "s")).output_fields[0].type


def test_an_object_is_a_model_under_the_names_of_its_schema() -> None:
    model = build_model(order(), "my_order")
    assert model.__name__ == "MyOrder"
    read = model.model_validate({"__class__": "x", "zip code": ["1"]})
    assert read.model_dump() == {"__class__": "x", "zip code": ["1"]}
    assert type(read) is model
    for wrong in ({}, {"__class__": 1}, {"__class__": "x", "lm": 1}, {"__class__": "x", "model_config": 0}):
        with pytest.raises(ValueError, match="validation error"):
            model.model_validate(wrong)
    assert model_name("__") == "Object"


def test_a_models_answer_is_held_to_the_schema_that_it_was_shown(jobs: Jobs, endpoint: Endpoint) -> None:
    def answer(text: str) -> None:
        endpoint.script(completion(f"[[ ## my_order ## ]]\n{text}\n\n[[ ## completed ## ]]"))

    signature = {
        "input_fields": [{"name": "q", "schema": ORDER}],
        "output_fields": [{"name": "my_order", "schema": ORDER}],
    }
    payload = {
        "signature": signature,
        "input": {"q": {"__class__": "in"}},
        "config": {"lm": endpoint.lm(), "cache": False},
    }
    answer('{"__class__": "book", "model_config": 2}')
    result, _ = jobs.run("predict", payload)
    assert result["prediction"] == {"my_order": {"__class__": "book", "model_config": 2}}
    shown = str(endpoint.requests[0]["messages"])
    assert "which kind" in shown
    assert "(MyOrder)" in shown
    for _ in range(2):  # DSPy asks once more, as JSON
        answer('{"model_config": 0}')
    with pytest.raises(OptimizationError, match="cannot be read"):
        jobs.run("predict", payload)


def test_bounds_are_told_to_the_model_and_leave_texts_as_they_are() -> None:
    term = {
        "input_fields": [{"name": "q", "validation": {"minLength": 1}}],
        "output_fields": [{"name": "n", "schema": {"type": "array", "items": {"type": "integer", "maximum": 9}}}],
    }
    built = build_signature(parse_signature(Place(atoms(term), "s")))
    assert built.input_fields["q"].annotation is str  # type: ignore[attr-defined]
    assert built.input_fields["q"].json_schema_extra["constraints"] == "at least 1 character"  # type: ignore[attr-defined]
    assert built.output_fields["n"].annotation == list[int]  # type: ignore[attr-defined]
    assert '"maximum": 9' in built.output_fields["n"].json_schema_extra["constraints"]  # type: ignore[attr-defined]


def test_a_type_that_is_not_known_is_told_with_the_result(jobs: Jobs) -> None:
    result, _ = jobs.run("predict", {"signature": "c: Customer -> a", "input": {"c": {}}, "config": OFFLINE})
    assert result["warnings"] == ["payload.signature: the type `Customer` is not known here; it is read as a map"]
