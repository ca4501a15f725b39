"""The result cache over real pipes: what is asked again costs nothing, at any node of the store, and is never a lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kept_results import body, names, overwrite
from node_client import NodeClient
from tickets import KNOWN, SIGNATURE, optimization, prediction, slow

from erlbridge.codec import Atom

OK, ERROR, METRICS, CACHED, COUNT = Atom("ok"), Atom("error"), Atom("metrics"), Atom("cached"), Atom("count")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def node(data: Path) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "2", "--spare-workers", "0", data=data)
    client.ready()
    done(client.ask("predict", asking("whichever test is first, there is an index, and something in it")))
    yield client
    client.close()


def asking(subject: str, latency_ms: int = 0, **config: object) -> dict[Any, Any]:
    """A prediction of its own for each subject; latency makes no difference to what is asked."""
    payload = prediction({**slow(latency_ms), Atom("result_cache"): True} | {Atom(k): v for k, v in config.items()})
    return {**payload, Atom("input"): {**payload[Atom("input")], Atom("subject"): subject.encode()}}


def done(answer: tuple[str, Any]) -> dict[Any, Any]:
    tag, result = answer
    assert tag == "ok", result
    return result


def was_cached(result: dict[Any, Any]) -> bool:
    return result.get(METRICS, result.get(Atom("optimization_metrics"))).get(CACHED) is True


def stats(node: NodeClient) -> dict[str, int]:
    return {str(key): value for key, value in done(node.ask("stats", {}))[Atom("cache")].items()}


def answers(node: NodeClient, *numbers: int) -> list[dict[Any, Any]]:
    found: dict[int, dict[Any, Any]] = {}
    while len(found) < len(numbers):
        term = node.until(lambda term: term[0] in (OK, ERROR) and term[1] in numbers)
        found[term[1]] = done((str(term[0]), term[2]))
    return [found[number] for number in numbers]


def test_the_same_question_is_answered_without_a_job_and_with_its_first_cost(node: NodeClient) -> None:
    first = done(node.ask("predict", asking("again")))
    second = done(node.ask("predict", asking("again", num_threads=3)))
    assert not was_cached(first)
    assert second[METRICS] == {**first[METRICS], CACHED: True}
    assert {**second, METRICS: None} == {**first, METRICS: None}


def test_whoever_does_not_ask_for_it_gets_a_job_of_his_own(node: NodeClient) -> None:
    for config in ({"cache": False}, {"result_cache": False}, {"result_cache": None}):
        done(node.ask("predict", asking("asked for")))
        assert not was_cached(done(node.ask("predict", asking("asked for", **config)))), config
    tag, error = node.ask("predict", asking("asked for", result_cache=b"yes"))
    assert (tag, error[Atom("context")]) == ("error", {Atom("path"): b"payload.config.result_cache"})


def test_many_who_ask_at_once_cost_one_job(node: NodeClient) -> None:
    numbers = [node.request("predict", asking("at once", 100)) for _ in range(5)]
    found = answers(node, *numbers)
    assert sorted(map(was_cached, found)) == [False, True, True, True, True]


def test_a_key_beside_it_keeps_the_cached_result_under_its_own_name(node: NodeClient) -> None:
    done(node.ask("predict", asking("with a key")))
    key = {Atom("idempotency_key"): b"of a cached one"}
    assert was_cached(done(node.ask("predict", asking("with a key"), key)))
    fetched = done(node.ask("fetch_result", key))
    assert fetched[Atom("result")][METRICS][CACHED] is True


def test_another_node_answers_what_one_has_done_and_waits_for_what_it_does(node: NodeClient, data: Path) -> None:
    other = NodeClient("--workers", "1", "--spare-workers", "0", "--result-cache", "true", data=data)
    try:
        other.ready()
        done(node.ask("predict", asking("of two nodes")))
        assert was_cached(done(other.ask("predict", asking("of two nodes", result_cache=None))))
        number = node.request("predict", asking("of both at once", 400))
        assert node.health()[Atom("status")]  # it has taken what was sent before
        assert was_cached(done(other.ask("predict", asking("of both at once"))))
        assert not was_cached(done(node.answer(number)))
    finally:
        other.close()


def test_who_waits_for_another_job_of_the_same_runs_his_own_when_that_one_ends_without_a_result(
    node: NodeClient,
) -> None:
    number = node.request("predict", asking("cancelled", 60_000), {Atom("idempotency_key"): b"goes away"})
    second = node.request("predict", asking("cancelled"), {Atom("idempotency_key"): b"waits for it"})
    node.health()
    node.request("cancel", {Atom("id"): number})
    assert not was_cached(answers(node, second)[0])


def test_an_optimization_is_given_again_while_its_program_is_there(node: NodeClient) -> None:
    payload = optimization(4, optimizer=Atom("labeled_few_shot"), result_cache=True)
    first = done(node.ask("optimize_signature", payload))
    assert was_cached(done(node.ask("optimize_signature", payload)))
    done(node.ask("delete_program", {Atom("program_id"): first[Atom("program_id")]}))
    again = done(node.ask("optimize_signature", payload))
    assert not was_cached(again), "a result that names what is gone is none"
    assert done(node.ask("get_program", {Atom("program_id"): again[Atom("program_id")]}))


def test_an_error_is_not_cached(node: NodeClient, data: Path) -> None:
    before = names(data, "cache")
    tag, _ = node.ask(
        "predict", asking("fails", lm={Atom("model"): b"openai/none", Atom("api_base"): b"http://[::1]:9"})
    )
    assert tag == "error"
    assert names(data, "cache") == before


@pytest.mark.parametrize("harm", ["cut", "changed", "swapped"])
def test_an_entry_that_was_harmed_is_never_served(node: NodeClient, data: Path, harm: str) -> None:
    before = names(data, "cache")
    first = done(node.ask("predict", asking(f"harmed: {harm}")))
    (name,) = names(data, "cache") - before
    content = bytearray(body(data, name, "cache"))
    match harm:
        case "cut":
            del content[-1:]
        case "changed":
            content[-5] ^= 1
        case _:
            content = bytearray(body(data, min(before), "cache"))
    overwrite(data, name, bytes(content), "cache")
    again = done(node.ask("predict", asking(f"harmed: {harm}")))
    assert not was_cached(again)
    assert again[Atom("prediction")] == first[Atom("prediction")]
    assert (data / "results" / f"{name}.damaged").read_bytes() == content
    assert was_cached(done(node.ask("predict", asking(f"harmed: {harm}"))))


def test_the_cache_is_counted_and_cleared(node: NodeClient) -> None:
    done(node.ask("predict", asking("counted")))
    before = stats(node)
    done(node.ask("predict", asking("counted")))
    after = stats(node)
    assert after["hits"] == before["hits"] + 1
    assert after["misses"] == before["misses"]
    cleared = done(node.ask("clear_cache", {}))
    assert cleared[COUNT] == after["count"] > 0
    assert (stats(node)["count"], stats(node)["bytes"]) == (0, 0)
    assert not was_cached(done(node.ask("predict", asking("counted"))))


def test_an_evaluation_is_cached_with_all_its_rows(node: NodeClient) -> None:
    payload = {
        Atom("signature"): SIGNATURE,
        Atom("data"): KNOWN[:3],
        Atom("config"): {Atom("lm"): Atom("offline"), Atom("result_cache"): True},
    }
    first, second = (done(node.ask("evaluate_pipeline", payload)) for _ in range(2))
    assert {**second, METRICS: None} == {**first, METRICS: None}
    assert was_cached(second)
