"""Every optimizer over the wire: a real node, a worker of its own, the offline LM."""

from __future__ import annotations

from typing import Any

import pytest
from node_client import NodeClient
from tickets import HELD_OUT, OFFLINE, TICKETS, optimization

from erlbridge.codec import Atom

SMALL: dict[str, dict[str, object]] = {
    "labeled_few_shot": {},
    "bootstrap_few_shot": {},
    "random_search": {"num_candidate_programs": 1},
    "optuna": {"num_candidate_programs": 2},
    "knn_few_shot": {},
    "ensemble": {"num_candidate_programs": 1},
    "copro": {"breadth": 2, "depth": 2},
    "mipro": {"num_candidates": 2, "num_trials": 2},
    "simba": {"bsize": 8, "num_candidates": 2, "max_steps": 2},
    "gepa": {"max_metric_calls": 30},
    "infer_rules": {"num_candidates": 1},
    "better_together": {"strategy": b"p", "num_candidate_programs": 1},
}


def ask(node: NodeClient, optimizer: str, options: dict[str, object]) -> tuple[str, Any]:
    given = {Atom(name): value for name, value in options.items()}
    payload = optimization(12, optimizer=Atom(optimizer), options=given)
    return node.ask("optimize_signature", {**payload, Atom("validation_data"): TICKETS[12:18]})


@pytest.mark.parametrize("optimizer", SMALL)
def test_its_program_is_stored_and_answers(node: NodeClient, optimizer: str) -> None:
    node.send((Atom("credit"), 1000))
    node.events.clear()
    tag, result = ask(node, optimizer, SMALL[optimizer])
    assert tag == "ok", result
    metrics = result[Atom("optimization_metrics")]
    assert metrics[Atom("repeatable")] is True
    stages = [str(event[2][Atom("stage")]) for event in node.events if str(event[0]) == "progress"]
    assert stages[0] == "baseline"
    payload = {Atom("program"): result[Atom("program_id")], Atom("config"): OFFLINE, Atom("data"): TICKETS[12:18]}
    tag, scored = node.ask("evaluate_pipeline", payload)
    assert (tag, scored[Atom("score")]) == ("ok", metrics[Atom("score_after")])


def test_an_ensemble_is_made_of_stored_programs(node: NodeClient) -> None:
    members = [ask(node, name, SMALL[name])[1][Atom("program_id")] for name in ("labeled_few_shot", "infer_rules")]
    tag, result = ask(node, "ensemble", {"programs": members})
    assert tag == "ok", result
    ticket = {name: value for name, value in HELD_OUT[0].items() if str(name) != "category"}
    question = {Atom("program"): result[Atom("program")], Atom("input"): ticket, Atom("config"): OFFLINE}
    tag, answer = node.ask("predict", question)
    assert tag == "ok", answer
    assert answer[Atom("metrics")][Atom("lm_calls")] == 2


def test_a_member_that_is_not_stored_is_not_found(node: NodeClient) -> None:
    tag, error = ask(node, "ensemble", {"programs": [b"program:" + b"0" * 64] * 2})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))


@pytest.mark.parametrize(
    ("optimizer", "options", "said"),
    [
        ("avatar", {}, b"ships AvatarOptimizer broken"),
        ("simba", {"bsize": 13}, b"at most 12, the number of training examples, got 13"),
        ("gepa", {"max_metric_calls": 6}, b"more than 6, the number of validation examples"),
        ("bootstrap_finetune", {}, b"no provider here can train `offline`"),
        ("better_together", {}, b"no provider here can train `offline`"),
    ],
)
def test_what_cannot_be_done_is_a_typed_error(
    node: NodeClient, optimizer: str, options: dict[str, object], said: bytes
) -> None:
    tag, error = ask(node, optimizer, options)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("validation_error"))
    assert said in error[Atom("message")]
    assert error[Atom("context")][Atom("path")].startswith(b"payload.config")
