"""pipeline_ex's workflows: every form its files have, every error at once, and no input that raises anything else."""

from __future__ import annotations

from typing import Any

import pytest

from erlbridge.codec import Atom
from erlbridge.core.workflow import Workflow, parse_workflow, yaml_document
from erlbridge.core.yaml_text import write_yaml
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

SIGNATURE = {
    "input_fields": [{"name": "code", "type": "string"}],
    "output_fields": [{"name": "analysis", "type": "object"}],
}
STEP = {"name": "analyze", "type": "claude", "signature": SIGNATURE}


def load(text: str, environment: str | None = None, **signatures: object) -> Workflow:
    named = {name: Place(term, "payload.signatures") for name, term in signatures.items()}
    return parse_workflow(yaml_document(Place(text.encode(), "payload.yaml"), "w.yaml"), environment, named)


def plan(*steps: object, environment: str | None = None, **root: object) -> Workflow:
    return load(write_yaml({"workflow": {"name": "w", "steps": list(steps), **root}}), environment)


def refusals(*steps: object, **root: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as refused:
        plan(*steps, **root)
    return [(str(one[Atom("path")]), str(one[Atom("message")])) for one in refused.value.context["errors"]]  # type: ignore[attr-defined]


def warned(workflow: Workflow) -> str:
    return "\n".join(f"{warning.path}: {warning.message}" for warning in workflow.warnings)


def field(**entries: object) -> dict[str, object]:
    return {**STEP, "signature": {**SIGNATURE, "input_fields": [{"name": "code", **entries}]}}


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "odd"),
    [
        ("workflow:\n  name: w\n  steps:\n    - {name: a, type: claude, prompt: hi}\n", "w", ""),
        ("pipeline: w\nsteps:\n  - {name: a, type: claude}\n", "w", "pipeline:"),
        ("pipeline:\n  name: w\nsteps:\n  - {name: a, type: claude}\n", "w", "pipeline:"),
        ("pipeline: {}\nname: w\nsteps:\n  - {name: a, type: claude}\n", "w", "pipeline:"),
        ("steps:\n  - {name: a, type: claude}\n", None, "at the top"),
        ("name: w\nsteps:\n  - {name: a, type: claude}\n", "w", "at the top"),
    ],
)
def test_each_root_of_pipeline_ex_is_read_and_the_odd_ones_warn(text: str, name: str | None, odd: str) -> None:
    workflow = load(text)
    assert workflow.name == name
    assert [(step.name, step.type, step.kind) for step in workflow.steps] == [("a", "claude", "other")]
    assert odd in warned(workflow)
    assert bool(odd) == bool(workflow.warnings)


@pytest.mark.parametrize("key", ["signature", "dspy_signature"])
def test_a_step_with_a_signature_under_either_key_is_dspys(key: str) -> None:
    [step] = plan({"name": "a", "type": "claude", key: SIGNATURE}).steps
    assert (step.kind, step.signature_key) == ("dspy", key)


def test_two_signatures_in_one_step_are_an_error() -> None:
    assert "give one of them" in str(refusals({**STEP, "dspy_signature": SIGNATURE}))


def test_a_signature_may_be_a_text_or_a_name_that_the_request_explains() -> None:
    [arrow] = plan({"name": "a", "type": "claude", "signature": "code -> analysis: object"}).steps
    text = write_yaml({"workflow": {"name": "w", "steps": [{"name": "a", "type": "claude", "signature": "Analysis"}]}})
    [named] = load(text, Analysis=SIGNATURE).steps
    assert arrow.signature == named.signature
    with pytest.raises(ValidationError, match=r"no signature is called `Analysis` \(did you mean `Analysys`"):
        load(text, Analysys=SIGNATURE)


@pytest.mark.parametrize(
    ("spelled", "kind"),
    [
        ("string", "string"),
        ("object", "map"),
        ("array", "list"),
        ("number", "number"),
        ("integer", "integer"),
        ("boolean", "boolean"),
        ("list[string]", "list"),
        ("dict[string, any]", "map"),
    ],
)
def test_each_type_of_pipeline_ex_is_read(spelled: str, kind: str) -> None:
    workflow = plan(field(type=spelled))
    [step] = workflow.steps
    assert step.signature is not None
    assert step.signature.input_fields[0].type.kind == kind
    assert not workflow.warnings


