"""Workflows at work on the offline LM: optimized, handed over, fallen back, written back, and run again for nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from program_jobs import CATEGORIES, Endpoint, Jobs, plain

from erlbridge.codec import Atom
from erlbridge.core.yaml_text import read_yaml
from erlbridge.errors import ValidationError

OFFLINE = {"lm": Atom("offline")}

HEAD = """\
# Sorts tickets.
workflow:
  name: "triage"   # quoted on purpose
  dspy_config:
    optimization_enabled: true
    evaluation_mode: bootstrap_few_shot
  steps:
    - name: classify
      type: claude
"""
BLOCK_SIGNATURE = """\
      dspy_signature:
        input_fields:
          - {name: subject, type: string}
          - name: body
            type: string   # the whole of it
        output_fields:
          - {name: category, type: string, schema: {type: string, enum: [account, billing, shipping, technical]}}
        # how it is asked for:
        instructions: Sort the ticket.  # one day more
"""
FLOW_SIGNATURE = """\
      signature: {input_fields: [subject, body], output_fields: [
        {name: category, enum: [account, billing, shipping, technical]}]}
"""
TEXT_SIGNATURE = """\
      signature: "subject, body -> category: Literal['account', 'billing', 'shipping', 'technical']"   # as text
"""
TAIL = """\
    # then the answer
    - name: answer
      type: gemini
      prompt:
        - {type: static, content: "Answer the {{steps.classify.category}} team"}
