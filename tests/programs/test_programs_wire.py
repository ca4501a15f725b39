"""Models over the wire, with a real node and a real endpoint: resume, pace, deadlines, and keys that show nowhere."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from program_jobs import CATEGORIES, Endpoint, Reply, atoms, category, completion, failure
from tickets import SIGNATURE, TICKETS, prediction

from erlbridge.codec import Atom

KEY = "hush-hush-1234/key"
SPACE = {
    "bootstrap_few_shot": {},
    "bootstrap_few_shot_with_random_search": {"num_candidate_programs": 1},
    "mipro_v2": {"num_candidates": 2, "num_trials": 1},
}


def learned(request: dict[str, Any]) -> Reply:
    """An answer that depends on the whole request, as a model's does."""
    text = json.dumps(request, sort_keys=True)
    number = int(hashlib.sha256(text.encode()).hexdigest(), 16)
    if "[[ ## category ## ]]" in text:
        return category(CATEGORIES[number % 4])
    names = ("observations", "summary", "program_description", "module_description", "proposed_instruction")
    return completion("\n\n".join(f"[[ ## {name} ## ]]\nMind the gap {number % 1000}." for name in names))


def payload(endpoint: Endpoint, optimizer: str, **config: object) -> dict[Any, Any]:
    return {
        Atom("signature"): SIGNATURE,
        Atom("training_data"): TICKETS[:6],
        Atom("config"): atoms(
            {
                "lm": endpoint.lm(),
                "optimizer": optimizer,
                "num_threads": 2,
                "options": SPACE.get(optimizer, {}),
                **config,
            }
        ),
    }


def needed(node: NodeClient, job: dict[Any, Any]) -> int:
    """How many requests a job makes that nothing disturbs: the same one, against another address."""
    other = Endpoint()
    other.default = learned
    config = {**job[Atom("config")], Atom("lm"): atoms(other.lm())}
    tag, result = node.ask("optimize_signature", {**job, Atom("config"): config})
    other.close()
    assert tag == "ok", result
    return len(other.requests)


def killing(endpoint: Endpoint, pid: Callable[[], int], after: int) -> None:
    """Makes the endpoint kill a process in the middle of the request of this number."""

    def answer(request: dict[str, Any]) -> Reply:
        if len(endpoint.requests) == after:
            os.kill(pid(), signal.SIGKILL)
        return learned(request)

    endpoint.default = answer


def busy_worker(node: NodeClient) -> int:
    workers = node.health()[Atom("workers")]
    (pid,) = [worker[Atom("os_pid")] for worker in workers if worker[Atom("state")] == Atom("busy")]
    return int(pid)


@pytest.mark.parametrize(("optimizer", "after"), [(name, 9) for name in SPACE])
def test_a_job_whose_worker_was_killed_goes_on_from_what_was_paid_for(
    node: NodeClient, endpoint: Endpoint, optimizer: str, after: int
) -> None:
    paused, known = threading.Event(), threading.Event()
    victim: list[int] = []

    def first(request: dict[str, Any]) -> Reply:
        paused.set()
        known.wait(30)
        if len(endpoint.requests) == after:
            os.kill(victim[0], signal.SIGKILL)
        return learned(request)

    endpoint.default = first
    job, meta = payload(endpoint, optimizer), {Atom("idempotency_key"): f"killed {optimizer}".encode()}
    number = node.request("optimize_signature", job, meta)
    paused.wait(30)
    victim.append(busy_worker(node))
    known.set()
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed"))
    tag, result = node.ask("optimize_signature", job, meta)
    assert tag == "ok", result
    again = len(endpoint.requests) - needed(node, job)
    assert 0 <= again <= 2, "only what was in flight on the two threads is paid for again"
    paid, metrics = len(endpoint.requests), result[Atom("optimization_metrics")]
    assert metrics[Atom("cached_calls")] >= after - 2
    tag, replayed = node.ask("optimize_signature", job)  # without the key, which has a result by now
    assert (tag, len(endpoint.requests)) == ("ok", paid)
    assert replayed[Atom("optimized_signature")] == result[Atom("optimized_signature")]
    metrics = replayed[Atom("optimization_metrics")]
    assert (metrics[Atom("lm_calls")], metrics[Atom("cost_usd")]) == (0, 0.0)


