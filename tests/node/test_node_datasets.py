"""Datasets of a real node: read by their index, seen through views, listed, deleted, damaged in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from test_node_transfers import CONTEXT, DATASET, failed, ref, send_dataset
from tickets import OFFLINE, SIGNATURE, TICKETS, optimization, slow

from erlbridge.codec import Atom
from erlbridge.core.views import View
from erlbridge.store.dataset_index import INDEX

LABELED = Atom("labeled_few_shot")


def seen(name: str, **view: object) -> tuple[Atom, bytes, dict[Atom, object]]:
    return (*ref(name), {Atom(key): value for key, value in view.items()})


def evaluation(data: object, config: dict[Any, Any] = OFFLINE) -> dict[Any, Any]:
    return {Atom("signature"): SIGNATURE, Atom("data"): data, Atom("config"): config}


@pytest.fixture(scope="module")
def ready(node: NodeClient) -> NodeClient:
    node.ready()
    node.send((Atom("credit"), 1_000_000))
    return node


def test_a_split_and_a_sample_are_what_the_same_examples_are_in_a_list(ready: NodeClient) -> None:
    name = send_dataset(ready, TICKETS[:40])
    training = [TICKETS[place] for place in View(seed=7, take=0.75, limit=20).of(40)]
    validation = [TICKETS[place] for place in View(seed=7, skip=0.75).of(40)]
    inline = optimization(optimizer=LABELED, seed=1)
    tag, expected = ready.ask(
        "optimize_signature", {**inline, Atom("training_data"): training, Atom("validation_data"): validation}
    )
    assert tag == "ok", expected
    viewed = {
        Atom("training_data"): seen(name, seed=7, take=0.75, limit=20),
        Atom("validation_data"): seen(name, seed=7, skip=0.75),
    }
    number = ready.request("optimize_signature", {**inline, **viewed})
    tag, found = ready.answer(number)
    assert tag == "ok", found
    for key in ("state", "dataset", "scores"):
        assert found[Atom("program")][Atom(key)] == expected[Atom("program")][Atom(key)]
    stages = [event[2] for event in ready.events if event[:2] == (Atom("progress"), number)]
    reading = [state for state in stages if state[Atom("stage")] == Atom("reading")]
    assert {state[Atom("total")] for state in reading} == {20, 10}


def test_a_view_without_an_example_is_refused_before_anything_waits(ready: NodeClient) -> None:
    name = send_dataset(ready, TICKETS[:8])
    for view in ({"skip": 8}, {"take": 0.0}, {"skip": 2.0}, {"seed": b"x"}):
        kind, _, message = failed(ready.ask("evaluate_pipeline", evaluation(seen(name, **view))))
        assert (kind, message.split(":")[0].split(".")[1]) == ("validation_error", "data[2]"), message


def test_an_example_that_does_not_fit_costs_no_call_wherever_it_is(ready: NodeClient) -> None:
    name = send_dataset(ready, [*TICKETS[:30], {Atom("subject"): b"no more"}])
    payload = {**optimization(4, optimizer=LABELED), Atom("validation_data"): ref(name)}
    number = ready.request("optimize_signature", payload)
    tag, error = ready.answer(number)
    assert (tag, error[CONTEXT][Atom("path")]) == ("error", b"payload.validation_data[30]")
    told = [event[2] for event in ready.events if event[:2] == (Atom("progress"), number)]
    assert all(state[Atom("lm_calls")] == 0 for state in told)
    tag, found = ready.ask("evaluate_pipeline", evaluation(seen(name, take=30)))
    assert (tag, found[Atom("count")]) == ("ok", 30)


def test_datasets_are_listed_by_pages_and_deleted(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    names = [send_dataset(node, TICKETS[:count]) for count in (1, 2, 3)]
    tag, page = node.ask("list_datasets", {Atom("limit"): 2})
    assert tag == "ok", page
    assert [one[DATASET].decode() for one in page[Atom("datasets")]] == [names[2], names[1]]
    assert [one[Atom("examples")] for one in page[Atom("datasets")]] == [3, 2]
    first = page[Atom("datasets")][0]
    assert first[Atom("used_at_ms")] >= first[Atom("stored_at_ms")] > 1_600_000_000_000
    tag, rest = node.ask("list_datasets", {Atom("limit"): 2, Atom("after"): page[Atom("next")]})
    assert [one[DATASET].decode() for one in rest[Atom("datasets")]] == [names[0]]
    assert rest[Atom("next")] is None
    assert failed(node.ask("list_datasets", {Atom("after"): b"../x"}))[0] == "validation_error"

    assert node.ask("delete_dataset", {DATASET: names[1].encode()})[0] == "ok"
    assert failed(node.ask("delete_dataset", {DATASET: names[1].encode()}))[0] == "not_found"
    assert failed(node.ask("delete_dataset", {DATASET: b"../../etc"}))[0] == "validation_error"
    assert len(node.ask("list_datasets", {})[1][Atom("datasets")]) == 2
    assert {path.name for path in (tmp_path / "data" / "datasets").iterdir()} == {names[0][7:], names[2][7:]}


def test_a_job_reads_a_dataset_to_its_end_that_is_deleted_meanwhile(ready: NodeClient) -> None:
    name = send_dataset(ready, TICKETS[8:20])
    number = ready.request("evaluate_pipeline", evaluation(ref(name), slow(100)))
    ready.until(lambda term: term[:2] == (Atom("progress"), number) and term[2][Atom("stage")] == Atom("evaluating"))
    assert ready.ask("delete_dataset", {DATASET: name.encode()})[0] == "ok"
    tag, found = ready.answer(number)
    assert (tag, found[Atom("count")], found[Atom("failures")]) == ("ok", 12, 0)
    assert failed(ready.ask("evaluate_pipeline", evaluation(ref(name))))[:2] == ("not_found", None)


def test_damage_is_found_where_it_is_read(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    name = send_dataset(node, TICKETS[:8])
    place = tmp_path / "data" / "datasets" / name[7:]
    assert node.ask("evaluate_pipeline", evaluation(ref(name)))[0] == "ok"
    index = (place / INDEX).read_bytes()

    (place / INDEX).write_bytes(index[:-1] + bytes([index[-1] ^ 1]))
    assert node.ask("evaluate_pipeline", evaluation(ref(name)))[0] == "ok"
    assert (place / INDEX).read_bytes() == index, "made again"

    stream = (place / "stream").read_bytes()
    (place / "stream").write_bytes(stream[:-1] + bytes([stream[-1] ^ 1]))
    assert node.ask("evaluate_pipeline", evaluation(seen(name, take=7)))[0] == "ok"
    kind, reason, message = failed(node.ask("evaluate_pipeline", evaluation(ref(name))))
    assert (kind, reason, "example 7" in message) == ("not_found", "damaged", True)
    assert [path.suffix for path in place.parent.iterdir()] == [".damaged"]