@pytest.mark.parametrize(("spelled", "kind"), [("CustomerRecord", "map"), ("list[CustomerRecord]", "list")])
def test_a_custom_type_is_a_map_with_a_warning(spelled: str, kind: str) -> None:
    workflow = plan(field(type=spelled))
    assert workflow.steps[0].signature is not None
    assert workflow.steps[0].signature.input_fields[0].type.kind == kind
    assert "CustomerRecord" in warned(workflow)


def test_a_field_may_have_all_that_pipeline_ex_writes_in_it() -> None:
    schema = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}
    workflow = plan(
        field(type="array", schema=schema, description="d", template="{{code}}", validation={"minItems": 1}),
        field(type="string", constraints={"length": {"min": 1, "max": 9}}) | {"name": "second"},
    )
    assert workflow.steps[0].signature is not None
    assert workflow.steps[0].signature.input_fields[0].type.items is not None


def test_the_placeholder_of_the_documents_is_named_as_what_it_is() -> None:
    signature = "{input_fields: [...], output_fields: [x]}"
    text = f"workflow:\n  name: w\n  steps:\n    - {{name: a, type: claude, signature: {signature}}}"
    with pytest.raises(ValidationError, match=r"`input_fields: \[\.\.\.\]` is how documents leave the fields out"):
        load(text)


def test_prompts_that_pipeline_ex_itself_does_not_load_warn_beside_a_signature() -> None:
    workflow = plan({**STEP, "type": "dspy_claude", "prompt": "Analyze"})
    assert "pipeline_ex 0.1 takes a list" in warned(workflow)
    assert "`dspy_claude`" in warned(workflow)
    assert not plan({"name": "a", "type": "claude", "prompt": "Analyze"}).warnings


def test_a_type_of_dspys_without_a_signature_is_an_error_unless_it_is_a_chain() -> None:
    assert "expected the key `dspy_signature`" in str(refusals({"name": "a", "type": "dspy_claude"}))
    chain = {"name": "a", "type": "dspy_chain", "dspy_config": {"chain_steps": [{"signature": "a -> b"}]}}
    assert "make each of the chain's signatures a step" in warned(plan(chain))


def test_prompt_parts_are_read_and_unknown_ones_warn() -> None:
    parts = [
        {"type": "static", "content": "On {{inputs.topic}}"},
        {"type": "file", "path": "a.txt"},
        {"type": "previous_response", "step": "analyze", "extract": "analysis"},
        {"type": "sesion", "id": 1},
    ]
    workflow = plan(STEP, {**STEP, "name": "b", "prompt": parts})
    assert [part.kind for part in workflow.steps[1].prompt] == ["static", "file", "previous_response"]
    assert workflow.files == ("a.txt",)
    assert "no files are read here" in warned(workflow)
    assert "unknown prompt part `sesion`" in warned(workflow)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_of_step_environment_and_workflow_lie_over_each_other() -> None:
    examples = [{"input": {"code": "x"}, "output": {"analysis": {}}}]
    root = {
        "dspy_config": {
            "optimization_enabled": True,
            "evaluation_mode": "bootstrap_few_shot",
            "evaluation_metric": "f1",
            "training_examples": examples,
            "fallback_strategy": "traditional",
            "optimization": {"max_demos": 3},
            "python_bridge": {"pool_size": 3, "timeout": 30_000},
        },
        "environments": {
            "production": {"dspy_config": {"optimization_enabled": False, "python_bridge": {"pool_size": 9}}},
            "testing": None,
        },
    }
    own = {**STEP, "name": "b", "dspy_config": {"optimization_enabled": True, "few_shot_examples": 2}}
    first, second = plan(STEP, own, **root).steps
    assert (first.settings.enabled, first.settings.optimizer, first.settings.max_demos) == (
        True,
        "bootstrap_few_shot",
        3,
    )
    assert (first.settings.metric, first.settings.fallback) == ("f1", "traditional")
    assert first.settings.training is not None
    assert second.settings.max_demos == 2

    produced = plan(STEP, own, environment="production", **root)
    assert [step.settings.enabled for step in produced.steps] == [False, True]
    assert produced.settings["python_bridge"] == {"pool_size": 9, "timeout": 30_000}  # type: ignore[index]
    assert plan(STEP, environment="testing", **root).steps[0].settings.enabled
    assert "no environment `prod`" in str(refusals(STEP, environment="prod", **root))