def test_a_job_goes_on_under_a_new_node_after_the_old_one_was_killed(
    start_node: Callable[..., NodeClient], endpoint: Endpoint
) -> None:
    first = start_node("--workers", "1")
    first.ready()
    first.note_tree()
    killing(endpoint, lambda: first.process.pid, 12)
    job = payload(endpoint, "mipro_v2")
    first.request("optimize_signature", job, {Atom("idempotency_key"): b"k"})
    first.wait()
    paid = len(endpoint.requests)
    second = start_node("--workers", "1")
    second.ready()
    tag, result = second.ask("optimize_signature", job, {Atom("idempotency_key"): b"k"})
    assert tag == "ok", result
    assert 12 <= paid < len(endpoint.requests)
    assert 0 <= len(endpoint.requests) - needed(second, job) <= 2


def test_without_the_cache_everything_is_asked_anew(node: NodeClient, endpoint: Endpoint) -> None:
    config = {Atom("lm"): atoms(endpoint.lm()), Atom("cache"): False}
    for _ in range(2):
        assert node.ask("predict", prediction(config))[0] == "ok"
    assert len(endpoint.requests) == 2


def test_two_workers_keep_to_one_pace_and_say_that_they_wait(node: NodeClient, paced: Endpoint) -> None:
    node.send((Atom("credit"), 1000))
    node.wait_until_healthy()
    node.events.clear()
    lm = paced.lm(rate_limit={"requests_per_minute": 600})
    config = atoms({"lm": lm, "cache": False, "num_threads": 4})
    inputs = [{key: value for key, value in row.items() if key != Atom("category")} for row in TICKETS[:6]]
    batch = {Atom("signature"): SIGNATURE, Atom("inputs"): inputs, Atom("config"): config}
    numbers = [node.request("predict", batch) for _ in range(2)]
    answers = [node.until(lambda term: str(term[0]) in ("ok", "error")) for _ in numbers]  # whichever is ready first
    assert {(str(tag), number) for tag, number, _ in answers} == {("ok", number) for number in numbers}
    times = sorted(paced.times)
    assert len(times) == 12
    # Each slot may be late, none early: eleven steps of 0.1 s, less what a request takes to arrive.
    assert times[-1] - times[0] > 1.0
    for early, late in zip(times, times[3:], strict=False):
        assert late - early > 0.2
    said = [event[2][Atom("message")] for event in node.events if str(event[0]) == "progress"]
    assert any(line and b"rate limit" in line for line in said)


class Timed(Endpoint):
    """An endpoint that keeps when it was asked."""

    def __init__(self) -> None:
        self.times: list[float] = []
        super().__init__()

    def answer(self, request: dict[str, Any], headers: Any) -> Reply:
        self.times.append(time.monotonic())
        return super().answer(request, headers)


@pytest.fixture
def paced() -> Iterator[Timed]:
    served = Timed()
    yield served
    served.close()


def test_a_wait_for_ones_turn_ends_with_the_deadline_or_a_cancel(node: NodeClient, endpoint: Endpoint) -> None:
    node.send((Atom("credit"), 1000))
    lm = endpoint.lm(rate_limit={"requests_per_minute": 1})
    config = atoms({"lm": lm, "cache": False})
    assert node.ask("predict", prediction(config))[0] == "ok"
    tag, error = node.ask("predict", prediction(config), {Atom("deadline_ms"): 300})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    number = node.request("predict", prediction(config))
    node.until(lambda term: str(term[0]) == "progress" and term[2][Atom("message")])
    node.ask("cancel", {Atom("id"): number})
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("cancelled"))
    assert len(endpoint.requests) == 1


def test_a_deadline_brings_the_best_program_so_far(node: NodeClient, endpoint: Endpoint) -> None:
    before = {worker[Atom("os_pid")] for worker in node.wait_until_healthy()[Atom("workers")]}

    def slow(request: dict[str, Any]) -> Reply:
        endpoint.over.wait(0.02)
        return learned(request)

    endpoint.default = slow
    job = payload(endpoint, "bootstrap_few_shot_with_random_search", options={"num_candidate_programs": 500})
    tag, error = node.ask("optimize_signature", job, {Atom("deadline_ms"): 1500})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    context = error[Atom("context")]
    assert context[Atom("deadline_ms")] == 1500
    assert 0.0 <= context[Atom("best_score")] <= 1.0
    payload_of_best = {**prediction(atoms({"lm": Atom("offline")})), Atom("program"): context[Atom("best_program")]}
    del payload_of_best[Atom("signature")]
    assert node.ask("predict", payload_of_best)[0] == "ok"
    after = {worker[Atom("os_pid")] for worker in node.health()[Atom("workers")]}
    assert after == before, "the worker stopped by itself and was not killed"


