"""Kills, hangs, cancels and closed wires: one typed answer for each request, fresh workers, no process left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_client import NodeClient, NodeGone, alive, await_gone, descendants
from tickets import optimization, prediction, slow
from victims import busy_worker, forkserver_of, slow_job

from erlbridge.codec import Atom


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "1", "--max-queue", "2", data=tmp_path_factory.mktemp("data"))
    client.ready()
    yield client
    client.close()


@pytest.fixture
def node(lasting: NodeClient) -> NodeClient:
    """A node of one worker, shared by the tests that it outlives; the worker is there, and nothing is left to hear."""
    lasting.wait_until_healthy()
    lasting.send((Atom("credit"), 200))
    lasting.events.clear()
    return lasting


def test_a_killed_worker_is_one_typed_error_and_the_next_request_is_served(node: NodeClient) -> None:
    restarts = node.health()[Atom("restarts")]
    number = node.request("optimize_signature", slow_job(50))
    os.kill(busy_worker(node, number), signal.SIGKILL)
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed"))
    assert error[Atom("recovery_strategy")] == Atom("retry")
    assert error[Atom("context")][Atom("reason")] == Atom("signal")
    assert error[Atom("context")][Atom("signal_name")] == b"SIGKILL"
    assert node.ask("predict", prediction())[0] == "ok"
    health = node.wait_until_healthy()
    assert health[Atom("restarts")] == restarts + 1


def test_a_killed_worker_does_not_disturb_the_other(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "2")
    node.ready()
    node.wait_until_healthy()
    victim, other = (node.request("optimize_signature", slow_job(5)) for _ in range(2))
    os.kill(busy_worker(node, victim), signal.SIGKILL)
    answers = {}
    for _ in range(2):
        term = node.until(lambda term: str(term[0]) in ("ok", "error"))
        answers[term[1]] = str(term[0])
    assert answers == {victim: "error", other: "ok"}


def test_a_killed_forkserver_is_replaced_and_its_jobs_answered(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "2")
    node.ready()
    node.wait_until_healthy()
    jobs = [node.request("optimize_signature", slow_job(50)) for _ in range(2)]
    worker = busy_worker(node, jobs[0])
    os.kill(forkserver_of(node), signal.SIGKILL)
    for _ in jobs:
        tag, number, error = node.until(lambda term: str(term[0]) in ("ok", "error"))
        assert number in jobs
        assert (str(tag), error[Atom("error_type")]) == ("error", Atom("process_crashed"))
        assert error[Atom("context")][Atom("reason")] == Atom("forkserver")
    await_gone({worker})
    assert node.ask("predict", prediction())[0] == "ok"


def test_a_running_job_is_cancelled_at_its_next_model_call(node: NodeClient) -> None:
    restarts = node.health()[Atom("restarts")]
    number = node.request("optimize_signature", slow_job(20, optimizer=Atom("mipro_v2")))
    worker = busy_worker(node, number)
    node.until(lambda term: str(term[0]) == "progress" and term[1] == number and term[2][Atom("lm_calls")] > 0)
    assert node.ask("cancel", {Atom("id"): number}) == ("ok", {Atom("status"): Atom("cancelling")})
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("cancelled"))
    assert error[Atom("recovery_strategy")] == Atom("fallback")
    assert error[Atom("context")][Atom("lm_calls")] > 0
    assert alive(worker), "a cooperative cancel keeps its worker"
    assert node.ask("predict", prediction())[0] == "ok"
    assert node.health()[Atom("restarts")] == restarts


def test_a_job_that_does_not_stop_is_ended_by_killing_its_worker(node: NodeClient) -> None:
    number = node.request("optimize_signature", slow_job(20))
    worker = busy_worker(node, number)
    os.kill(worker, signal.SIGSTOP)
    node.ask("cancel", {Atom("id"): number})
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("cancelled"))
    assert error[Atom("context")][Atom("reason")] == Atom("cancel_grace")
    await_gone({worker})
    assert node.ask("predict", prediction())[0] == "ok"


def test_a_waiting_request_is_cancelled_without_a_worker(node: NodeClient) -> None:
    running = node.request("optimize_signature", slow_job(5))
    waiting = node.request("predict", prediction())
    assert node.ask("cancel", {Atom("id"): waiting})[0] == "ok"
    assert node.answer(waiting)[1][Atom("error_type")] == Atom("cancelled")
    assert node.answer(running)[0] == "ok"
    tag, error = node.ask("cancel", {Atom("id"): running})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))


def test_a_deadline_is_answered_while_the_job_hangs(node: NodeClient) -> None:
    restarts = node.health()[Atom("restarts")]
    tag, error = node.ask("predict", prediction(slow(60_000)), {Atom("deadline_ms"): 200})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    assert error[Atom("context")][Atom("deadline_ms")] == 200
    assert b"in complete" in error[Atom("context")][Atom("stack")]
    assert node.ask("predict", prediction())[0] == "ok", "served by the worker that replaced the hanging one"
    assert node.health()[Atom("restarts")] == restarts + 1


def test_a_full_queue_is_overloaded_at_once_and_nothing_else_suffers(node: NodeClient) -> None:
    accepted = [node.request("predict", prediction(slow(100))) for _ in range(3)]
    tag, error = node.ask("predict", prediction())
    assert (tag, error[Atom("error_type")]) == ("error", Atom("overloaded"))
    assert error[Atom("retry_after_ms")] > 0
    assert node.health()[Atom("status")] == Atom("overloaded")
    assert {node.until(lambda term: str(term[0]) == "ok")[1] for _ in accepted} == set(accepted)


def test_the_wires_end_ends_node_and_workers(start_node: Callable[..., NodeClient]) -> None:
    for partial in (b"", b"\x00\x00", b"\x00\x00\x01\x00half a frame"):
        node = start_node("--workers", "2", "--spare-workers", "0")
        node.ready()
        node.wait_until_healthy()
        node.request("optimize_signature", slow_job(60_000))
        tree = node.note_tree()
        assert len(tree) == 5, "guardian, node, forkserver and two workers"
        node.send_bytes(partial)
        node.close_wire()
        assert node.wait() == 0
        await_gone(tree)


def test_the_wires_end_before_any_worker_has_booted_ends_everything(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "2")
    node.ready()
    node.close_wire()
    assert node.wait() == 0
    await_gone(node.note_tree())


def test_a_killed_node_takes_its_processes_with_it(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "2", "--spare-workers", "0")
    node.ready()
    node.wait_until_healthy()
    node.request("optimize_signature", slow_job(60_000))
    tree = node.note_tree()
    assert len(tree) == 5
    node.process.kill()
    node.wait()
    await_gone(tree)


def test_shutdown_waits_for_running_jobs_and_exits_with_0(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    job = node.request("optimize_signature", optimization())
    stop = node.request("shutdown", {Atom("mode"): Atom("drain"), Atom("grace_ms"): 30_000})
    late = node.request("predict", prediction())
    assert node.answer(late)[1][Atom("error_type")] == Atom("shutting_down")
    assert node.answer(job)[0] == "ok"
    assert node.answer(stop) == ("ok", {Atom("status"): Atom("stopped"), Atom("unfinished"): 0})
    with pytest.raises(NodeGone) as gone:
        node.receive()
    assert gone.value.code == 0


def test_shutdown_now_answers_what_is_unfinished(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    jobs = [node.request("optimize_signature", slow_job(60_000)) for _ in range(3)]
    stop = node.request("shutdown", {Atom("mode"): Atom("now")})
    for job in jobs:
        assert node.answer(job)[1][Atom("error_type")] == Atom("shutting_down")
    assert node.answer(stop) == ("ok", {Atom("status"): Atom("stopped"), Atom("unfinished"): 3})
    assert node.wait() == 0


def test_sigterm_drains_the_node(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    job = node.request("optimize_signature", optimization())
    node.until(lambda term: str(term[0]) == "progress")
    node.process.send_signal(signal.SIGTERM)
    assert node.answer(job)[0] == "ok"
    assert node.wait() == 0


def test_workers_that_cannot_boot_end_the_node_with_3_and_say_why(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    broken = tmp_path / "broken" / "dspy"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('this DSPy is broken on purpose')\n")
    node = start_node("--workers", "1", PYTHONPATH=str(broken.parent))
    node.ready()
    number = node.request("predict", prediction())
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed"))
    assert b"this DSPy is broken on purpose" in error[Atom("message")]
    assert node.wait() == 3


def test_the_nodes_own_memory_stays_free_of_dspy(node: NodeClient) -> None:
    assert node.ask("predict", prediction())[0] == "ok"
    maps = Path(f"/proc/{node.node_pid}/maps").read_text()
    assert "pydantic" not in maps
    assert any("pydantic" in Path(f"/proc/{pid}/maps").read_text() for pid in descendants(node.node_pid))