@pytest.mark.parametrize(
    ("mode", "optimizer"), [("bootstrap_few_shot", "bootstrap_few_shot"), ("copro", "copro"), ("mipro", "mipro_v2")]
)
def test_each_evaluation_mode_names_an_optimizer(mode: str, optimizer: str) -> None:
    assert plan(STEP, dspy_config={"evaluation_mode": mode}).steps[0].settings.optimizer == optimizer


def test_settings_that_change_nothing_here_say_so() -> None:
    config = {
        "training_data_path": "data.json",
        "real_time_optimization": {"enabled": True},
        "hybrid_mode": False,
        "optimization_frequency": "weekly",
        "evaluation_metric": "bert_score",
        "evaluation_modes": "copro",
        "optimization": {"strategy": "bootstrap_few_shot", "async_optimization": True, "max_demo": 1},
    }
    text = warned(plan(STEP, dspy_config=config))
    assert "no files are read here" in text
    assert "real_time_optimization: changes nothing here" in text
    assert "optimization_frequency: changes nothing here" in text
    assert "hybrid_mode" not in text
    assert "the request's own metric is used" in text
    assert "`evaluation_modes` (did you mean `evaluation_mode`?)" in text
    assert "`max_demo` (did you mean `max_demos`?)" in text


def test_a_workflow_names_no_model_for_a_metric() -> None:
    judge = {"name": "judge", "rubric": "kind", "lm": {"model": "openai/x", "api_base": "http://elsewhere"}}
    assert "models are named by the request" in str(refusals(STEP, dspy_config={"evaluation_metric": judge}))
    del judge["lm"]
    assert plan(STEP, dspy_config={"evaluation_metric": judge}).steps[0].settings.metric == judge


def test_two_switches_that_disagree_turn_optimizing_off_with_a_warning() -> None:
    workflow = plan(STEP, dspy_config={"optimization_enabled": True, "optimization": {"enabled": False}})
    assert workflow.steps[0].settings.enabled is False
    assert "says otherwise" in warned(workflow)


# -- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{{steps.analyze.analysis}}",
        "{{ analyze.analysis.summary }}",
        "{{previous_response:analyze}}",
        "{{previous_response: analyze.analysis}}",
        "{{previous_response}}",
        "{{inputs.topic}} and {{topic}} and {{topic.name}}",
        "no braces",
    ],
)
def test_references_to_earlier_steps_and_inputs_are_taken(text: str) -> None:
    assert not plan(STEP, {"name": "b", "type": "gemini", "prompt": text}).warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{steps.analyse.analysis}}", "no step is called `analyse` (did you mean `analyze`?)"),
        ("{{previous_response:nothing}}", "no step is called `nothing`"),
        ("{{steps.analyze.analyses}}", "has no output `analyses` (did you mean `analysis`?)"),
        ("{{steps.c.x}}", "the step `c` comes later"),
        ("{{c}}", "the step `c` comes later"),
        ("{{b.x}}", "in a circle: b → b"),
    ],
)
def test_references_that_cannot_hold_are_errors(text: str, message: str) -> None:
    [(path, said)] = refusals(STEP, {"name": "b", "type": "gemini", "prompt": text}, {"name": "c", "type": "file_ops"})
    assert path == "workflow.steps[1].prompt"
    assert message in said


def test_a_circle_of_steps_is_named() -> None:
    steps = [
        {"name": "a", "type": "claude", "prompt": "{{steps.c.x}}"},
        {"name": "b", "type": "claude", "prompt": [{"type": "previous_response", "step": "a"}]},
        {"name": "c", "type": "claude", "prompt": "{{previous_response:b}}"},
    ]
    assert refusals(*steps) == [
        ("workflow.steps[0].prompt", "the steps refer to each other in a circle: a → c → b → a")
    ]


def test_references_in_templates_and_odd_braces_are_looked_at_too() -> None:
    second = {**field(template="{{steps.nowhere.x}}"), "name": "b"}
    assert refusals(STEP, second)[0][0] == "workflow.steps[1].signature.input_fields[0].template"
    odd = plan(STEP, {"name": "b", "type": "gemini", "prompt": "{{#each items}} {{analyse.x}} {{ a | json }}"})
    assert "`{{#each items}}` is no reference" in warned(odd)
    assert "`analyse` (did you mean `analyze`?)" in warned(odd)


def test_there_is_nothing_before_the_first_step() -> None:
    assert "no step before the first" in str(
        refusals({"name": "a", "type": "claude", "prompt": "{{previous_response}}"})
    )