"""


def ticket(row: Mapping[str, str]) -> dict[str, str]:
    return {"subject": row["subject"], "body": row["body"]}


def examples(jobs: Jobs, count: int = 12) -> str:
    rows = [{"input": ticket(row), "output": {"category": row["category"]}} for row in jobs.tickets[:count]]
    return "      examples:\n" + "".join(f"        - {json.dumps(row)}\n" for row in rows)


def triage(jobs: Jobs, signature: str = BLOCK_SIGNATURE) -> str:
    return f"{HEAD}{signature}{examples(jobs)}{TAIL}"


def run(jobs: Jobs, workflow: object, **payload: Any) -> Any:
    key = "yaml" if isinstance(workflow, str) else "workflow"
    given = {key: workflow, "inputs": ticket(jobs.tickets[70]), "config": OFFLINE, **payload}
    programs = payload.pop("stored", None) or {}
    given.pop("stored", None)
    return jobs.run("run_pipeline", given, programs)[0]


def test_a_workflow_is_optimized_predicted_and_handed_over_in_order(hosted: Jobs) -> None:
    result = run(hosted, triage(hosted))
    first, second = result["results"]
    assert (first["name"], first["success"], first["dspy_optimization_applied"], first["cached"]) == (
        "classify",
        True,
        True,
        False,
    )
    assert first["score_before"] < first["score_after"]
    assert first["program_id"] in hosted.watcher.kept
    assert (second["kind"], second["success"], second["dspy_optimization_applied"]) == ("other", True, False)
    assert result["outputs"]["classify"]["category"] in CATEGORIES
    assert result["outputs"]["answer"]["text"] == f"for {result['outputs']['classify']}"
    assert result["metrics"]["lm_calls"] == first["metrics"]["lm_calls"] > 24
    assert result["metrics"]["host_calls"] == second["metrics"]["host_calls"] == 1
    [(name, [step, context])] = hosted.watcher.called
    assert name == "execute_step"
    assert (step["name"], step["type"], step["prompt"][0]["type"]) == ("answer", "gemini", "static")
    assert context == {
        "workflow": "triage",
        "inputs": ticket(hosted.tickets[70]),
        "steps": {"classify": result["outputs"]["classify"]},
        "previous": "classify",
        "prompt": f"Answer the {result['outputs']['classify']['category']} team",
        "prompt_problem": None,
    }
    told = [(state.done, state.total, state.message) for state in hosted.watcher.seen if state.stage == "executing"]
    assert told == [(0, 2, "step 1 of 2: classify"), (1, 2, "step 2 of 2: answer")]


@pytest.mark.parametrize("signature", [BLOCK_SIGNATURE, FLOW_SIGNATURE, TEXT_SIGNATURE])
def test_the_optimized_yaml_keeps_all_else_loads_and_needs_no_optimization(hosted: Jobs, signature: str) -> None:
    text = triage(hosted, signature)
    result = run(hosted, text)
    written = result["optimized_yaml"]
    assert [line for line in written.splitlines() if line in text.splitlines()] == text.splitlines()
    assert not result["warnings"]

    loaded = hosted.run("load_workflow", {"yaml": written})[0]
    assert [step["outputs"] for step in loaded["steps"]] == [["category"], []]
    assert not loaded["warnings"]

    again = run(hosted, written)
    assert again["outputs"]["classify"] == result["outputs"]["classify"]
    assert again["metrics"]["lm_calls"] == 1
    assert (again["results"][0]["dspy_optimization_applied"], again["results"][0]["cached"]) == (True, True)
    assert again["results"][0]["program_id"] in hosted.watcher.kept
    assert again["optimized_yaml"] == written
    assert not again["warnings"]


@pytest.mark.parametrize("signature", [BLOCK_SIGNATURE, FLOW_SIGNATURE, TEXT_SIGNATURE])
def test_new_instructions_stand_where_the_old_ones_stood(hosted: Jobs, signature: str) -> None:
    """MIPROv2 without demos writes instructions and nothing else."""
    options = {"auto": None, "num_candidates": 3, "num_trials": 3, "minibatch": False}
    config = {**OFFLINE, "optimizer": "mipro_v2", "options": options, "max_demos": 0}
    result = run(hosted, triage(hosted, signature), config=config)
    document = read_yaml(result["optimized_yaml"], "yaml").data()
    step = document["workflow"]["steps"][0]
    found = step.get("dspy_signature") or step["signature"]
    assert found["instructions"] not in ("Sort the ticket.", None)
    assert "instructions" not in step["dspy_optimized"]["predictors"]["answer"]
    for comment in ("# Sorts tickets.", "# quoted on purpose", "# then the answer"):
        assert comment in result["optimized_yaml"]
    if signature == BLOCK_SIGNATURE:
        assert "# how it is asked for:\n        # one day more\n        instructions: " in result["optimized_yaml"]
    again = run(hosted, result["optimized_yaml"], config={"lm": Atom("offline")})
    assert again["metrics"]["lm_calls"] == 1
    assert again["outputs"]["classify"] == result["outputs"]["classify"]


@pytest.mark.parametrize("module", ["chain_of_thought", {"name": "knn", "k": 2}, "multi_chain_comparison"])
def test_a_program_of_any_module_is_held_by_its_workflow(hosted: Jobs, module: object) -> None:
    config = {**OFFLINE, "module": module, "optimizer": "labeled_few_shot", "max_labeled_demos": 3}
    result = run(hosted, triage(hosted), config=config)
    again = run(hosted, result["optimized_yaml"])
    assert again["results"][0]["cached"]
    assert again["outputs"]["classify"] == result["outputs"]["classify"]


def test_the_neighbours_of_knn_few_shot_stand_in_the_workflow(hosted: Jobs) -> None:
    result = run(hosted, triage(hosted), config={**OFFLINE, "optimizer": "knn_few_shot", "options": {"k": 3}})
    optimized = read_yaml(result["optimized_yaml"], "y").data()["workflow"]["steps"][0]["dspy_optimized"]
    assert len(optimized["examples"]) == 12
    assert run(hosted, result["optimized_yaml"])["outputs"]["classify"] == result["outputs"]["classify"]


def test_an_ensemble_has_no_place_in_a_workflow_and_is_named_by_the_next_request(hosted: Jobs) -> None:
    first = run(hosted, triage(hosted))["results"][0]["program_id"]
    stored = {first: hosted.watcher.kept[first]}
    config = {**OFFLINE, "optimizer": "ensemble", "options": {"programs": [first, first]}}
    result = run(hosted, triage(hosted), config=config, stored=stored)
    assert "an ensemble answers now" in result["warnings"][0]["message"]
    assert result["optimized_yaml"] == triage(hosted)
    ensemble = result["results"][0]["program_id"]
    again = run(hosted, triage(hosted), programs={"classify": ensemble}, stored=dict(hosted.watcher.kept))
    assert again["outputs"]["classify"] == result["outputs"]["classify"]


def test_a_model_that_a_step_trains_is_named_and_kept(hosted: Jobs) -> None:
    result = run(hosted, triage(hosted), config={**OFFLINE, "optimizer": "bootstrap_finetune"})
    assert result["results"][0]["model"] in hosted.watcher.kept


ODD_LAYOUTS = [
    "workflow: {{name: w, steps: [{{name: classify, type: claude, signature: {signature}, examples: {examples}}}]}}",
    "workflow:\n  name: w\n  steps:\n"
    "  - {{name: classify, type: claude, signature: {signature}, examples: {examples}}}",
    "x: &step\n  name: classify\n  type: claude\n  signature: {signature}\n  examples: {examples}\n"
    "workflow:\n  name: w\n  steps:\n  - *step",
    "workflow:\n  name: w\n  steps:\n  - name: classify\n    type: claude\n    signature: {signature}\n"
    "    examples: {examples}\n    note: |\n      no line end",
]


@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_a_layout_that_cannot_be_kept_is_written_anew_and_says_so(jobs: Jobs, layout: str) -> None:
    rows = [{**ticket(row), "category": row["category"]} for row in jobs.tickets[:8]]
    text = layout.format(signature=json.dumps(jobs.signature), examples=json.dumps(rows))
    config = {**OFFLINE, "optimizer": "labeled_few_shot"}
    text = "dspy_config: {optimization_enabled: true}\n" + text
    result = run(jobs, text, config=config)
    assert any("could not be kept" in warning["message"] for warning in result["warnings"])
    before, after = read_yaml(text, "y").data(), read_yaml(result["optimized_yaml"], "y").data()
    assert after["workflow"]["steps"][0].pop("dspy_optimized")["predictors"]["answer"]["demos"]
    assert after == before
    assert run(jobs, result["optimized_yaml"], config=config)["results"][0]["cached"]


def test_a_workflow_as_a_map_comes_back_as_one_and_needs_no_optimization(hosted: Jobs) -> None:
    workflow = read_yaml(triage(hosted), "yaml").data()
    result = run(hosted, workflow)
    optimized = result["optimized_workflow"]
    assert optimized["workflow"]["steps"][0].pop("dspy_optimized")["predictors"]["answer"]["demos"]
    assert optimized == workflow
    assert run(hosted, run(hosted, workflow)["optimized_workflow"])["results"][0]["cached"]


def test_a_program_that_the_request_names_is_used_as_it_is(hosted: Jobs) -> None:
    first = run(hosted, triage(hosted))["results"][0]
    programs = {first["program_id"]: hosted.watcher.kept[first["program_id"]]}
    again = run(hosted, triage(hosted), programs={"classify": first["program_id"]}, stored=programs)
    assert again["results"][0]["cached"]
    assert again["results"][0]["program_id"] == first["program_id"]
    assert again["metrics"]["lm_calls"] == 1
    with pytest.raises(
        ValidationError, match=r"no step with a signature is called `clasify` \(did you mean `classify`"
    ):
        run(hosted, triage(hosted), programs={"clasify": first["program_id"]}, stored=programs)


def test_a_program_made_from_other_examples_is_used_with_a_warning(hosted: Jobs) -> None:
    written = run(hosted, triage(hosted))["optimized_yaml"]
    rows = [{**ticket(row), "category": row["category"]} for row in hosted.tickets[20:24]]
    again = run(hosted, written, training_data={"classify": rows})
    assert again["results"][0]["cached"]
    assert "made from other fields, examples or settings" in again["warnings"][0]["message"]


def test_a_demo_that_does_not_fit_its_field_is_an_error_with_its_line(hosted: Jobs) -> None:
    written = run(hosted, triage(hosted))["optimized_yaml"]
    broken = written.replace("category: billing\n", "category: weather\n")
    line = broken.splitlines().index("              category: weather") + 1
    with pytest.raises(ValidationError) as refused:
        hosted.run("load_workflow", {"yaml": broken, "file": "triage.yaml"})
    [error] = plain(refused.value.context["errors"])
    assert error["line"] == line
    assert error["path"].startswith("workflow.steps[0].dspy_optimized.predictors.answer.demos[")
    assert "weather" in error["message"]


def test_without_examples_or_without_the_switch_nothing_is_optimized(hosted: Jobs) -> None:
    bare = run(hosted, f"{HEAD}{BLOCK_SIGNATURE}{TAIL}")
    assert not bare["results"][0]["dspy_optimization_applied"]
    assert "nothing was optimized" in bare["warnings"][0]["message"]
    off = run(hosted, triage(hosted).replace("enabled: true", "enabled: false"))
    assert off["metrics"]["lm_calls"] == 1
    assert off["optimized_yaml"] == triage(hosted).replace("enabled: true", "enabled: false")


def test_inputs_come_from_templates_prompts_requests_and_outputs(jobs: Jobs, endpoint: Endpoint) -> None:
    jobs.watcher.functions["execute_step"] = lambda step, context: {"found": {"body": "it is broken"}, "count": 3}
    steps = [
        {"name": "fetch", "type": "file_ops"},
        {
            "name": "classify",
            "type": "claude",
            "signature": {
                "input_fields": [
                    {"name": "subject"},
                    {"name": "body", "template": "{{steps.fetch.found.body}}"},
                    {"name": "count", "type": "integer", "template": "{{fetch.count}}"},
                    {"name": "asked"},
                ],
                "output_fields": ["category"],
            },
            "prompt": [{"type": "static", "content": "On {{inputs.subject}}:"}, {"type": "previous_response"}],
        },
        {"name": "again", "type": "claude", "signature": "category -> category_again"},
    ]
    endpoint.default = _chat
    inputs = {"subject": "printer"}
    result = run(jobs, {"workflow": {"name": "w", "steps": steps}}, inputs=inputs, config={"lm": endpoint.lm()})
    prompt = endpoint.requests[0]["messages"][-1]["content"]
    assert "[[ ## subject ## ]]\nprinter" in prompt
    assert "[[ ## body ## ]]\nit is broken" in prompt
    assert "[[ ## count ## ]]\n3" in prompt
    assert '[[ ## asked ## ]]\nOn printer:\n{"found": {"body": "it is broken"}, "count": 3}' in prompt
    assert "[[ ## category ## ]]\nbilling" in endpoint.requests[1]["messages"][-1]["content"]
    assert result["outputs"]["again"] == {"category_again": "billing"}
    assert result["metrics"]["input_tokens"] == 200


def _chat(request: dict[str, Any]) -> Any:
    from program_jobs import completion

    name = "category_again" if "category_again" in request["messages"][0]["content"] else "category"
    return completion(f"[[ ## {name} ## ]]\nbilling\n\n[[ ## completed ## ]]")


PARTS = [
    {"type": "static", "content": "On {{inputs.subject}}:"},
    {"type": "file", "path": "rules.txt"},
    {"type": "previous_response", "step": "fetch", "extract": "found"},
]


def test_prompts_are_filled_in_with_texts_of_files_that_the_request_holds(jobs: Jobs, endpoint: Endpoint) -> None:
    seen: list[Any] = []
    jobs.watcher.functions["execute_step"] = lambda step, context: (
        seen.append(context["prompt"]) or {"found": {"body": "it is broken"}}
    )
    steps = [
        {"name": "fetch", "type": "file_ops"},
        {"name": "sum_up", "type": "claude", "prompt": PARTS},
        {"name": "ask", "type": "claude", "signature": "question -> category", "prompt": PARTS},
    ]
    endpoint.default = _chat
    workflow = {"workflow": {"name": "w", "steps": steps}}
    files = {"rules.txt": "No {{steps.fetch}} here."}
    config = {"lm": endpoint.lm()}
    result = run(jobs, workflow, inputs={"subject": "printer"}, config=config, files=files)
    text = 'On printer:\nNo {{steps.fetch}} here.\n{"body": "it is broken"}'
    assert seen == ["", text]
    assert text in endpoint.requests[0]["messages"][-1]["content"]
    assert result["warnings"] == []


def test_a_prompt_of_the_host_that_cannot_be_filled_in_is_nil_and_says_why(hosted: Jobs) -> None:
    steps = [
        {"name": "loop", "type": "for_loop", "prompt": "For {{item}}"},
        {"name": "read", "type": "claude", "prompt": PARTS[1:2]},
    ]
    hosted.watcher.functions["execute_step"] = lambda step, context: [context["prompt"], context["prompt_problem"]]
    outputs = run(hosted, {"workflow": {"name": "w", "steps": steps}})["outputs"]
    [[prompt, why], [other, because]] = outputs.values()
    assert (prompt, other) == (None, None)
    assert "expected `item` in the inputs" in why
    assert because == "the request holds no text of the file `rules.txt`"


def test_an_input_that_nothing_gives_is_an_error_that_names_its_step(jobs: Jobs) -> None:
    steps = [{"name": "a", "type": "claude", "signature": "x, y -> z"}]
    with pytest.raises(ValidationError, match=r"step `a`: .*nothing gives `x`, `y`") as refused:
        run(jobs, {"workflow": {"name": "w", "steps": steps}}, inputs={})
    assert refused.value.context["step"] == "a"
