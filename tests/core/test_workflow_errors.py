"""Workflows that are none: every error at once with its line, and no input that raises anything else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_workflow import load, refusals

from erlbridge.codec import Atom
from erlbridge.core.workflow import map_document, parse_workflow
from erlbridge.core.yaml_text import write_yaml
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

BROKEN = """\
workflow:
  dspy_config:
    optimization_enabled: maybe
    evaluation_mode: bootstrap_few_shoot
  steps:
    - name: one
      type: claude
      signature:
        input_fields:
          - {name: code, type: strng}
          - {name: "two words"}
        output_fields: []
    - name: one
      prompt: {a: 1}
    - 17
    - name: four
      type: claude
      signature: "a -> b: integer"
      examples:
        - input: {a: x}
          output: {b: 1}
        - input: {a: x}
          output: {b: many}
"""


def test_every_error_is_told_at_once_with_its_line_in_order() -> None:
    with pytest.raises(ValidationError) as refused:
        load(BROKEN)
    found = [(one[Atom("line")], one[Atom("path")]) for one in refused.value.context["errors"]]  # type: ignore[attr-defined]
    assert found == [
        (3, "workflow.dspy_config.optimization_enabled"),
        (4, "workflow.dspy_config.evaluation_mode"),
        (10, "workflow.steps[0].signature.input_fields[0].type"),
        (11, "workflow.steps[0].signature.input_fields[1].name"),
        (12, "workflow.steps[0].signature.output_fields"),
        (13, "workflow.steps[1]"),
        (14, "workflow.steps[1].prompt"),
        (15, "workflow.steps[2]"),
        (23, "workflow.steps[3].examples[1].output.b"),
    ]
    assert "errors in w.yaml: line 3, workflow.dspy_config.optimization_enabled: expected true or false" in str(
        refused.value
    )


def test_broken_yaml_is_an_error_of_the_same_shape() -> None:
    with pytest.raises(ValidationError, match=r"1 error in w\.yaml: line 2, .*`a` is there twice") as refused:
        load("a: 1\na: 2\n")
    assert [one[Atom("line")] for one in refused.value.context["errors"]] == [2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text", ["- a", "text", "~", "{}", "workflow: 1", "workflow: {}", "workflow: {steps: {}}", "steps: []"]
)
def test_what_is_no_workflow_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        load(text)


def test_a_map_is_read_like_the_yaml_that_says_the_same() -> None:
    term = {
        Atom("workflow"): {
            Atom("name"): b"w",
            b"steps": [{Atom("name"): b"a", Atom("type"): Atom("claude"), Atom("signature"): b"a -> b"}],
        }
    }
    found = parse_workflow(map_document(Place(term, "payload.workflow"), None), None, {})
    assert (found.name, found.steps[0].kind, found.steps[0].type) == ("w", "dspy", "claude")


def test_a_map_of_too_many_values_is_refused_before_it_is_copied() -> None:
    with pytest.raises(ValidationError, match="at most 100000 values"):
        map_document(Place({b"steps": [[0]] * 60_000}, "payload.workflow"), None)


def test_reading_ends_with_the_hundredth_error() -> None:
    assert len(refusals(*[{"name": str(number)} for number in range(200)])) == 100


def test_a_workflow_of_too_many_steps_or_references_is_refused() -> None:
    many = [{"name": f"s{number}", "type": "claude"} for number in range(257)]
    assert "at most 256 steps" in str(refusals(*many))
    assert "at most 2000 references" in str(refusals({"name": "a", "type": "claude", "prompt": "{{x}}" * 2001}))


def test_the_document_s_own_example_loads_without_a_warning(root: Path) -> None:
    text = (root / "docs" / "workflows.md").read_text()
    block = text.partition("    workflow:\n")[2].partition("\nIn Elixir:")[0]
    assert not load(f"workflow:\n{dedent_by_four(block)}").warnings


def dedent_by_four(text: str) -> str:
    return "".join(line.removeprefix("    ") for line in text.splitlines(keepends=True))


# -- anything at all --------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["name", "type", "prompt", "signature", "dspy_signature", "dspy_config", "examples", "dspy_optimized", "steps",
     "workflow", "pipeline", "environments", "production", "input_fields", "output_fields", "input", "output",
     "template", "schema", "enum", "items", "optimization", "evaluation_metric", "training_examples", "content",
     "few_shot_examples", "predictors", "step", "extract"]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.just(1.5)
    | st.sampled_from(
        ["a", "claude", "static", "previous_response", "a -> b", "{{a}}", "{{steps.a.b}}", "...", "list[X]", "[", "->"]
    )
)
THINGS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5))
STEPS = st.lists(st.dictionaries(KEYS, THINGS, max_size=5) | THINGS, max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow])  # which is the machine's, when it has other work
@given(THINGS | st.builds(lambda steps, config: {"workflow": {"steps": steps, "dspy_config": config}}, STEPS, THINGS))
@example({"workflow": {"steps": [{"name": "a", "type": "b", "signature": {"input_fields": [{"name": 1}]}}]}})
@example({"workflow": {"steps": [{"name": ["a"], "type": {}, "prompt": [{"type": "static", "content": 1}]}]}})
def test_no_document_raises_anything_but_a_validation_error(data: object) -> None:
    with suppress(ValidationError):
        load(write_yaml(data))
