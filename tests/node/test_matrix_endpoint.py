"""The fault matrix, model endpoints: whatever one does, a job ends in its time with the truth, and its worker lives."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import FaultyEndpoint
from measures import LONG, record
from node_client import NodeClient
from tickets import HELD_OUT, KNOWN, SIGNATURE, optimization, prediction

from erlbridge.codec import Atom

ROW = "LM endpoint"
DEADLINE_MS = 900
SLACK_S = 0.25
SPARE = 2
"""Descriptors or threads that a worker may have more at the end: those of its two small databases, opened at need."""
SILENT = ("hang", "drip head", "drip body")
BROKEN = ("500", "reset", "garbage", "endless", "wrong type", "truncated")
CONTEXT, FAILED, METRICS = Atom("context"), Atom("failed_calls"), Atom("metrics")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """A node whose workers outlive every fault of the module, with no more descriptors and threads than before."""
    client = NodeClient("--workers", "4", "--spare-workers", "0", data=tmp_path_factory.mktemp("data"))
    try:
        client.ready()
        client.wait_until_healthy()
        with FaultyEndpoint() as endpoint:
            warming = [client.request("predict", predict(endpoint)) for _ in range(8)]
            assert {answer_in_any_order(client, number)[0] for number in warming} == {"ok"}
        before = counts(client)
        yield client
        after = settled(client, before)
        assert client.health()[Atom("restarts")] == 0
        for index, what in enumerate(("descriptors more", "threads more")):
            record(ROW, "all of them", what, growth(before, after, index), SPARE, unit="count")
    finally:
        client.close()


def settled(node: NodeClient, before: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """The counts once they are about what they were: calls that were stopped end when their threads come to it."""
    deadline = time.monotonic() + 3
    while True:
        after = counts(node)
        if max(growth(before, after, 0), growth(before, after, 1)) <= SPARE or time.monotonic() > deadline:
            return after
        time.sleep(0.05)


def growth(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]], index: int) -> int:
    return max(after[worker][index] - before[worker][index] for worker in before)


def counts(node: NodeClient) -> dict[int, tuple[int, int]]:
    """Descriptors and threads of each worker."""
    pids = [worker[Atom("os_pid")] for worker in node.health()[Atom("workers")]]
    return {
        pid: (len(list(Path(f"/proc/{pid}/fd").iterdir())), len(list(Path(f"/proc/{pid}/task").iterdir())))
        for pid in pids
    }


def config(endpoint: FaultyEndpoint, lm: dict[str, object] | None = None, **options: object) -> dict[Any, Any]:
    chosen = {"lm": endpoint.lm(**(lm or {})), "cache": False, **options}
    return {Atom(key): value for key, value in chosen.items()}


def predict(endpoint: FaultyEndpoint, **options: object) -> dict[Any, Any]:
    return prediction(config(endpoint, **options))


def evaluate(endpoint: FaultyEndpoint, count: int = 12, **options: object) -> dict[Any, Any]:
    return {
        Atom("signature"): SIGNATURE,
        Atom("data"): HELD_OUT[:count],
        Atom("config"): config(endpoint, **options),
    }


def optimize(endpoint: FaultyEndpoint, **options: object) -> dict[Any, Any]:
    payload = {**optimization(), Atom("training_data"): KNOWN[:8], Atom("validation_data"): KNOWN[8:12]}
    return {**payload, Atom("config"): config(endpoint, **{"num_threads": 1, **options})}


PAYLOADS = {"predict": predict, "evaluate_pipeline": evaluate, "optimize_signature": optimize}


def error_of(answered: tuple[str, Any]) -> tuple[str, dict[Any, Any]]:
    tag, error = answered
    assert tag == "error", error
    return str(error[Atom("error_type")]), error


@pytest.mark.parametrize("verb", PAYLOADS)
def test_a_silent_or_dripping_endpoint_is_answered_at_the_deadline(node: NodeClient, verb: str) -> None:
    endpoints = {fault: FaultyEndpoint(lambda number, fault=fault: fault) for fault in SILENT}
    begun = time.monotonic()
    jobs = {
        node.request(verb, PAYLOADS[verb](endpoint), {Atom("deadline_ms"): DEADLINE_MS}): fault
        for fault, endpoint in endpoints.items()
    }
    other = node.request("predict", prediction())
    answers: dict[int, tuple[float, Any]] = {}
    while len(answers) < 4:
        tag, number, term = node.until(lambda term: str(term[0]) in ("ok", "error"))
        assert number not in answers
        answers[number] = time.monotonic() - begun, (str(tag), term)
    assert answers[other][1][0] == "ok"
    for number, fault in jobs.items():
        after_s, answered = answers[number]
        kind, error = error_of(answered)
        assert kind == "timeout_error"
        assert error[CONTEXT][Atom("lm_calls")] >= 1, "the job stopped by itself"
        record(ROW, f"{fault}, {verb}", "answered beside the deadline", abs(after_s - DEADLINE_MS / 1000), SLACK_S)
        with endpoints[fault] as endpoint:
            assert set(endpoint.requests) == {fault}


def test_an_optimization_that_hangs_gives_its_best_program_at_the_deadline(node: NodeClient) -> None:
    with FaultyEndpoint(lambda number: "well" if number <= 6 else "hang") as endpoint:
        begun = time.monotonic()
        answered = node.ask(
            "optimize_signature", optimize(endpoint, optimizer=Atom("mipro_v2")), {Atom("deadline_ms"): 2500}
        )  # the first search of a worker loads Optuna, for a second
        kind, error = error_of(answered)
        record(ROW, "hang in a search", "answered beside the deadline", abs(time.monotonic() - begun - 2.5), SLACK_S)
    assert kind == "timeout_error"
    program = error[CONTEXT][Atom("best_program")]
    assert error[CONTEXT][Atom("best_score")] is not None
    payload = {key: value for key, value in prediction().items() if key != Atom("signature")}
    assert node.ask("predict", {**payload, Atom("program"): program})[0] == "ok"


@pytest.mark.parametrize("fault", SILENT)
def test_a_call_in_flight_ends_with_a_cancel(node: NodeClient, fault: str) -> None:
    with FaultyEndpoint(lambda number: fault) as endpoint:
        number = node.request("evaluate_pipeline", evaluate(endpoint))
        wait_for(lambda: len(endpoint.requests) >= 2)
        begun = time.monotonic()
        assert node.ask("cancel", {Atom("id"): number})[0] == "ok"
        kind, error = error_of(node.answer(number))
        record(ROW, fault, "cancelled after", time.monotonic() - begun, 0.5)
    assert kind == "cancelled"
    assert Atom("reason") not in error[CONTEXT], "its worker was not killed for it"


def test_a_call_in_flight_ends_when_the_jobs_seconds_are_used_up(node: NodeClient) -> None:
    with FaultyEndpoint(lambda number: "hang") as endpoint:
        begun = time.monotonic()
        kind, error = error_of(node.ask("predict", predict(endpoint, budget={Atom("max_seconds"): 0.5})))
        record(ROW, "hang", "answered beside max_seconds", abs(time.monotonic() - begun - 0.5), SLACK_S)
    assert (kind, error[CONTEXT][Atom("limit")]) == ("budget_exceeded", 0.5)


@pytest.mark.parametrize("fault", SILENT)
def test_a_call_ends_with_its_timeout_whatever_comes_meanwhile(node: NodeClient, fault: str) -> None:
    with FaultyEndpoint(lambda number: fault if number == 1 else "well") as endpoint:
        begun = time.monotonic()
        tag, result = node.ask("predict", predict(endpoint, lm={"timeout_ms": 400}))
        assert tag == "ok", result
        record(ROW, fault, "a second attempt has answered after", time.monotonic() - begun, 0.4 + 0.25 + 0.5 + 0.85)
    assert endpoint.requests == [fault, "well"]
    assert (result[METRICS][Atom("lm_calls")], result[METRICS][FAILED]) == (2, 1)


def test_an_endpoint_that_breaks_every_answer_is_an_lm_error_after_four_attempts(node: NodeClient) -> None:
    before = {worker[Atom("os_pid")]: worker[Atom("rss_bytes")] for worker in node.health()[Atom("workers")]}
    endpoints = {fault: FaultyEndpoint(lambda number, fault=fault: fault) for fault in BROKEN}
    jobs = {fault: node.request("predict", predict(endpoint)) for fault, endpoint in endpoints.items()}
    for fault, number in jobs.items():
        kind, error = error_of(answer_in_any_order(node, number))
        assert kind == "lm_error", fault
        with endpoints[fault] as endpoint:
            record(ROW, fault, "requests for one call", len(endpoint.requests), 4, unit="count")
            assert error[CONTEXT][FAILED] == len(endpoint.requests)
    after = {worker[Atom("os_pid")]: worker[Atom("rss_bytes")] for worker in node.health()[Atom("workers")]}
    record(
        ROW, "endless", "growth of the worker", max(after[pid] - before[pid] for pid in before), 200 << 20, unit="bytes"
    )


def test_half_the_calls_failing_are_tried_again_and_counted(node: NodeClient) -> None:
    with FaultyEndpoint(lambda number: "500" if number % 2 else "well") as endpoint:
        tag, result = node.ask("evaluate_pipeline", evaluate(endpoint, num_threads=12))
    assert tag == "ok", result
    metrics = result[METRICS]
    assert metrics[Atom("lm_calls")] == len(endpoint.requests)
    assert metrics[FAILED] == endpoint.requests.count("500") > 0
    assert result[Atom("failures")] == sum(item[Atom("error")] is not None for item in result[Atom("results")])
    record(ROW, "half the calls failing", "requests for one call", len(endpoint.requests) / 12, 4, unit="count")


@pytest.mark.parametrize("verb", PAYLOADS)
def test_a_job_whose_calls_all_failed_is_no_success(node: NodeClient, verb: str) -> None:
    with FaultyEndpoint(lambda number: "401") as endpoint:
        kind, error = error_of(node.ask(verb, PAYLOADS[verb](endpoint, num_threads=1)))
    assert (kind, error[CONTEXT][Atom("kind")]) == ("lm_error", Atom("auth"))
    assert error[CONTEXT][FAILED] == error[CONTEXT].get(Atom("lm_calls"), len(endpoint.requests))


def test_an_endpoint_that_asks_to_wait_is_waited_for_as_long_as_it_asks(node: NodeClient) -> None:
    with FaultyEndpoint(lambda number: "429" if number <= 2 else "well") as endpoint:
        begun = time.monotonic()
        tag, result = node.ask("predict", predict(endpoint))
        waited_s = time.monotonic() - begun
    assert (tag, endpoint.requests) == ("ok", ["429", "429", "well"])
    assert waited_s >= 0.6
    record(ROW, "429 with Retry-After", "waited longer than asked by", waited_s - 0.6, 0.5)
    assert (result[METRICS][Atom("lm_calls")], result[METRICS][FAILED]) == (3, 2)


def test_an_endpoint_that_asks_to_wait_beyond_the_deadline_is_not_waited_for(node: NodeClient) -> None:
    with FaultyEndpoint(lambda number: "429") as endpoint:
        begun = time.monotonic()
        kind, _ = error_of(node.ask("evaluate_pipeline", evaluate(endpoint), {Atom("deadline_ms"): 500}))
        record(ROW, "429", "answered beside the deadline", abs(time.monotonic() - begun - 0.5), SLACK_S)
    assert kind == "timeout_error"


def test_a_budget_of_calls_holds_against_an_endpoint_that_fails(node: NodeClient) -> None:
    with FaultyEndpoint(lambda number: "500" if number % 3 else "well") as endpoint:
        answered = node.ask("evaluate_pipeline", evaluate(endpoint, num_threads=4, budget={Atom("max_lm_calls"): 9}))
    kind, error = error_of(answered)
    assert (kind, error[CONTEXT][Atom("lm_calls")]) == ("budget_exceeded", 9)
    assert len(endpoint.requests) <= 9


def test_an_endpoint_that_is_gone_and_comes_back_costs_no_job(node: NodeClient) -> None:
    with FaultyEndpoint() as endpoint:
        endpoint.go()
        number = node.request("predict", predict(endpoint))
        node.send((Atom("credit"), 1000))
        node.until(lambda term: str(term[0]) == "progress" and term[1] == number and term[2][Atom("message")])
        endpoint.come_back()
        tag, result = node.answer(number)
        assert (tag, endpoint.requests) == ("ok", ["well"]), result
        assert result[METRICS][FAILED] >= 1


def wait_for(condition: Any, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def answer_in_any_order(node: NodeClient, number: int) -> tuple[str, Any]:
    """The answer to one of several jobs; those that came before are found among what was read."""
    for term in node.events:
        if str(term[0]) in ("ok", "error") and term[1] == number:
            return str(term[0]), term[2]
    return node.answer(number)


ROUNDS = 40 if LONG else 1
MOODS = ("well", "well", "500", "429", "hang", "drip head", "drip body", "reset", "garbage", "truncated", "wrong type")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_an_endpoint_of_changing_moods_leaves_no_request_without_its_one_answer(node: NodeClient, seed: int) -> None:
    draw = random.Random(seed)
    with FaultyEndpoint(lambda number: draw.choice(MOODS)) as endpoint:
        jobs = {
            node.request(verb, PAYLOADS[verb](endpoint, num_threads=4), {Atom("deadline_ms"): draw.randint(300, 1200)})
            for verb in [*PAYLOADS] * 3
        }
        answered: list[int] = []
        while len(answered) < len(jobs):
            answered.append(node.until(lambda term: str(term[0]) in ("ok", "error"))[1])
    assert sorted(answered) == sorted(jobs)
    assert node.ask("predict", prediction())[0] == "ok"
