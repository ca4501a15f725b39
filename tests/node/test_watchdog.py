"""Workers that eat memory or time, or do nothing at all: each is found out, ended with the reason, and harms nobody."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from measures import record
from node_client import NodeClient
from tickets import prediction, slow

from erlbridge.codec import Atom

SABOTEUR = str(Path(__file__).parent / "saboteur")
MIB = 2**20
LIMIT = 400 * MIB
Start = Callable[..., NodeClient]


@pytest.fixture
def start(start_node: Start) -> Start:
    """Starts a node whose workers do the damage that a request asks for, and waits until they are there."""

    def ready(*arguments: str) -> NodeClient:
        node = start_node(*arguments, PYTHONPATH=SABOTEUR)
        node.ready()
        node.wait_until_healthy()
        return node

    return ready


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


@pytest.mark.parametrize("deed", ["leak", "gobble"])
def test_a_worker_that_eats_memory_is_killed_at_its_limit_and_nobody_else_notices(start: Start, deed: str) -> None:
    node = start("--workers", "2", "--worker-hard-bytes", str(LIMIT), "--worker-soft-bytes", "0")
    other = node.request("predict", prediction(slow(600)))
    with peaks(worker_pids(node)) as peak:
        eater = node.request("predict", sabotage(deed))
        answers = {}
        while len(answers) < 2:
            term = node.until(lambda term: str(term[0]) in ("ok", "error"))
            answers[term[1]] = (str(term[0]), term[2])
    context = crash_of(answers[eater])
    assert context["reason"] == Atom("memory_limit")
    assert context["limit"] == LIMIT < context["rss_bytes"]
    fault = {"leak": "worker leaks 50 MB/s", "gobble": "1.5 GB in one C call"}[deed]
    record("memory", fault, "peak of resident memory over its limit", max(peak.values()) / LIMIT, 1.2)
    assert answers[other][0] == "ok"
    assert node.wait_until_healthy()[Atom("restarts")] == 1


def test_three_gigabytes_in_one_call_of_c_fail_before_they_are_taken(start: Start) -> None:
    node = start("--workers", "1", "--worker-hard-bytes", str(LIMIT))
    with peaks(worker_pids(node)) as peak:
        tag, error = node.ask("predict", sabotage("gulp"))
    assert tag == "error"
    assert b"MemoryError" in error[Atom("traceback")]
    record("memory", "3 GB in one C call", "peak of resident memory over its limit", max(peak.values()) / LIMIT, 1.2)
    assert node.ask("predict", prediction())[0] == "ok"
    assert node.health()[Atom("restarts")] == 0


def test_a_fat_worker_does_its_job_and_is_replaced_after_it(start: Start) -> None:
    node = start("--workers", "1", "--worker-soft-bytes", str(250 * MIB))
    (before,) = worker_pids(node)
    assert node.ask("predict", sabotage("fatten"))[0] == "ok"
    assert node.ask("predict", prediction())[0] == "ok"
    assert worker_pids(node) != [before]
    lines = [event[2] for event in node.events if str(event[0]) == "log"]
    assert any(b"is replaced after its job" in line and b"worker_soft_bytes" in line for line in lines), lines
    (told,) = [event for event in node.events if str(event[0]) == "telemetry" and event[1][-1] == Atom("limit")]
    assert told[2][Atom("rss_bytes")] > told[2][Atom("limit")] == 250 * MIB


def test_the_fattest_worker_goes_when_all_together_have_too_much(start: Start) -> None:
    node = start("--workers", "2", "--workers-total-bytes", str(350 * MIB), "--worker-soft-bytes", "0")
    other = node.request("predict", prediction(slow(1000)))
    context = crash_of(node.ask("predict", sabotage("fatten")))
    assert context["reason"] == Atom("total_memory_limit")
    assert context["total_bytes"] > context["limit"] == 350 * MIB
    assert node.answer(other)[0] == "ok"


def test_a_worker_that_computes_for_too_long_is_killed(start: Start) -> None:
    node = start("--workers", "1", "--cpu-limit-percent", "30", "--cpu-limit-s", "1")
    context = crash_of(node.ask("predict", sabotage("spin")))
    assert context["reason"] == Atom("cpu_limit")
    assert context["cpu_percent"] > context["limit"] == 30


@pytest.mark.parametrize(("deed", "place"), [("sleep", b"in sleep"), ("hang", b"in hang")])
def test_a_job_that_stalls_is_ended_with_its_stack(start: Start, deed: str, place: bytes) -> None:
    node = start("--workers", "1", "--stall-s", "1")
    asked_at = time.monotonic()
    context = crash_of(node.ask("predict", sabotage(deed)))
    assert time.monotonic() - asked_at < 3
    assert context["reason"] == Atom("stalled")
    assert place in context["stack"]


@pytest.mark.parametrize(("deed", "place"), [("hang", b"in hang"), ("count", b"in count"), ("sleep", b"in sleep")])
def test_a_deadline_is_answered_in_time_with_the_stack_of_what_hangs(start: Start, deed: str, place: bytes) -> None:
    node = start("--workers", "1")
    asked_at = time.monotonic()
    tag, error = node.ask("predict", sabotage(deed), {Atom("deadline_ms"): 700})
    late_s = time.monotonic() - asked_at - 0.7
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    assert place in error[Atom("context")][Atom("stack")]
    record("deadline", f"worker does {deed}", "seconds off the deadline", abs(late_s), 0.25)


def test_a_crash_tells_its_stack(start: Start) -> None:
    node = start("--workers", "1")
    context = crash_of(node.ask("predict", sabotage("crash")))
    assert context["signal_name"] == b"SIGSEGV"
    assert b"in crash" in context["stack"]


def test_samples_of_workers_and_node_go_to_the_host(start_node: Start) -> None:
    node = start_node("--workers", "1", "--telemetry-interval-s", "0.2")
    node.ready()
    worker = node.until(lambda term: str(term[0]) == "telemetry" and term[1][-1] == Atom("worker"))
    assert worker[1] == [Atom("pipeline"), Atom("dspy"), Atom("worker")]
    assert worker[2][Atom("rss_bytes")] <= worker[2][Atom("peak_rss_bytes")]
    assert set(worker[3]) == {Atom("worker"), Atom("state"), Atom("os_pid")}
    sample = node.until(lambda term: str(term[0]) == "telemetry" and term[1][-1] == Atom("node"))
    assert sample[2][Atom("descriptors")] > 5
    assert sample[2][Atom("disk_free_bytes")] > 0


def test_a_disk_that_fills_degrades_the_node_and_is_told_once(start_node: Start) -> None:
    node = start_node("--workers", "1", "--min-free-disk-bytes", "1TiB")
    node.ready()
    line = node.until(lambda term: str(term[0]) == "log" and b"less than" in term[2])
    assert str(line[1]) == "warning"
    health = node.health()
    assert health[Atom("status")] == Atom("degraded")
    assert b"data directory" in health[Atom("message")]
    assert node.ask("predict", prediction())[0] == "ok"


def test_a_worker_is_what_the_kernel_ends_first_and_leaves_no_core(start_node: Start) -> None:
    cpu = min(os.sched_getaffinity(0))
    node = start_node("--workers", "1", "--nice", "5", "--worker-cpus", str(cpu), "--threads-per-worker", "3")
    node.ready()
    node.wait_until_healthy()
    (pid,) = worker_pids(node)
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500
    assert int(Path(f"/proc/{node.process.pid}/oom_score_adj").read_text()) < 500
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert os.sched_getaffinity(pid) == {cpu}
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    data = next(line.split() for line in limits.splitlines() if line.startswith("Max data size"))
    assert int(data[3]) >= 4 * 2**30


def test_a_stopped_worker_gives_no_stack_and_its_deadline_is_still_met(start: Start) -> None:
    node = start("--workers", "1")
    (pid,) = worker_pids(node)
    number = node.request("predict", sabotage("sleep"), {Atom("deadline_ms"): 500})
    asked_at = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("timeout_error"))
    record("deadline", "worker is stopped", "seconds off the deadline", abs(time.monotonic() - asked_at - 0.5), 0.25)
