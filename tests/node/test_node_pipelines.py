"""Pipelines and modules over real pipes: optimized, kept under an id, and asked again."""

from __future__ import annotations

from typing import Any

import pytest
from node_client import NodeClient
from tickets import HELD_OUT, KNOWN, LABELS, OFFLINE, SIGNATURE

from erlbridge.codec import Atom

STEPS = [
    {Atom("name"): Atom("shorten"), Atom("signature"): b"subject, body -> summary"},
    {
        Atom("name"): Atom("sort"),
        Atom("module"): Atom("chain_of_thought"),
        Atom("signature"): {
            Atom("input_fields"): [Atom("summary")],
            Atom("output_fields"): [{Atom("name"): Atom("category"), Atom("enum"): LABELS}],
        },
    },
]
INPUT = {key: HELD_OUT[0][key] for key in (Atom("subject"), Atom("body"))}


def asked(node: NodeClient, verb: str, **payload: object) -> dict[Any, Any]:
    config = {**OFFLINE, **payload.pop("config", {})}  # type: ignore[dict-item]
    tag, result = node.ask(verb, {**{Atom(key): value for key, value in payload.items()}, Atom("config"): config})
    assert tag == "ok", result
    return result


def test_a_pipeline_is_optimized_and_answers_from_its_stored_program(node: NodeClient) -> None:
    result = asked(node, "optimize_signature", pipeline={Atom("steps"): STEPS}, training_data=KNOWN[:24])
    steps = result[Atom("optimized_pipeline")][Atom("steps")]
    assert [step[Atom("name")] for step in steps] == [Atom("shorten"), Atom("sort")]
    assert all(step[Atom("signature")][Atom("demos")] for step in steps)
    answer = asked(node, "predict", program=result[Atom("program_id")], input=INPUT)
    assert list(answer[Atom("prediction")]) == [b"category"]  # this request names no such atom
    assert answer[Atom("metrics")][Atom("lm_calls")] == 2
    scored = asked(node, "evaluate_pipeline", program=result[Atom("program_id")], data=HELD_OUT[:4])
    assert scored[Atom("failures")] == 0


@pytest.mark.parametrize(
    "module",
    [
        {Atom("name"): Atom("best_of_n"), Atom("n"): 2},
        {Atom("name"): Atom("refine"), Atom("n"): 2},
        {Atom("name"): Atom("multi_chain_comparison"), Atom("m"): 2},
        {Atom("name"): Atom("knn"), Atom("k"): 2},
    ],
    ids=["best_of_n", "refine", "multi_chain_comparison", "knn"],
)
def test_each_module_answers_over_the_wire_from_its_stored_program(node: NodeClient, module: dict[Any, Any]) -> None:
    config = {Atom("module"): module, Atom("optimizer"): Atom("labeled_few_shot")}
    result = asked(node, "optimize_signature", signature=SIGNATURE, training_data=KNOWN[:4], config=config)
    answer = asked(node, "predict", program=result[Atom("program_id")], input=INPUT)
    assert answer[Atom("prediction")][b"category"] in LABELS


def test_stored_programs_answer_together_and_a_missing_one_is_named(node: NodeClient) -> None:
    config = {Atom("optimizer"): Atom("labeled_few_shot")}
    ids = [
        asked(node, "optimize_signature", signature=SIGNATURE, training_data=KNOWN[:count], config=config)[
            Atom("program_id")
        ]
        for count in (4, 8)
    ]
    answer = asked(node, "predict", program={Atom("members"): ids, Atom("reduce"): Atom("majority")}, input=INPUT)
    assert answer[Atom("metrics")][Atom("lm_calls")] == 2
    missing = b"program:" + b"0" * 64
    payload = {Atom("program"): {Atom("members"): [*ids, missing]}, Atom("input"): INPUT, Atom("config"): OFFLINE}
    tag, error = node.ask("predict", payload)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))
    assert missing in error[Atom("message")]
