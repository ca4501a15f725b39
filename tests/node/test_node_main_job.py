"""The main job over real pipes: optimize, evaluate before and after, predict, with progress, by one host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from node_client import NodeClient
from tickets import HELD_OUT, KNOWN, OFFLINE, SIGNATURE, optimization, prediction

from erlbridge.codec import Atom, TermMap
from erlbridge.wire.vocabulary import ATOMS

VALIDATED = {Atom("training_data"): KNOWN[:44], Atom("validation_data"): KNOWN[44:]}
WHOLE = {Atom("training_data"): KNOWN}


def atoms_in(term: Any) -> Iterator[str]:
    match term:
        case Atom():
            yield str(term)
        case dict() | TermMap():
            for key, value in term.items():
                yield from atoms_in(key)
                yield from atoms_in(value)
        case list() | tuple():
            for element in term:
                yield from atoms_in(element)


def held_out_score(node: NodeClient, program: dict[Any, Any]) -> float:
    tag, result = node.ask("evaluate_pipeline", {**program, Atom("data"): HELD_OUT, Atom("config"): OFFLINE})
    assert tag == "ok", result
    assert len(result[Atom("results")]) == result[Atom("count")] == len(HELD_OUT)
    return float(result[Atom("score")])


@pytest.mark.parametrize(
    ("optimizer", "data"),
    [
        ("labeled_few_shot", WHOLE),
        ("bootstrap_few_shot", WHOLE),
        ("bootstrap_few_shot_with_random_search", VALIDATED),
        ("mipro_v2", VALIDATED),
    ],
    ids=["labeled_few_shot", "bootstrap_few_shot", "random_search", "mipro_v2"],
)
def test_an_optimizer_raises_the_held_out_score(node: NodeClient, optimizer: str, data: dict[Any, Any]) -> None:
    payload = {**optimization(optimizer=Atom(optimizer)), **data}
    node.send((Atom("credit"), 1000))
    node.events.clear()
    tag, result = node.ask("optimize_signature", payload)
    assert tag == "ok", result
    before = held_out_score(node, {Atom("signature"): SIGNATURE})
    after = held_out_score(node, {Atom("program"): result[Atom("program_id")]})
    assert before < 0.5
    assert after > 0.75
    metrics = result[Atom("optimization_metrics")]
    assert metrics[Atom("score_before")] < metrics[Atom("score_after")]
    assert metrics[Atom("lm_calls")] > 0
    stages = {str(event[2][Atom("stage")]) for event in node.events if str(event[0]) == "progress"}
    assert {"baseline", "evaluating"} <= stages


def test_a_prediction_comes_back_under_the_names_that_the_request_used(node: NodeClient) -> None:
    tag, result = node.ask("predict", prediction())
    assert (tag, list(result[Atom("prediction")])) == ("ok", [Atom("category")])
    by_text = {
        b"signature": b"subject, body -> category",
        b"inputs": [{b"subject": b"a", b"body": b"b"}] * 3,
        b"config": {b"lm": b"offline"},
    }
    tag, result = node.ask("predict", by_text)
    assert tag == "ok"
    assert [list(item[Atom("prediction")]) for item in result[Atom("predictions")]] == [[b"category"]] * 3


def test_a_program_that_the_host_kept_works_without_the_node_having_it(
    node: NodeClient, start_node: Callable[..., NodeClient]
) -> None:
    tag, result = node.ask("optimize_signature", optimization(optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    other = start_node("--workers", "1")
    other.ready()
    payload = {**prediction(), Atom("program"): result[Atom("program")]}
    del payload[Atom("signature")]
    tag, answer = other.ask("predict", payload)
    assert tag == "ok", answer
    payload[Atom("program")] = result[Atom("program_id")]
    tag, error = other.ask("predict", payload)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))


def test_every_atom_is_published_or_was_in_the_request(node: NodeClient) -> None:
    """Binary keys everywhere: whatever atoms come back are the node's own."""
    fields = [{b"name": b"zq_text", b"type": b"string"}, {b"name": b"zq_note", b"type": b"string"}]
    signature = {b"input_fields": fields, b"output_fields": [{b"name": b"zq_kind", b"enum": [b"zq_a", b"zq_b"]}]}
    examples = [{b"zq_text": b"t%d" % i, b"zq_note": b"n", b"zq_kind": [b"zq_a", b"zq_b"][i % 2]} for i in range(8)]
    requests: list[tuple[str, dict[bytes, Any]]] = [
        ("optimize_signature", {b"signature": signature, b"training_data": examples, b"config": {b"lm": b"offline"}}),
        ("evaluate_pipeline", {b"signature": signature, b"data": examples, b"config": {b"lm": b"offline"}}),
        ("predict", {b"signature": signature, b"input": examples[0], b"config": {b"lm": b"offline"}}),
        ("predict", {b"signature": signature, b"input": {}, b"config": {b"lm": b"offline"}}),
        ("cancel", {b"id": 0}),
    ]
    node.send((Atom("credit"), 1000))
    node.events.clear()
    heard: list[Any] = [node.health()]
    for verb, payload in requests:
        heard.append(node.ask(verb, payload)[1])
    assert {name for term in [*heard, *node.events] for name in atoms_in(term)} <= ATOMS


