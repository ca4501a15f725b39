"""A trained offline model over the wire: kept by the node, known to every worker, and a typed error when it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from node_client import NodeClient
from tickets import HELD_OUT, SIGNATURE, TICKETS

from erlbridge.codec import Atom

OFFLINE = Atom("offline")


def training(**config: object) -> dict[Any, Any]:
    return {
        Atom("signature"): SIGNATURE,
        Atom("training_data"): TICKETS[:40],
        Atom("validation_data"): HELD_OUT[:12],
        Atom("config"): {Atom("lm"): OFFLINE, **{Atom(key): value for key, value in config.items()}},
    }


def evaluation(program: object, lm: object) -> dict[Any, Any]:
    return {Atom("program"): program, Atom("data"): HELD_OUT[:12], Atom("config"): {Atom("lm"): lm}}


def test_a_trained_model_answers_in_any_worker_and_after_a_restart(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    node = start_node("--workers", "1")
    tag, result = node.ask("train_model", training())
    assert tag == "ok", result
    assert result[Atom("status")] == Atom("success")
    metrics = result[Atom("metrics")]
    assert metrics[Atom("score_after")] > metrics[Atom("score_before")]
    assert (metrics[Atom("training_examples")], metrics[Atom("trained_tokens")]) == (40, None)
    stages = {str(event[2][Atom("stage")]) for event in node.events if event[0] == Atom("progress")}
    assert {"baseline", "training", "evaluating"} <= stages
    program, model = result[Atom("program_id")], result[Atom("model")]
    (file,) = (tmp_path / "data" / "models").iterdir()
    assert file.stem == model.decode().removeprefix("offline:")
    node.close()

    again = start_node("--workers", "1")
    tag, scored = again.ask("evaluate_pipeline", evaluation(program, {Atom("model"): model}))
    assert (tag, scored[Atom("score")]) == ("ok", metrics[Atom("score_after")])
    tag, untrained = again.ask("evaluate_pipeline", evaluation(program, OFFLINE))
    assert (tag, untrained[Atom("score")]) == ("ok", metrics[Atom("score_before")])

    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for _ in range(2):  # set aside at the first look, not there at the second
        tag, error = again.ask("evaluate_pipeline", evaluation(program, model))
        assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))
        assert error[Atom("context")][Atom("model")] == model
    tag, result = again.ask("train_model", training())
    assert (tag, result[Atom("model")]) == ("ok", model)
    assert again.ask("evaluate_pipeline", evaluation(program, model))[0] == "ok"
