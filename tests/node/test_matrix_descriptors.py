"""The fault matrix, descriptors: a process that may open nothing more says so where it matters, and then goes on."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import FaultyEndpoint
from measures import record
from node_client import NodeClient
from tickets import HELD_OUT, SIGNATURE, optimization, prediction

from erlbridge.codec import Atom

ROW = "descriptors exhausted"
CONTEXT = Atom("context")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "2", "--spare-workers", "0", data=tmp_path_factory.mktemp("data"))
    try:
        client.ready()
        client.wait_until_healthy()
        client.send((Atom("credit"), 10_000))
        yield client
    finally:
        client.close()


def _open(pid: int) -> set[str]:
    return {found.name for found in Path(f"/proc/{pid}/fd").iterdir()}


@contextmanager
def no_more(pid: int) -> Iterator[None]:
    """The process may open no further descriptor; what it has open stays."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    always = _open(pid)
    for _ in range(60):  # what it has open for a moment, as a file that is being synced, would leave a place free
        time.sleep(0.005)
        always &= _open(pid)
    free = next(number for number in range(before[0]) if str(number) not in always)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def workers(node: NodeClient) -> list[int]:
    return [worker[Atom("os_pid")] for worker in node.wait_until_healthy()[Atom("workers")]]


def forkserver_of(worker: int) -> int:
    stat = Path(f"/proc/{worker}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def kind_of(answered: tuple[str, Any]) -> str:
    tag, term = answered
    return "ok" if tag == "ok" else str(term[Atom("error_type")])


def evaluation(endpoint: FaultyEndpoint) -> dict[Any, Any]:
    config = {Atom("lm"): endpoint.lm(), Atom("cache"): False, Atom("num_threads"): 2}
    return {Atom("signature"): SIGNATURE, Atom("data"): HELD_OUT[:4], Atom("config"): config}


def test_a_node_without_descriptors_serves_its_workers_and_types_its_errors(node: NodeClient) -> None:
    workers(node)
    tag, made = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    program_id = {Atom("program_id"): made[Atom("program_id")]}
    with no_more(node.node_pid):
        assert kind_of(node.ask("predict", prediction())) == "ok"
        assert kind_of(node.ask("optimize_signature", optimization(6, optimizer=Atom("labeled_few_shot")))) == "ok"
        for verb, payload in (("get_program", program_id),):
            answered = node.ask(verb, payload)
            assert kind_of(answered) == "storage_error"
            assert b"limit on open files" in answered[1][Atom("message")]
        assert kind_of(node.ask("health_check", {})) in ("ok", "internal_error")
    begun = time.monotonic()
    assert node.ask("get_program", program_id)[0] == "ok"
    assert node.health()[Atom("restarts")] == 0
    record(ROW, "node", "all of it works again after", time.monotonic() - begun, 1.0)


@pytest.mark.parametrize("process", ["guardian", "node", "forkserver"])
def test_a_worker_that_dies_meanwhile_is_replaced_as_soon_as_it_can_be(node: NodeClient, process: str) -> None:
    victim, other = workers(node)
    pids = {"guardian": node.process.pid, "node": node.node_pid, "forkserver": forkserver_of(victim)}
    with no_more(pids[process]):
        os.kill(victim, signal.SIGKILL)
        kinds = []
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            kinds.append(kind_of(node.ask("predict", prediction())))
        # One of them may have gone to the victim while the kernel was still taking it apart.
        assert kinds.count("process_crashed") <= 1, "the other worker serves"
        assert set(kinds) <= {"ok", "process_crashed"}
        assert kinds[-1] == "ok"
    begun = time.monotonic()
    while len(workers(node)) < 2:
        time.sleep(0.01)
    record(ROW, process, "a dead worker is replaced after", time.monotonic() - begun, 3.0)
    assert other in workers(node)
    assert victim not in workers(node)
    assert kind_of(node.ask("predict", prediction())) == "ok"


def test_a_worker_without_descriptors_says_that_its_model_cannot_be_reached(node: NodeClient) -> None:
    pids = workers(node)
    with FaultyEndpoint() as endpoint:
        for number in [node.request("evaluate_pipeline", evaluation(endpoint)) for _ in range(4)]:
            node.until(lambda term, number=number: str(term[0]) in ("ok", "error"))
        with no_more(pids[0]), no_more(pids[1]):
            assert kind_of(node.ask("predict", prediction())) == "ok", "the offline LM opens nothing"
            assert kind_of(node.ask("optimize_signature", optimization(6))) == "ok"
            answered = node.ask("evaluate_pipeline", evaluation(endpoint))
            assert kind_of(answered) == "lm_error"
            assert answered[1][CONTEXT][Atom("kind")] == Atom("transport")
        begun = time.monotonic()
        assert kind_of(node.ask("evaluate_pipeline", evaluation(endpoint))) == "ok"
        record(ROW, "worker", "a job is served again after", time.monotonic() - begun, 2.0)
    assert workers(node) == pids
