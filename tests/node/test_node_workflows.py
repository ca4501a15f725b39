"""Workflows over the wire: the node refuses what it can, a worker reads and runs the rest, the host executes steps."""

from __future__ import annotations

from typing import Any

import pytest
from node_client import NodeClient
from tickets import LABELS, OFFLINE, TICKETS

from erlbridge.codec import Atom
from erlbridge.limits import MAX_DOCUMENT_BYTES

CALL, RESULT, OK, ERROR = Atom("call"), Atom("result"), Atom("ok"), Atom("error")
TEXT = """\
workflow:
  name: triage
  dspy_config: {optimization_enabled: true, optimization: {strategy: labeled_few_shot}}
  steps:
    - name: classify
      type: claude
      signature:
        input_fields: [subject, body]
        output_fields: [{name: category, enum: [LABELS]}]
    - name: answer   # by the host
      type: gemini
      prompt: "For {{steps.classify.category}}"
""".replace("LABELS", ", ".join(label.decode() for label in LABELS))


def payload(text: str = TEXT, **more: object) -> dict[Any, Any]:
    return {Atom("yaml"): text.encode(), **{Atom(name): value for name, value in more.items()}}


def run(text: str, **more: object) -> dict[Any, Any]:
    inputs = {key: value for key, value in TICKETS[70].items() if key != Atom("category")}
    return payload(text, inputs=inputs, config=OFFLINE, **more)


def serve(node: NodeClient, number: int) -> tuple[str, Any]:
    """The answer to a request whose steps are executed here."""
    while True:
        term = node.receive()
        node.events.append(term)
        if term[0] == CALL:
            _, call_id, request_id, name, [step, context] = term
            assert (request_id, name, step[b"name"]) == (number, b"execute_step", b"answer")
            node.send((RESULT, call_id, (OK, {Atom("text"): context[b"steps"][b"classify"][b"category"]})))
        elif term[0] in (OK, ERROR) and term[1] == number:
            return str(term[0]), term[2]


def test_a_workflow_is_loaded_or_all_that_is_wrong_with_it_is_told(node: NodeClient) -> None:
    tag, found = node.ask("load_workflow", payload(file=b"triage.yaml"))
    assert tag == "ok"
    assert [step[Atom("kind")] for step in found[Atom("steps")]] == [Atom("dspy"), Atom("other")]
    assert found[Atom("settings")][b"optimization_enabled"] is True
    broken = TEXT.replace("type: gemini", "typ: gemini").replace("[subject, body]", "[...]")
    tag, error = node.ask("load_workflow", payload(broken, file=b"triage.yaml"))
    assert (tag, error[Atom("error_type")]) == ("error", Atom("validation_error"))
    context = error[Atom("context")]
    assert [one[Atom("line")] for one in context[Atom("errors")]] == [8, 10]
    assert context[Atom("file")] == b"triage.yaml"
    assert b"did you mean `type`?" in context[Atom("warnings")][0][Atom("message")]


@pytest.mark.parametrize(
    ("verb", "term", "message"),
    [
        ("load_workflow", {}, b"either `yaml`, a text, or `workflow`, a map"),
        ("load_workflow", {Atom("yaml"): b"a", Atom("workflow"): {}}, b"either `yaml`"),
        ("load_workflow", {Atom("yaml"): b"#" * (MAX_DOCUMENT_BYTES + 1)}, b"limit 1048576"),
        ("load_workflow", {Atom("workflow"): [1]}, b"expected a map"),
        ("load_workflow", {Atom("yaml"): b"\xff"}, b"UTF-8"),
        ("run_pipeline", payload(), b"expected the key `config`"),
        ("run_pipeline", run(TEXT, programs={b"classify": b"../x"}), b"expected a program_id"),
        ("run_pipeline", run(TEXT, training_data={b"classify": []}), b"at least one example"),
        ("run_pipeline", run(TEXT, programs={b"classify": b"program:" + b"0" * 64}), b"no program"),
        ("run_pipeline", run(TEXT, environment=b"nowhere"), b"no environment `nowhere`"),
    ],
)
def test_what_cannot_be_run_is_refused(node: NodeClient, verb: str, term: object, message: bytes) -> None:
    tag, error = node.ask(verb, term)
    assert tag == "error"
    assert message in error[Atom("message")]


def test_a_pipeline_runs_and_its_programs_are_there_for_the_next_one(node: NodeClient) -> None:
    node.events.clear()
    training = {Atom("classify"): TICKETS[:24]}
    tag, first = serve(node, node.request("run_pipeline", run(TEXT, training_data=training)))
    assert tag == "ok", first
    [classified, answered] = first[Atom("results")]
    assert classified[b"dspy_optimization_applied"] is True
    assert classified[b"score_before"] < classified[b"score_after"]
    assert first[Atom("outputs")][b"answer"][b"text"] == first[Atom("outputs")][b"classify"][b"category"]
    assert answered[b"success"] is True
    told = [event[2] for event in node.events if event[0] == Atom("progress")]
    steps = [state[Atom("message")] for state in told if state[Atom("stage")] == Atom("executing")]
    assert steps == [b"step 1 of 2: classify", b"step 2 of 2: answer"]

    programs = {b"classify": classified[b"program_id"]}
    tag, named = serve(node, node.request("run_pipeline", run(TEXT, programs=programs)))
    assert (tag, named[Atom("results")][0][b"cached"]) == ("ok", True)
    text = first[Atom("optimized_yaml")].decode()
    assert "# by the host" in text
    tag, again = serve(node, node.request("run_pipeline", run(text)))
    assert (tag, again[Atom("results")][0][b"cached"]) == ("ok", True)
    assert again[Atom("outputs")] == named[Atom("outputs")] == first[Atom("outputs")]
    assert again[Atom("metrics")][Atom("lm_calls")] <= 1


def test_a_cancel_reaches_a_step_that_the_host_never_finishes(node: NodeClient) -> None:
    number = node.request("run_pipeline", run(TEXT))
    node.until(lambda term: term[0] == CALL)
    node.request("cancel", {Atom("id"): number})
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("cancelled"))
    assert error[Atom("context")][Atom("step")] == b"answer"
    assert b"classify" in error[Atom("context")][Atom("outputs")]


def test_a_billion_laughs_cost_one_answer(node: NodeClient) -> None:
    laughs = "a: &a [x]\n" + "".join(f"{c}: &{c} [{', '.join(['*' + chr(ord(c) - 1)] * 9)}]\n" for c in "bcdefghij")
    tag, error = node.ask("load_workflow", payload(laughs))
    assert (tag, error[Atom("error_type")]) == ("error", Atom("validation_error"))
    assert b"aliases counted" in error[Atom("message")]


def test_a_workflow_that_is_only_optimized_needs_no_inputs_and_no_host(node: NodeClient) -> None:
    training = {Atom("classify"): TICKETS[:8]}
    node.send((Atom("run_pipeline"), 771, payload(config=OFFLINE, training_data=training, optimize_only=True)))
    tag, found = serve(node, 771)
    assert tag == "ok", found
    assert [result[b"output"] for result in found[Atom("results")]] == [None, None]
    classified, answered = found[Atom("results")]
    assert classified[b"program_id"].startswith(b"program:")
    assert classified[b"score_after"] >= classified[b"score_before"]
    assert answered[b"metrics"][b"host_calls"] == 0
    assert b"dspy_optimized:" in found[Atom("optimized_yaml")]
    tag, error = node.ask("run_pipeline", payload(config=OFFLINE, optimize_only=Atom("yes")))
    assert (tag, error[Atom("context")][Atom("path")]) == ("error", b"payload.optimize_only")
