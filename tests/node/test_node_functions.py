"""Elixir functions over real pipes: the node asks, the host answers, late, wrongly, too much or never."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from node_client import NodeClient
from tickets import SIGNATURE, TICKETS, optimization, prediction

from erlbridge.codec import Atom

CALL, RESULT, OK, ERROR = Atom("call"), Atom("result"), Atom("ok"), Atom("error")

SCORE = (CALL, Atom("score"))
ANSWER = (CALL, b"answer")
ECHO = {Atom("input_fields"): [b"question"], Atom("output_fields"): [b"answer"]}


@pytest.fixture(scope="module")
def small_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """A node of one worker and small frames."""
    client = NodeClient(
        "--workers", "1", "--spare-workers", "0", "--max-frame-bytes", "8192", data=tmp_path_factory.mktemp("small")
    )
    yield client
    client.close()


def chat(value: bytes) -> bytes:
    return b"[[ ## answer ## ]]\n" + value + b"\n\n[[ ## completed ## ]]"


def echo(request: dict[Any, Any]) -> bytes:
    """The question of a prompt as its answer."""
    content = request[Atom("messages")][-1][Atom("content")]
    return chat(content.partition(b"[[ ## question ## ]]\n")[2].partition(b"\n")[0])


def same_category(example: dict[Any, Any], found: dict[Any, Any]) -> bool:
    return bool(example[Atom("category")] == found[Atom("category")])


def serve(node: NodeClient, number: int, functions: dict[object, Callable[..., object]]) -> tuple[str, Any, int]:
    """The answer to a request whose calls are answered by these functions, and how many calls there were."""
    count = 0
    while True:
        term = node.receive()
        if term[0] == CALL:
            _, call_id, request_id, name, arguments = term
            assert request_id == number
            count += 1
            node.send((RESULT, call_id, (OK, functions[name](*arguments))))
        elif term[0] in (OK, ERROR) and term[1] == number:
            return str(term[0]), term[2], count


def questions(count: int, **config: object) -> dict[Any, Any]:
    return {
        Atom("signature"): ECHO,
        Atom("inputs"): [{b"question": b"question %d" % index} for index in range(count)],
        Atom("config"): {Atom("lm"): ANSWER, **{Atom(name): value for name, value in config.items()}},
    }


def calls_of_health(node: NodeClient) -> dict[str, int]:
    return {str(key): value for key, value in node.health()[Atom("calls")].items()}


def error_type(error: dict[Any, Any]) -> str:
    return str(error[Atom("error_type")])


def test_a_metric_of_the_host_drives_an_optimization(node: NodeClient) -> None:
    payload = optimization(metric=SCORE, optimizer=Atom("bootstrap_few_shot"))
    number = node.request("optimize_signature", payload, {Atom("progress"): False})
    tag, result, count = serve(node, number, {Atom("score"): same_category})
    assert tag == "ok", result
    metrics = result[Atom("optimization_metrics")]
    assert metrics[Atom("score_before")] < metrics[Atom("score_after")]
    assert metrics[Atom("host_calls")] == count > 48


def test_calls_of_many_threads_answered_in_reverse_do_not_mix_up(node: NodeClient) -> None:
    number = node.request("predict", questions(96, num_threads=32), {Atom("progress"): False})
    held: list[Any] = []
    answer: Any = None
    while answer is None:
        term = node.receive()
        if term[0] == CALL:
            held.append(term)
        elif term[0] in (OK, ERROR):
            answer = term
        if len(held) == 32:
            for _, call_id, _, _, [request] in reversed(held):
                node.send((RESULT, call_id, (OK, echo(request))))
            held.clear()
    assert answer[:2] == (OK, number)
    found = [row[Atom("prediction")][b"answer"] for row in answer[2][Atom("predictions")]]
    assert found == [b"question %d" % index for index in range(96)]


def test_a_failure_is_a_callback_error_with_the_functions_name_and_reason(node: NodeClient) -> None:
    number = node.request("predict", questions(1))
    _, call_id, *_ = node.until(lambda term: term[0] == CALL)
    node.send((RESULT, call_id, (ERROR, b"the quota is used up")))
    tag, error = node.answer(number)
    assert (tag, error_type(error)) == ("error", "callback_error")
    assert b"`answer` failed: the quota is used up" in error[Atom("message")]
    assert error[Atom("context")][Atom("name")] == b"answer"
    assert error[Atom("recovery_strategy")] == Atom("fallback")


@pytest.mark.parametrize("outcome", [Atom("ok"), (OK,), b"junk", (Atom("reply"), 1), (OK, 1)])
def test_an_outcome_of_another_shape_ends_the_call_as_a_failure(node: NodeClient, outcome: object) -> None:
    number = node.request("predict", questions(1))
    _, call_id, *_ = node.until(lambda term: term[0] == CALL)
    node.send((RESULT, call_id, outcome))
    tag, error = node.answer(number)
    assert (tag, error_type(error)) == ("error", "callback_error")
    assert b"expected" in error[Atom("message")]


def test_a_call_that_is_not_answered_in_time_is_a_callback_error(node: NodeClient) -> None:
    number = node.request("predict", questions(1, call_timeout_ms=50))
    tag, error = node.answer(number)
    assert (tag, error_type(error)) == ("error", "callback_error")
    assert b"within 50 ms" in error[Atom("message")]


def test_a_deadline_ends_a_job_whose_host_never_answers_and_frees_its_worker(node: NodeClient) -> None:
    tag, error = node.ask("predict", questions(1), {Atom("deadline_ms"): 100})
    assert (tag, error_type(error)) == ("error", "timeout_error")
    node.wait_until_healthy()
    assert calls_of_health(node)["open"] == 0


def test_a_cancel_ends_calls_at_once_and_late_results_do_no_harm(node: NodeClient) -> None:
    late = calls_of_health(node)["late"]
    number = node.request("predict", questions(4, num_threads=4))
    calls = [node.until(lambda term: term[0] == CALL) for _ in range(4)]
    node.request("cancel", {Atom("id"): number})
    tag, error = node.answer(number)
    assert (tag, error_type(error)) == ("error", "cancelled")
    assert Atom("reason") not in error[Atom("context")], "the worker was killed, not stopped"
    for call in calls:
        node.send((RESULT, call[1], (OK, b"too late")))
    assert calls_of_health(node) == {"open": 0, "late": late + 4, "unknown": 0}
    again = node.request("predict", questions(1))
    assert serve(node, again, {b"answer": echo})[0] == "ok"


def test_arguments_above_the_frame_limit_are_a_typed_error(small_node: NodeClient) -> None:
    payload = questions(1)
    payload[Atom("signature")] = {**ECHO, Atom("instructions"): b"x" * 7800}
    tag, error = small_node.ask("predict", payload)
    assert (tag, error_type(error)) == ("error", "serialization_error")
    assert b"give its function less" in error[Atom("message")]


def test_a_result_for_no_call_is_told_once_and_spoils_nothing(small_node: NodeClient) -> None:
    for call_id in (7000, b"x", {Atom("a"): 1.0}):
        small_node.send((RESULT, call_id, (OK, 1)))
    assert calls_of_health(small_node)["unknown"] == 3
    [warning] = [event for event in small_node.events if event[:2] == (Atom("log"), Atom("warning"))]
    assert b"call 7000" in warning[2]


def test_a_worker_that_dies_takes_its_calls_along(small_node: NodeClient) -> None:
    number = small_node.request(
        "evaluate_pipeline",
        {
            Atom("signature"): SIGNATURE,
            Atom("data"): TICKETS[:2],
            Atom("metric"): SCORE,
            Atom("config"): {Atom("lm"): Atom("offline")},
        },
    )
    _, call_id, *_ = small_node.until(lambda term: term[0] == CALL)
    [worker] = small_node.health()[Atom("workers")]
    os.kill(worker[Atom("os_pid")], signal.SIGKILL)
    tag, error = small_node.answer(number)
    assert (tag, error_type(error)) == ("error", "process_crashed")
    small_node.send((RESULT, call_id, (OK, True)))
    assert small_node.ask("predict", prediction())[0] == "ok"
    assert calls_of_health(small_node)["late"] == 1


def test_a_deadline_during_a_call_brings_the_best_program_so_far(node: NodeClient) -> None:
    answered, before = 0, {worker[Atom("os_pid")] for worker in node.wait_until_healthy()[Atom("workers")]}
    number = node.request("optimize_signature", optimization(8, metric=SCORE), {Atom("deadline_ms"): 1500})
    while (term := node.receive())[0] not in (OK, ERROR):
        if term[0] == CALL and answered < 9:  # the baseline of eight and one of the compile; then the host is silent
            answered += 1
            node.send((RESULT, term[1], (OK, 0.5)))
    assert (term[0], term[1], term[2][Atom("error_type")]) == (ERROR, number, Atom("timeout_error"))
    assert term[2][Atom("context")][Atom("best_score")] == 0.5
    assert {worker[Atom("os_pid")] for worker in node.health()[Atom("workers")]} == before


def test_a_request_that_names_its_parent_runs_while_the_only_worker_waits_for_it(small_node: NodeClient) -> None:
    outer = small_node.request("predict", questions(1))
    _, call_id, *_ = small_node.until(lambda term: term[0] == CALL)
    inner = small_node.request("predict", questions(1), {Atom("parent"): outer, Atom("deadline_ms"): 20_000})
    tag, result, count = serve(small_node, inner, {b"answer": echo})
    assert (tag, count) == ("ok", 1), result
    small_node.send((RESULT, call_id, (OK, chat(b"after"))))
    tag, result = small_node.answer(outer)
    assert tag == "ok", result


def test_a_parent_that_is_no_id_for_an_answer_is_refused(small_node: NodeClient) -> None:
    tag, error = small_node.ask("predict", questions(1), {Atom("parent"): b"x" * 2000})
    assert (tag, error_type(error)) == ("error", "validation_error")
    assert error[Atom("context")][Atom("path")] == b"meta.parent"


def test_a_call_whose_job_goes_on_without_it_is_over_for_the_host_too(node: NodeClient) -> None:
    look = {Atom("name"): b"look", Atom("call"): (CALL, b"look")}
    agent = {Atom("name"): Atom("react"), Atom("tools"): [look], Atom("max_iters"): 1}
    number = node.request("predict", questions(1, call_timeout_ms=200, module=agent))
    looked = None
    while (term := node.receive())[0] not in (OK, ERROR):
        if term[0] == CALL and term[3] == b"look":
            looked = term[1]
        elif term[0] == CALL:
            content = term[4][0][Atom("messages")][-1][Atom("content")]
            step = (
                b"[[ ## next_thought ## ]]\nlook\n\n[[ ## next_tool_name ## ]]\nlook\n\n[[ ## next_tool_args ## ]]\n{}"
            )
            last = b"[[ ## reasoning ## ]]\nnothing\n\n[[ ## answer ## ]]\nnone"
            text = step if b"next_tool_name" in content.partition(b"Respond with")[2] else last
            node.send((RESULT, term[1], (OK, text + b"\n\n[[ ## completed ## ]]")))
        elif term[0] == Atom("call_over"):
            assert term == (Atom("call_over"), looked)
            looked = "over"
    assert (term[0], term[1]) == (OK, number), term
    assert looked == "over"