def test_without_progress_none_is_sent(node: NodeClient) -> None:
    node.send((Atom("credit"), 1000))
    node.events.clear()
    tag, _ = node.ask("optimize_signature", optimization(), {Atom("progress"): False})
    assert tag == "ok"
    assert [event for event in node.events if str(event[0]) == "progress"] == []


def test_what_dspy_prints_arrives_as_log_lines_and_the_wire_stays_whole(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--credit", "1000")
    node.ready()
    tag, _ = node.ask("optimize_signature", optimization())
    assert tag == "ok"
    lines = [event[2] for event in node.events if str(event[0]) == "log"]
    assert any(b"Bootstrapped" in line for line in lines), lines


def test_credit_bounds_events_and_more_of_it_brings_the_newest_progress(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--credit", "1")
    node.ready()
    first = node.request("optimize_signature", optimization())
    assert node.answer(first)[0] == "ok"
    assert [str(event[0]) for event in node.events] == ["progress"]
    assert node.health()[Atom("dropped_events")][Atom("log")] > 0
    node.events.clear()
    second = node.request("optimize_signature", optimization())
    node.send((Atom("credit"), 3))
    assert node.answer(second)[0] == "ok"
    assert 0 < len(node.events) <= 3


def test_a_stored_program_outlives_the_node_and_a_damaged_one_is_not_served(
    start_node: Callable[..., NodeClient], tmp_path: Any
) -> None:
    first = start_node("--workers", "1")
    first.ready()
    tag, result = first.ask("optimize_signature", optimization(optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    first.close()

    payload = {**prediction(), Atom("program"): result[Atom("program_id")]}
    del payload[Atom("signature")]
    second = start_node("--workers", "1")
    second.ready()
    assert second.ask("predict", payload)[0] == "ok"

    (stored,) = (tmp_path / "data" / "programs").glob("*.etf")
    content = stored.read_bytes()
    stored.write_bytes(content[:-1])
    tag, error = second.ask("predict", payload)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))
    assert b"damaged" in error[Atom("message")]
    assert [path.suffix for path in stored.parent.iterdir()] == [".damaged"]


def test_a_disk_that_refuses_the_program_does_not_lose_the_result(
    start_node: Callable[..., NodeClient], tmp_path: Any
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "programs").write_text("a file where the directory should be")
    node = start_node("--workers", "1", "--credit", "1000")
    node.ready()
    tag, result = node.ask("optimize_signature", optimization(optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    assert Atom("program") in result
    assert any(b"was not stored" in event[2] for event in node.events if str(event[0]) == "log")
