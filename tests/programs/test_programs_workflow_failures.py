"""Workflows that fail on their way: what the host gets, and what falls back to it."""

from __future__ import annotations

import pytest
from program_jobs import Endpoint, Jobs, failure
from test_programs_workflows import OFFLINE, run, ticket, triage

from erlbridge.errors import BudgetExceeded, CallbackFailed, Cancelled, DeadlineExceeded, LMFailed


def test_a_host_that_does_not_execute_steps_gets_an_error_that_names_the_step(jobs: Jobs) -> None:
    def none(step: object, context: object) -> object:
        raise ValueError("there is no function `execute_step`")

    jobs.watcher.functions["execute_step"] = none
    with pytest.raises(CallbackFailed, match=r"step `answer`: the Elixir function `execute_step` failed") as failed:
        run(jobs, triage(jobs))
    assert failed.value.context["step"] == "answer"
    assert failed.value.context["outputs"].keys() == {"classify"}  # type: ignore[attr-defined]
    [program] = failed.value.context["programs"].values()  # type: ignore[attr-defined]
    assert program in jobs.watcher.kept


def test_a_step_that_says_so_falls_back_to_the_host_when_dspy_fails(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(401, "no such key", code="invalid_api_key"))
    jobs.watcher.functions["execute_step"] = lambda step, context: {"category": "technical"}
    text = triage(jobs).replace("  dspy_config:\n", "  dspy_config:\n    fallback_strategy: traditional\n")
    result = run(jobs, text, config={"lm": endpoint.lm(), "num_threads": 1})
    first = result["results"][0]
    assert (first["success"], first["fallback_used"], first["dspy_optimization_applied"]) == (True, True, False)
    assert "no such key" in first["error"]
    assert result["outputs"]["classify"] == {"category": "technical"}
    [(_, [_, context]), _answer] = jobs.watcher.called
    subject, body = ticket(jobs.tickets[70]).values()
    assert context["prompt"] == f"Sort the ticket.\n\nsubject: {subject}\nbody: {body}\n\nGive `category`."
    assert first["metrics"]["failed_calls"] == len(endpoint.requests)
    with pytest.raises(LMFailed, match="step `classify`"):
        run(jobs, triage(jobs), config={"lm": endpoint.lm()})


def test_a_fallback_that_fails_too_tells_both_failures(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(401, "no such key", code="invalid_api_key"))

    def refuse(step: object, context: object) -> object:
        raise ValueError("nobody executes this")

    jobs.watcher.functions["execute_step"] = refuse
    step = {
        "name": "a",
        "type": "claude",
        "signature": "subject -> b",
        "dspy_config": {"fallback_strategy": "traditional"},
    }
    with pytest.raises(CallbackFailed, match=r"step `a`: .*nobody executes this; .* DSPy had failed: .*no such key"):
        run(jobs, {"workflow": {"name": "w", "steps": [step]}}, config={"lm": endpoint.lm()})


def test_the_budget_holds_for_the_whole_workflow_and_is_no_failure_to_fall_back_from(hosted: Jobs) -> None:
    steps = [
        {
            "name": name,
            "type": "claude",
            "signature": hosted.signature,
            "dspy_config": {"fallback_strategy": "traditional"},
        }
        for name in ("one", "two", "three")
    ]
    config = {**OFFLINE, "budget": {"max_lm_calls": 2}}
    with pytest.raises(BudgetExceeded, match="step `three`") as exceeded:
        run(hosted, {"workflow": {"name": "w", "steps": steps}}, config=config)
    assert exceeded.value.context["outputs"].keys() == {"one", "two"}  # type: ignore[attr-defined]
    assert not hosted.watcher.called


def test_a_deadline_is_no_failure_to_fall_back_from_and_keeps_the_best_program(hosted: Jobs) -> None:
    hosted.watcher.reason = DeadlineExceeded("the deadline has passed")
    hosted.watcher.stop_when = lambda state: state.stage == "evaluating" and state.done > 5
    text = triage(hosted).replace("  dspy_config:\n", "  dspy_config:\n    fallback_strategy: traditional\n")
    with pytest.raises(DeadlineExceeded, match="step `classify`: the deadline has passed") as late:
        run(hosted, text)
    assert "best_program" in late.value.context
    assert not hosted.watcher.called


def test_a_cancel_ends_the_workflow_with_what_it_has(hosted: Jobs) -> None:
    hosted.watcher.reason = Cancelled("cancelled as asked")
    hosted.watcher.stop_when = lambda state: state.message is not None and state.message.startswith("step 2")
    with pytest.raises(Cancelled, match="step `answer`: cancelled as asked") as cancelled:
        run(hosted, triage(hosted))
    assert cancelled.value.context["outputs"].keys() == {"classify"}  # type: ignore[attr-defined]
    assert not hosted.watcher.called
