"""Requests with an idempotency key over real pipes: done once, stored before they are answered, shared, fetched.

The model is a function of the host, so that the tests say when a job goes on and see what it costs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kept_results import body, names, overwrite
from node_client import NodeClient, NodeGone
from program_jobs import Endpoint, atoms
from tickets import SIGNATURE, TICKETS, prediction

from erlbridge.codec import Atom

CALL, RESULT, OK, ERROR, STATUS = Atom("call"), Atom("result"), Atom("ok"), Atom("error"), Atom("status")
KEY = Atom("idempotency_key")
ECHO = {Atom("input_fields"): [b"question"], Atom("output_fields"): [Atom("verdict_of_mine")]}
SECRET = "hush-hush-1234/key"


def question(text: bytes = b"1 + 1") -> dict[Any, Any]:
    config = {Atom("lm"): (CALL, b"answer")}
    return {Atom("signature"): ECHO, Atom("input"): {b"question": text}, Atom("config"): config}


def keyed(key: str, **meta: object) -> dict[Any, Any]:
    return {KEY: key.encode(), **{Atom(name): value for name, value in meta.items()}}


def called(node: NodeClient) -> Any:
    """The next call of the model: its id and the request's."""
    call = node.until(lambda term: term[0] == CALL)
    return call[1], call[2]


def give(node: NodeClient, call_id: int, answer: bytes = b"2") -> None:
    text = b"[[ ## verdict_of_mine ## ]]\n" + answer + b"\n\n[[ ## completed ## ]]"
    node.send((RESULT, call_id, (OK, text)))


def answers(node: NodeClient, *numbers: int) -> dict[int, tuple[str, Any]]:
    """The answers to these requests, in whatever order they come; each comes once."""
    found: dict[int, tuple[str, Any]] = {}
    while len(found) < len(numbers):
        term = node.until(lambda term: term[0] in (OK, ERROR) and term[1] in numbers)
        assert term[1] not in found, "answered twice"
        found[term[1]] = str(term[0]), term[2]
    return found


def asked_once(node: NodeClient, key: str, text: bytes = b"1 + 1") -> Any:
    """The result of a request that costs one call."""
    number = node.request("predict", question(text), keyed(key))
    call_id, request_id = called(node)
    assert request_id == number
    give(node, call_id)
    tag, result = node.answer(number)
    assert tag == "ok", result
    return result


def replayed(node: NodeClient, key: str, text: bytes = b"1 + 1") -> Any:
    """The result of a request that costs none."""
    before = node.health()[Atom("calls")]
    tag, result = node.ask("predict", question(text), keyed(key))
    assert tag == "ok", result
    assert node.health()[Atom("calls")] == before
    assert not [term for term in node.events if term[0] == CALL]
    return result


def fetched(node: NodeClient, key: str, *names: str) -> tuple[str, Any]:
    payload: dict[Any, Any] = {KEY: key.encode()}
    if names:
        payload[Atom("atoms")] = [Atom(name) for name in names]
    return node.ask("fetch_result", payload)


def error_of(answer: tuple[str, Any]) -> tuple[str, dict[str, Any]]:
    tag, error = answer
    assert tag == "error", error
    return str(error[Atom("error_type")]), {str(key): value for key, value in error[Atom("context")].items()}


def stored(data: Path) -> set[str]:
    return names(data)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's node keeps what lasts."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def node(data: Path) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "2", "--spare-workers", "0", data=data)
    client.ready()
    yield client
    client.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()
    yield served
    served.close()


@pytest.fixture(autouse=True)
def forget(node: NodeClient) -> None:
    node.events.clear()


def test_what_was_answered_under_a_key_is_answered_again_without_a_call(node: NodeClient) -> None:
    first = asked_once(node, "again")
    second = replayed(node, "again")
    metrics, before = second[Atom("metrics")], first[Atom("metrics")]
    assert metrics == {**before, Atom("cached"): True}, "the cost stands as it was"
    assert metrics[Atom("host_calls")] == 1
    assert {**second, Atom("metrics"): before} == first


def test_a_stored_result_is_fetched_by_its_key(node: NodeClient) -> None:
    first = asked_once(node, "fetched")
    tag, found = fetched(node, "fetched", "verdict_of_mine")
    assert tag == "ok"
    assert (found[STATUS], found[Atom("verb")]) == (Atom("success"), Atom("predict"))
    assert found[Atom("stored_at_ms")] > 1_700_000_000_000
    assert found[Atom("result")][Atom("prediction")] == first[Atom("prediction")] == {Atom("verdict_of_mine"): b"2"}
    assert found[Atom("result")][Atom("metrics")][Atom("cached")] is True