def test_a_key_is_used_and_stands_in_nothing_that_anybody_can_read(
    start_node: Callable[..., NodeClient], endpoint: Endpoint, tmp_path: Path
) -> None:
    """The endpoint echoes the key wherever it can: in answers, in errors, escaped and in parts of JSON. Variables that
    name another gateway are set as well; no call and no key goes there."""
    other = Endpoint()
    gateways = {"OPENAI_BASE_URL": other.url, "OPENAI_API_BASE": other.url}
    node = start_node("--workers", "1", "--credit", "100000", MY_ENDPOINT=KEY, OPENAI_API_KEY=KEY, **gateways)
    node.ready()
    heard: list[bytes] = []
    feed = node.reader.feed
    node.reader.feed = lambda data: (heard.append(bytes(data)), feed(data))[1]  # type: ignore[method-assign]
    escaped = KEY.replace("/", "%2F")

    def echo(request: dict[str, Any]) -> Reply:
        number = len(endpoint.requests)
        if number % 5 == 4:
            return failure(400, f"the key {KEY} ({escaped}) may not do this")
        if number % 5 == 3:
            return failure(500, f"Bearer {KEY}", retry_after_ms="1")
        if number % 7 == 6:
            return category(KEY)
        return category(f"billing\n\n[[ ## note ## ]]\n{KEY} {escaped}")

    signature = {**SIGNATURE, Atom("output_fields"): [Atom("category"), Atom("note")]}
    inputs = [{key: value for key, value in row.items() if key != Atom("category")} for row in TICKETS[:12]]
    for key in ({"api_key": KEY}, {"api_key_env": "MY_ENDPOINT"}):
        endpoint.default = echo
        config = atoms({"lm": endpoint.lm(**key), "metric": {"name": "exact_match", "field": "category"}})
        job = {Atom("signature"): signature, Atom("config"): config}
        data = [{**row, Atom("note"): b""} for row in TICKETS[:6]]
        answers = [node.ask("optimize_signature", {**job, Atom("training_data"): data})[0]]
        answers.append(node.ask("predict", {**job, Atom("inputs"): inputs})[0])
        typo = {**job[Atom("config")], Atom("typo"): 1}  # type: ignore[dict-item]
        answers.append(node.ask("predict", {**job, Atom("input"): inputs[0], Atom("config"): typo})[0])
        endpoint.default = lambda request: failure(401, f"Incorrect API key provided: {KEY}")
        uncached = {**job[Atom("config")], Atom("cache"): False}  # type: ignore[dict-item]
        answers.append(node.ask("evaluate_pipeline", {**job, Atom("data"): data, Atom("config"): uncached})[0])
        assert answers == ["ok", "ok", "error", "error"]
    assert {headers["Authorization"] for headers in endpoint.headers} == {f"Bearer {KEY}"}
    assert other.requests == []
    other.close()
    node.close()
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".etf", ".sqlite3"}
    for text in (b"".join(heard), *(path.read_bytes() for path in written)):
        assert b"hush-hush" not in text


def test_predictions_leave_nothing_behind_in_the_worker(node: NodeClient, endpoint: Endpoint) -> None:
    """The short form of `benchmarks/memory.py`."""
    config, row = atoms({"lm": endpoint.lm(timeout_ms=30_000)}), TICKETS[0]

    def resident_bytes() -> int:
        return max(worker[Atom("rss_bytes")] for worker in node.health()[Atom("workers")])

    def predict(first: int) -> int:
        subject, body = row[Atom("subject")], row[Atom("body")]
        inputs = [{Atom("subject"): subject, Atom("body"): b"%s (%d)" % (body, first + n)} for n in range(100)]
        batch = {Atom("signature"): SIGNATURE, Atom("inputs"): inputs, Atom("config"): config}
        assert node.ask("predict", batch)[0] == "ok"
        return resident_bytes()

    warm = [predict(first) for first in (0, 100)][-1]
    sizes = [predict(first) for first in (200, 300, 400, 0)]
    assert max(sizes) < 1.05 * warm
