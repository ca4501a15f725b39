"""Workers that eat memory or time, or do nothing at all: each is found out, ended with the reason, and harms nobody."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from measures import LONG, record
from node_client import PATIENCE_S, NodeClient
from tickets import prediction, slow

from erlbridge.codec import Atom

SABOTEUR = str(Path(__file__).parent / "saboteur")
MIB = 2**20
LATE_S = 0.25 if LONG else 1.0  # many tests share the machine when they are not alone
LIMIT = 400 * MIB
Start = Callable[..., NodeClient]
LIMITS = {
    "workers": 2,
    "spare-workers": 0,
    "worker-soft-bytes": 300 * MIB,
    "worker-hard-bytes": LIMIT,
    "cpu-limit-percent": 60,  # taking memory is work too
    "cpu-limit-s": 1,
    "stall-s": 1,
}


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """A node that watches closely, and whose workers do the damage that a request asks for."""
    arguments = [text for name, value in LIMITS.items() for text in (f"--{name}", str(value))]
    client = NodeClient(*arguments, data=tmp_path_factory.mktemp("data"), environment={"PYTHONPATH": SABOTEUR})
    client.ready()
    yield client
    client.close()


@pytest.fixture
def node(arena: NodeClient) -> NodeClient:
    """The same with all its workers there, and with nothing left to hear of what was."""
    for worker in arena.health()[Atom("workers")]:
        if worker[Atom("state")] == Atom("cancelling"):  # it hangs, and would be given three seconds to stop
            os.kill(int(worker[Atom("os_pid")]), signal.SIGKILL)
    arena.wait_until_healthy()
    arena.send((Atom("credit"), 200))
    arena.events.clear()
    return arena


def sabotage(deed: str) -> dict[Any, Any]:
    """A prediction whose worker does this before it answers."""
    payload = prediction({Atom("lm"): Atom("offline"), Atom("cache"): False})
    payload[Atom("input")] = {**payload[Atom("input")], Atom("subject"): f"sabotage: {deed}".encode()}
    return payload


def worker_pids(node: NodeClient) -> list[int]:
    return [int(worker[Atom("os_pid")]) for worker in node.health()[Atom("workers")]]


@contextmanager
def peaks(pids: list[int]) -> Iterator[dict[int, int]]:
    """The most resident memory that each process has had, as the kernel counts it until the process is gone."""
    found: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            for pid in pids:
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                    found[pid] = int(status.partition("VmHWM:")[2].split()[0]) * 1024
                except (OSError, IndexError):
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def crash_of(answer: tuple[str, Any]) -> dict[str, Any]:
    """The context of a `:process_crashed`."""
    tag, error = answer
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed")), error
    return {str(key): value for key, value in error[Atom("context")].items()}


def both(node: NodeClient, *payloads: dict[Any, Any]) -> list[tuple[str, Any]]:
    """The answers to predictions that run at once."""
    numbers = [node.request("predict", payload) for payload in payloads]
    answers = {}
    while len(answers) < len(numbers):
        tag, number, term = node.until(lambda term: str(term[0]) in ("ok", "error"))
        answers[number] = (str(tag), term)
    return [answers[number] for number in numbers]


@pytest.mark.parametrize("deed", ["leak", "gobble"])
def test_a_worker_that_eats_memory_is_killed_at_its_limit_and_nobody_else_notices(node: NodeClient, deed: str) -> None:
    restarts = node.health()[Atom("restarts")]
    with peaks(worker_pids(node)) as peak:
        other, eater = both(node, prediction(slow(600)), sabotage(deed))
    context = crash_of(eater)
    assert context["reason"] == Atom("memory_limit")
    assert context["limit"] == LIMIT < context["rss_bytes"]
    fault = {"leak": "worker leaks 50 MB/s", "gobble": "1.5 GB in one C call"}[deed]
    record(
        "a worker's memory",
        fault,
        "peak of resident memory over its limit",
        max(peak.values()) / LIMIT,
        1.2,
        unit="times",
    )
    assert other[0] == "ok"
    assert node.wait_until_healthy()[Atom("restarts")] == restarts + 1


def test_three_gigabytes_in_one_call_of_c_fail_before_they_are_taken(node: NodeClient) -> None:
    pids = worker_pids(node)
    with peaks(pids) as peak:
        tag, error = node.ask("predict", sabotage("gulp"))
    assert tag == "error"
    assert b"MemoryError" in error[Atom("traceback")]
    record(
        "a worker's memory",
        "3 GB in one C call",
        "peak of resident memory over its limit",
        max(peak.values()) / LIMIT,
        1.2,
        unit="times",
    )
    assert worker_pids(node) == pids


def test_a_fat_worker_does_its_job_and_is_replaced_after_it(node: NodeClient) -> None:
    before = worker_pids(node)
    assert node.ask("predict", sabotage("fatten"))[0] == "ok"
    assert node.ask("predict", prediction())[0] == "ok"
    deadline = time.monotonic() + PATIENCE_S
    while True:  # the next look may come after the job
        after = node.wait_until_healthy()[Atom("workers")]
        if set(before) - {worker[Atom("os_pid")] for worker in after}:
            break
        assert time.monotonic() < deadline
    assert len({worker[Atom("os_pid")] for worker in after} - set(before)) == 1
    lines = [event[2] for event in node.events if str(event[0]) == "log"]
    assert any(b"is replaced when its job is done" in line for line in lines), lines
    (told,) = [event for event in node.events if str(event[0]) == "telemetry" and event[1][-1] == Atom("limit")]
    assert told[2][Atom("rss_bytes")] > told[2][Atom("limit")] == LIMITS["worker-soft-bytes"]
    assert told[3][Atom("mode")] == Atom("soft")


def test_a_worker_that_computes_for_too_long_is_killed(node: NodeClient) -> None:
    context = crash_of(node.ask("predict", sabotage("spin")))
    assert context["reason"] == Atom("cpu_limit")
    assert context["cpu_percent"] > context["limit"] == LIMITS["cpu-limit-percent"]


@pytest.mark.parametrize(("deed", "place"), [("sleep", b"in sleep"), ("hang", b"in hang")])
def test_a_job_that_stalls_is_ended_with_its_stack(node: NodeClient, deed: str, place: bytes) -> None:
    asked_at = time.monotonic()
    context = crash_of(node.ask("predict", sabotage(deed)))
    assert time.monotonic() - asked_at < 3
    assert context["reason"] == Atom("stalled")
    assert place in context["stack"]


@pytest.mark.parametrize(("deed", "place"), [("hang", b"in hang"), ("count", b"in count"), ("sleep", b"in sleep")])
def test_a_deadline_is_answered_in_time_with_the_stack_of_what_hangs(node: NodeClient, deed: str, place: bytes) -> None:
    asked_at = time.monotonic()
    tag, error = node.ask("predict", sabotage(deed), {Atom("deadline_ms"): 500})
    late_s = time.monotonic() - asked_at - 0.5
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    assert place in error[Atom("context")][Atom("stack")]
    record("a worker hangs past its deadline", f"worker does {deed}", "answered beside it", abs(late_s), LATE_S)


def test_a_stopped_worker_gives_no_stack_and_its_deadline_is_still_met(node: NodeClient) -> None:
    pids = worker_pids(node)
    number = node.request("predict", prediction(slow(400)), {Atom("deadline_ms"): 500})
    asked_at = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    tag, error = node.answer(number)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    assert Atom("stack") not in error[Atom("context")]
    record(
        "a worker hangs past its deadline",
        "worker is stopped",
        "answered beside it",
        abs(time.monotonic() - asked_at - 0.5),
        LATE_S,
    )


def test_a_crash_tells_its_stack(node: NodeClient) -> None:
    context = crash_of(node.ask("predict", sabotage("crash")))
    assert context["signal_name"] == b"SIGSEGV"
    assert b"in crash" in context["stack"]
    assert any(b"Segmentation fault" in event[2] for event in node.events if str(event[0]) == "log")


def test_the_fattest_worker_goes_when_all_together_have_too_much(start_node: Start) -> None:
    arguments = ("--workers", "2", "--spare-workers", "0", "--workers-total-bytes", str(350 * MIB))
    node = start_node(*arguments, "--telemetry-interval-s", "0.2", PYTHONPATH=SABOTEUR)
    node.ready()
    node.wait_until_healthy()
    other, eater = both(node, prediction(slow(600)), sabotage("fatten"))
    context = crash_of(eater)
    assert context["reason"] == Atom("total_memory_limit")
    assert context["total_bytes"] > context["limit"] == 350 * MIB
    assert other[0] == "ok"
    samples = {str(event[1][-1]): event for event in node.events if str(event[0]) == "telemetry"}
    _, name, usage, metadata = samples["worker"]
    assert name == [Atom("pipeline"), Atom("dspy"), Atom("worker")]
    assert usage[Atom("rss_bytes")] <= usage[Atom("peak_rss_bytes")]
    assert set(metadata) == {Atom("worker"), Atom("state"), Atom("os_pid")}
    assert samples["node"][2][Atom("descriptors")] > 5


def test_what_workers_are_given_and_a_disk_that_is_nearly_full(start_node: Start, tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    share = ("--nice", "5", "--worker-cpus", str(cpu), "--threads-per-worker", "3")
    node = start_node("--workers", "1", *share, "--min-free-disk-bytes", "1TiB")
    node.ready()
    few = shutil.disk_usage(tmp_path).free < 2**40
    if few:
        line = node.until(lambda term: str(term[0]) == "log" and b"less than" in term[2])
        assert str(line[1]) == "warning"
    assert node.ask("predict", prediction())[0] == "ok"
    health = node.health()
    if few:
        assert health[Atom("status")] == Atom("degraded")
        assert b"data directory" in health[Atom("message")]
    worker = next(worker for worker in health[Atom("workers")] if worker[Atom("jobs")])
    pid = int(worker[Atom("os_pid")])
    assert worker[Atom("rss_bytes")] > 2**20
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500
    assert int(Path(f"/proc/{health[Atom('node')][Atom('os_pid')]}/oom_score_adj").read_text()) < 500
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
    assert os.sched_getaffinity(pid) == {cpu}
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert re.search(r"Max data size +[1-9]\d{9} ", limits)
