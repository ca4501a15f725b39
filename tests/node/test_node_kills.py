"""Killed workers and forkservers: one typed error in time, a replacement in time, nothing left, nothing grown."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from measures import record
from node_client import NodeClient, await_gone
from tickets import prediction, slow
from victims import (
    UNRULY,
    await_replaced,
    busy_worker,
    family_of,
    forkserver_of,
    idle_workers,
    open_descriptors,
    record_gone,
    slow_job,
    worker_of,
)

from erlbridge.codec import Atom

ROW = "kill -9 a worker"


@pytest.fixture(scope="module")
def unruly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """A node of two workers, each with descendants in sessions of their own."""
    client = NodeClient(
        "--workers",
        "2",
        "--spare-workers",
        "0",
        "--credit",
        "100000",
        data=tmp_path_factory.mktemp("data"),
        environment={"PYTHONPATH": UNRULY},
    )
    client.ready()
    client.wait_until_healthy()
    yield client
    client.close()


def answers_to(node: NodeClient, number: int) -> list[str]:
    """How the request has been answered, in what has been heard so far."""
    return [str(term[0]) for term in node.events if str(term[0]) in ("ok", "error") and term[1] == number]


def test_an_idle_worker_that_is_killed_is_replaced_and_leaves_nothing(unruly: NodeClient) -> None:
    unruly.wait_until_healthy()
    worker, _ = sorted(idle_workers(unruly))
    family = family_of(worker)
    unruly.tree |= family
    since = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    record(ROW, "idle", "replaced after", await_replaced(unruly, {worker}, 2, since, 1.0), 1.0)
    record_gone(ROW, "idle, with a grandchild in a session of its own", family, since)


@pytest.mark.parametrize("fault", ["in a model call", "holding the interpreter's lock in C"])
def test_a_busy_worker_that_is_killed_is_one_typed_error_in_time(unruly: NodeClient, fault: str) -> None:
    unruly.wait_until_healthy()
    number = unruly.request("optimize_signature", slow_job(30))
    worker = busy_worker(unruly, number)
    other = unruly.request("predict", prediction(slow(400)))
    family = family_of(worker)
    unruly.tree |= family
    if fault != "in a model call":
        os.kill(worker, signal.SIGUSR1)
        await_running(worker)
    since = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    tag, error = unruly.answer(number)
    record(ROW, fault, "typed error after", time.monotonic() - since, 0.2)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed"))
    assert error[Atom("context")][Atom("signal_name")] == b"SIGKILL"
    record(ROW, fault, "replaced after", await_replaced(unruly, {worker}, 1, since, 1.0), 1.0)
    record_gone(ROW, f"{fault}, with a grandchild in a session of its own", family, since)
    answered = answers_to(unruly, other) or [unruly.answer(other)[0]]  # on a busy machine it was the first
    assert answered == ["ok"], "the other worker's request is unharmed"
    unruly.health()
    assert answers_to(unruly, number) == []


def await_running(pid: int) -> None:
    """Waits until a process has used a tenth of a second of processor time: it was asleep before."""

    def used() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    begun, deadline = used(), time.monotonic() + 20
    while used() < begun + os.sysconf("SC_CLK_TCK") // 10:
        assert time.monotonic() < deadline
        os.sched_yield()


def test_descriptors_and_threads_do_not_grow_over_many_deaths(unruly: NodeClient) -> None:
    unruly.wait_until_healthy()
    pids = (unruly.node_pid, forkserver_of(unruly))

    def held() -> list[int]:
        return [open_descriptors(pid) for pid in pids] + [len(os.listdir(f"/proc/{pid}/task")) for pid in pids]

    before, dead = held(), set[int]()
    for _ in range(int(os.environ.get("WORKER_DEATHS", "20")) // 2):
        victims = idle_workers(unruly)
        dead |= victims
        since = time.monotonic()
        for worker in victims:
            os.kill(worker, signal.SIGKILL)
        await_replaced(unruly, dead, 2, since, 1.0)
        assert unruly.ask("predict", prediction())[0] == "ok", "else workers that die without a job are waited for"
    record(ROW, f"{len(dead)} times", "descriptors and threads more", sum(held()) - sum(before), 0, unit="count")


def test_a_worker_holds_no_other_workers_descriptors(unruly: NodeClient) -> None:
    unruly.wait_until_healthy()

    def channels(pid: int) -> set[str]:
        links = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        return {link for link in links if link.startswith(("socket:", "pipe:", "anon_inode:[pidfd]"))}

    first, second = idle_workers(unruly)
    forkserver = forkserver_of(unruly)
    assert not channels(first) & channels(second)
    assert not channels(first) & channels(forkserver)
    assert len(channels(first)) == 3, "its socket, and the pipes that take what it prints and its stacks"


def test_workers_start_with_the_signals_that_programs_expect(tmp_path: Path) -> None:
    """A host that ignores and blocks whatever it likes, as the BEAM ignores SIGCHLD."""
    client = NodeClient(
        "--workers",
        "1",
        "--spare-workers",
        "0",
        data=tmp_path,
        launcher=("sh", "-c", 'trap "" CHLD PIPE USR2; exec "$@"', "sh"),
    )
    client.ready()
    client.wait_until_healthy()
    (worker,) = idle_workers(client)
    for pid in (worker, forkserver_of(client)):
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        ignored = int(status["SigIgn"], 16)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
            assert not ignored & 1 << number - 1
        assert int(status["SigBlk"], 16) == 0
    client.close()


def test_a_stopped_forkserver_delays_no_kill_and_is_woken_when_it_is_needed(unruly: NodeClient) -> None:
    unruly.wait_until_healthy()
    number = unruly.request("optimize_signature", slow_job(30))
    worker = busy_worker(unruly, number)
    forkserver = forkserver_of(unruly)
    os.kill(forkserver, signal.SIGSTOP)
    since = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    _, error = unruly.answer(number)
    record(ROW, "under a stopped forkserver", "typed error after", time.monotonic() - since, 0.4)
    assert error[Atom("context")][Atom("reason")] == Atom("forkserver")
    replaced_s = await_replaced(unruly, {worker}, 2, since, 2.5)
    record(ROW, "under a stopped forkserver", "replaced after", replaced_s, 2.5)
    assert forkserver_of(unruly) == forkserver, "it was continued, and its other worker lives"


def test_a_forkserver_that_is_killed_loses_its_jobs_in_time_and_is_replaced(unruly: NodeClient) -> None:
    unruly.wait_until_healthy()
    row = "kill -9 the forkserver"
    jobs = [unruly.request("optimize_signature", slow_job(30)) for _ in range(2)]
    while not all(worker_of(unruly, number) for number in jobs):
        pass
    families = set().union(*(family_of(worker_of(unruly, number) or 0) for number in jobs))
    unruly.tree |= families
    forkserver = forkserver_of(unruly)
    since = time.monotonic()
    os.kill(forkserver, signal.SIGKILL)
    for _ in jobs:
        tag, number, error = unruly.until(lambda term: str(term[0]) in ("ok", "error"))
        assert number in jobs
        assert (str(tag), error[Atom("error_type")]) == ("error", Atom("process_crashed"))
        assert error[Atom("context")][Atom("reason")] == Atom("forkserver")
    record(row, "two jobs run", "typed error after", time.monotonic() - since, 0.5)
    record_gone(row, "two jobs run", families | {forkserver}, since)
    assert unruly.ask("predict", prediction())[0] == "ok"
    record(row, "two jobs run", "a request served after", time.monotonic() - since, 20.0)


def test_a_forkserver_that_is_killed_while_stopped_leaves_nothing(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", PYTHONPATH=UNRULY)
    node.ready()
    node.wait_until_healthy()
    (worker,) = idle_workers(node)
    family, forkserver = family_of(worker), forkserver_of(node)
    os.kill(forkserver, signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    os.kill(forkserver, signal.SIGKILL)
    await_gone(family | {forkserver})
    assert node.ask("predict", prediction())[0] == "ok"