def test_an_atom_that_a_fetch_does_not_know_comes_as_a_binary(node: NodeClient) -> None:
    asked_once(node, "unknown atoms")
    found = fetched(node, "unknown atoms")[1]
    assert found[Atom("result")][Atom("prediction")] == {b"verdict_of_mine": b"2"}


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({}, b"payload"),
        ({KEY: 3}, b"payload.idempotency_key"),
        ({KEY: b"x" * 1025}, b"payload.idempotency_key"),
        ({KEY: b"x", Atom("atoms"): [b"x"]}, b"payload.atoms[0]"),
        ({KEY: b"x", Atom("key"): b"y"}, b"payload"),
    ],
)
def test_a_wrong_fetch_is_refused_with_its_path(node: NodeClient, payload: dict[Any, Any], path: bytes) -> None:
    assert error_of(node.ask("fetch_result", payload)) == ("validation_error", {"path": path})


def test_a_key_names_one_request(node: NodeClient) -> None:
    asked_once(node, "one request")
    conflict = ("validation_error", {"path": b"meta.idempotency_key"})
    assert error_of(node.ask("predict", question(b"2 + 2"), keyed("one request"))) == conflict
    number = node.request("predict", question(b"3 + 3"), keyed("one that runs"))
    call_id, _ = called(node)
    assert error_of(node.ask("predict", question(b"4 + 4"), keyed("one that runs"))) == conflict
    give(node, call_id)
    assert node.answer(number)[0] == "ok"


def test_all_who_ask_while_it_runs_get_the_answer_of_one_job(node: NodeClient) -> None:
    numbers = [node.request("predict", question(), keyed("shared")) for _ in range(5)]
    call_id, request_id = called(node)
    assert request_id == numbers[0]
    assert error_of(fetched(node, "shared")) == ("not_found", {"state": Atom("running")})
    give(node, call_id)
    found = answers(node, *numbers)
    cached = [found[number][1][Atom("metrics")].get(Atom("cached")) for number in numbers]
    assert cached == [None, True, True, True, True]
    assert {found[number][1][Atom("prediction")][Atom("verdict_of_mine")] for number in numbers} == {b"2"}
    assert node.health()[Atom("queue")][Atom("running")] == 0


def test_the_cancel_of_one_asker_takes_the_job_from_no_other(node: NodeClient) -> None:
    first, second, third = (node.request("predict", question(), keyed("left")) for _ in range(3))
    old_call, _ = called(node)
    for number in (first, second):
        node.request("cancel", {Atom("id"): number})
    assert error_of(node.answer(first))[0] == error_of(node.answer(second))[0] == "cancelled"
    # The functions of a request end with it, so what was open is asked anew: of the second, then of the third.
    calls = [term for term in node.events if term[0] == CALL]
    if not [term for term in calls if term[2] == third]:
        calls.append(node.until(lambda term: term[0] == CALL and term[2] == third))
    give(node, old_call, b"nobody's")
    give(node, calls[-1][1])
    tag, result = node.answer(third)
    assert (tag, result[Atom("prediction")]) == ("ok", {Atom("verdict_of_mine"): b"2"})


def test_a_deadline_is_that_of_its_own_asker(node: NodeClient) -> None:
    node.wait_until_healthy()  # booting takes longer than the first may wait
    first = node.request("predict", question(), keyed("in time", deadline_ms=900))
    called(node)
    second = node.request("predict", question(), keyed("in time", deadline_ms=500))
    third = node.request("predict", question(), keyed("in time"))
    found = answers(node, first, second)  # whichever passes first where the processor is busy
    assert error_of(found[second]) == ("timeout_error", {"deadline_ms": 500})
    assert error_of(found[first]) == ("timeout_error", {"deadline_ms": 900})
    calls = [term for term in node.events if term[0] == CALL and term[2] == third]
    (call,) = calls or [node.until(lambda term: term[0] == CALL)]
    give(node, call[1])
    assert node.answer(third)[0] == "ok", "its worker has been told that there is time"


def test_a_large_answer_of_many_askers_waits_once(node: NodeClient) -> None:
    """The host reads nothing until all of them are answered: 150 MB, in a node that keeps 64 MiB for it."""
    large, before = b"x" * 1_500_000, peak_bytes(node)
    numbers = [node.request("predict", question(), keyed("large")) for _ in range(100)]
    give(node, called(node)[0], large)
    found = answers(node, *numbers)
    assert {found[number][1][Atom("prediction")][Atom("verdict_of_mine")] for number in numbers} == {large}
    assert peak_bytes(node) - before < 110_000_000


def peak_bytes(node: NodeClient) -> int:
    status = Path(f"/proc/{node.node_pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_failure_is_everybody_s_answer_and_is_not_stored(node: NodeClient) -> None:
    numbers = [node.request("predict", question(), keyed("failed")) for _ in range(2)]
    call_id, _ = called(node)
    node.send((RESULT, call_id, (ERROR, b"no model today")))
    assert {error_of(answer)[0] for answer in answers(node, *numbers).values()} == {"callback_error"}
    assert error_of(fetched(node, "failed"))[0] == "not_found"
    asked_once(node, "failed")


def test_a_request_without_a_key_is_done_anew(node: NodeClient, data: Path) -> None:
    asked_once(node, "with a key")
    before = stored(data)
    number = node.request("predict", question())
    give(node, called(node)[0])
    assert node.answer(number)[0] == "ok"
    assert stored(data) == before


def test_another_node_on_the_same_directory_answers_too(node: NodeClient, data: Path) -> None:
    first = asked_once(node, "of two nodes")
    other = NodeClient("--workers", "1", data=data)
    try:
        other.ready()
        result = replayed(other, "of two nodes")
        assert result[Atom("prediction")] == first[Atom("prediction")]
        asked_once(other, "of the other")
    finally:
        other.close()
    replayed(node, "of the other")


def test_a_damaged_result_is_set_aside_and_named_and_the_request_done_anew(node: NodeClient, data: Path) -> None:
    before = stored(data)
    asked_once(node, "damaged")
    (name,) = stored(data) - before
    content = bytearray(body(data, name))
    content[len(content) // 2] ^= 1
    overwrite(data, name, bytes(content))
    node.send((Atom("credit"), 100))
    assert error_of(fetched(node, "damaged"))[0] == "not_found"
    aside = data / "results" / f"{name}.damaged"
    assert aside.read_bytes() == content
    lines = [term[2] for term in node.events if term[0] == Atom("log") and term[1] == Atom("warning")]
    assert [line for line in lines if f"{name}.result".encode() in line and aside.name.encode() in line], lines
    asked_once(node, "damaged")
    replayed(node, "damaged")


def test_no_key_of_a_model_is_stored(node: NodeClient, data: Path, endpoint: Endpoint) -> None:
    def evaluation(subject: bytes, key: str) -> dict[Any, Any]:
        rows = [{**TICKETS[0], Atom("subject"): subject}]
        config = atoms({"lm": endpoint.lm(api_key=key)})
        return {Atom("signature"): SIGNATURE, Atom("data"): rows, Atom("config"): config}

    node.send((Atom("credit"), 100))
    assert node.ask("evaluate_pipeline", evaluation(b"harmless", SECRET), keyed("kept"))[0] == "ok"
    assert node.ask("evaluate_pipeline", evaluation(b"harmless", "a-newer-key"), keyed("kept"))[0] == "ok"
    assert len(endpoint.requests) == 1, "another key is no other question"
    assert node.ask("evaluate_pipeline", evaluation(SECRET.encode(), SECRET), keyed("not kept"))[0] == "ok"
    assert error_of(fetched(node, "not kept"))[0] == "not_found"
    assert [term for term in node.events if term[0] == Atom("log") and b"a key of its models stands in it" in term[2]]
    assert not [name for name in stored(data) if SECRET.encode() in body(data, name)]


def test_nothing_that_was_stored_is_lost_when_the_node_is_killed(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    first = start_node("--workers", "2")
    first.ready()
    first.note_tree()
    count, answered = 40, []
    numbers = {first.request("predict", prediction(), keyed(f"killed {index}")): index for index in range(count)}
    try:
        while True:
            term = first.until(lambda term: term[0] == OK)
            answered.append(numbers[term[1]])
            if len(answered) == count // 4:
                os.kill(first.node_pid, signal.SIGKILL)
    except NodeGone:
        pass
    assert len(answered) < count
    second = start_node("--workers", "1")
    second.ready()
    found = [fetched(second, f"killed {index}")[0] for index in range(count)]
    assert {found[index] for index in answered} == {"ok"}
    assert not list((tmp_path / "data" / "results").glob("*.damaged"))
    assert not [term for term in second.events if term[0] == Atom("log") and b"damaged" in term[2]]
