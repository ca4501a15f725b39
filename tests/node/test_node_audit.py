"""The audit log of a real node: one line for each request, no secret, and a chain that survives kills."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node_client import NodeClient
from tickets import optimization, prediction, slow

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.audit import digest
from erlbridge.tools.cli import main

KEY_OF_REQUEST, KEY_OF_PROCESS, PRIVATE = "sk-of-the-request-4711", "sk-of-the-process-4712", "patient-name-4713"


def records(data: Path) -> list[dict[str, Any]]:
    """Every line of a log, oldest first; it must be whole."""
    found = verified(data)
    assert found["ok"], found
    return [json.loads(line) for file in found["files"] for line in Path(file["path"]).read_text().splitlines()]


def requests(data: Path) -> list[dict[str, Any]]:
    return [record for record in records(data) if record["event"] == "request"]


def verified(data: Path, *arguments: str) -> dict[str, Any]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(["audit", "verify", "--data", str(data), "--json", *arguments])
    report = json.loads(said.getvalue())
    assert code == (0 if report["ok"] else 1)
    return dict(report)


def end(node: NodeClient) -> None:
    """Ends a node in an orderly way, so that all its lines are there."""
    node.note_tree()
    node.close_wire()
    node.wait()


def test_each_request_has_one_line_with_its_outcome_and_nothing_secret(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    node = start_node("--workers", "1", "--spare-workers", "0", "--max-queue", "1", OPENAI_API_KEY=KEY_OF_PROCESS)
    node.ready()
    node.wait_until_healthy()
    node.send((Atom("credit"), 1000))
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01".encode()
    meta = {Atom("source"): b"billing", Atom("version"): b"2.1", Atom("trace"): trace}
    assert node.ask("predict", prediction(), meta)[0] == "ok"
    assert node.ask("optimize_signature", optimization())[0] == "ok"
    refused = {Atom("lm"): {Atom("model"): b"openai/m", Atom("api_key"): KEY_OF_REQUEST.encode()}, b"wrong": 1}
    assert node.ask("predict", prediction(refused))[0] == "error"
    unreachable = {
        Atom("model"): b"openai/m",
        Atom("api_key"): KEY_OF_REQUEST.encode(),
        Atom("api_base"): b"http://127.0.0.1:9/v1",
    }
    assert node.ask("predict", prediction({Atom("lm"): unreachable}))[0] == "error"
    assert node.ask(PRIVATE, {})[0] == "error"
    node.send((Atom("list_programs"), PRIVATE.encode(), {}))
    assert node.answer(PRIVATE.encode())[0] == "ok"
    node.send_frame(b"no term " + PRIVATE.encode())
    assert node.answer(None)[0] == "error"
    node.send((PRIVATE.encode(), 77, {}))
    assert node.answer(77)[0] == "error"
    assert node.ask("cancel", {Atom("id"): PRIVATE.encode()})[0] == "error"
    running = node.request("predict", prediction(slow(60_000)), {Atom("deadline_ms"): 1500})
    waiting = node.request("predict", prediction())
    assert node.ask("predict", prediction())[0] == "error"
    node.send((Atom("health_check"), running, {}))
    assert node.answer(running)[1][Atom("error_type")] == Atom("duplicate_id")
    assert node.ask("cancel", {Atom("id"): waiting})[0] == "ok"
    assert node.answer(waiting)[0] == "error"
    assert node.answer(running)[1][Atom("error_type")] == Atom("timeout_error")
    assert node.ask("shutdown", {Atom("mode"): Atom("now")})[0] == "ok"
    assert node.wait() == 0

    told = [(record.get("verb"), record["outcome"]) for record in requests(data)]
    assert told == [
        ("predict", "ok"),
        ("optimize_signature", "ok"),
        ("predict", "validation_error"),
        ("predict", "lm_error"),
        (None, "unknown_verb"),
        ("list_programs", "ok"),
        (None, "serialization_error"),
        (None, "validation_error"),
        ("cancel", "not_found"),
        ("predict", "overloaded"),
        ("health_check", "duplicate_id"),
        ("cancel", "ok"),
        ("predict", "cancelled"),
        ("predict", "timeout_error"),
        ("shutdown", "ok"),
    ]
    first, optimized, *_ = requests(data)
    assert (first["source"], first["version"], first["trace_id"]) == ("billing", "2.1", "ab" * 16)
    frame = term_to_binary((Atom("predict"), first["id"], prediction(), meta))
    assert (first["request_bytes"], first["request_sha256"]) == (len(frame), digest(frame))
    assert (first["lm_calls"], first["cost_usd"], first["worker"]) == (1, 0.0, 1)
    assert 0 <= first["waited_ms"] <= first["duration_ms"] < 60_000
    assert optimized["lm_calls"] > 1
    assert optimized["program_id"].startswith("program:")
    events = [record["event"] for record in records(data)]
    assert (events[:2], events[-1]) == (["opened", "started"], "stopped")
    assert records(data)[-1]["exit_code"] == 0
    assert len({(record["os_pid"], record["start"]) for record in records(data)}) == 1
    content = (data / "audit" / "audit.jsonl").read_text()
    for secret in (KEY_OF_REQUEST, KEY_OF_PROCESS, PRIVATE, "support ticket", str(tmp_path)):
        assert secret not in content


def test_a_killed_worker_is_an_outcome_and_the_head_that_health_check_told_is_found(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    node = start_node("--workers", "1")
    node.ready()
    node.wait_until_healthy()
    number = node.request("optimize_signature", optimization(**{str(k): v for k, v in slow(60_000).items()}))
    node.until(lambda term: str(term[0]) == "progress" and term[1] == number)
    (busy,) = [worker for worker in node.health()[Atom("workers")] if worker[Atom("job")] is not None]
    os.kill(busy[Atom("os_pid")], signal.SIGKILL)
    tag, error = node.answer(number)
    assert tag == "error"
    while (state := node.health()[Atom("audit")])[Atom("sequence")] < 3:
        pass
    assert state[Atom("lost")] == 0
    head = state[Atom("head")].decode()
    end(node)
    (record,) = requests(data)
    worker = error[Atom("context")][Atom("worker")]  # the one that booted first, or its spare
    assert (record["outcome"], record["reason"], record["worker"]) == ("process_crashed", "signal", worker)
    assert verified(data, "--head", head)["heads"] == {head: 3}
    assert verified(data, "--head", "0" * 64)["ok"] is False


def test_requests_that_nobody_waits_for_any_more_are_unanswered(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    node = start_node("--workers", "1")
    node.ready()
    node.wait_until_healthy()
    for _ in range(2):
        node.request("predict", prediction(slow(60_000)))
    node.health()
    end(node)
    assert [record["outcome"] for record in requests(tmp_path / "data")] == ["unanswered", "unanswered"]


def test_what_time_alone_has_answered_has_its_line_before_the_node_sleeps(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--sample-interval-s", "60")
    node.ready()
    (worker,) = node.wait_until_healthy()[Atom("workers")]
    os.kill(worker[Atom("os_pid")], signal.SIGSTOP)  # nothing that it does wakes the node
    node.request("predict", prediction())
    long_id = bytes(70_000)  # no answer waits behind this one for the loop's next turn to write it
    node.send((Atom("predict"), long_id, prediction(), {Atom("deadline_ms"): 300}))
    assert node.answer(long_id)[0] == "error"
    wait_until_by = time.monotonic() + 30
    while b'"outcome":"timeout_error"' not in (tmp_path / "data" / "audit" / "audit.jsonl").read_bytes():
        assert time.monotonic() < wait_until_by


def test_a_lost_framing_is_the_last_outcome(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    node = start_node("--workers", "1")
    node.ready()
    node.send_bytes(b"\xff\xff\xff\xff")
    assert node.answer(None)[0] == "error"
    assert node.wait() == 4
    *_, request, stopped = records(tmp_path / "data")
    assert (request["outcome"], request["request_bytes"], stopped["exit_code"]) == ("frame_error", 0, 4)


def test_the_chain_goes_on_behind_a_node_that_was_killed_in_midstream(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for count in (1, 2, 3):
        node = start_node("--workers", "1", "--audit-max-bytes", "8192")
        node.ready()
        while len(list((data / "audit").glob("*.jsonl"))) <= count:
            node.ask("list_programs", {})
        for _ in range(200):
            node.request("list_programs", {})
        node.receive()
        node.note_tree()
        os.kill(node.node_pid, signal.SIGKILL)
        node.wait()
    node = start_node("--workers", "1")
    node.ready()
    end(node)
    told = records(data)
    assert [record["event"] for record in told if record["event"] in ("started", "stopped")] == [
        *["started"] * 4,
        "stopped",
    ]
    assert [record["sequence"] for record in told] == list(range(1, len(told) + 1))


def test_two_nodes_on_one_directory_keep_a_chain_each(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    nodes = [start_node("--workers", "1", "--spare-workers", "0") for _ in range(2)]
    for node in nodes:
        node.ready()
    for node in nodes:
        assert node.ask("list_programs", {})[0] == "ok"
    for node in nodes:
        end(node)
    found = verified(tmp_path / "data")
    assert sorted(Path(file["path"]).name for file in found["files"]) == ["audit-2.jsonl", "audit.jsonl"]
    assert len(requests(tmp_path / "data")) == 2


def test_a_full_disk_costs_lines_and_no_answer_and_the_host_hears_of_it_once(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    node = start_node("--workers", "1")
    node.ready()
    node.wait_until_healthy()
    node.send((Atom("credit"), 1000))
    assert node.ask("list_programs", {})[0] == "ok"
    while node.health()[Atom("audit")][Atom("sequence")] < 3:
        pass
    _, most = resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE)
    size = (data / "audit" / "audit.jsonl").stat().st_size
    resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE, (size + 100, most))
    for _ in range(10):
        assert node.ask("list_programs", {})[0] == "ok"
    while node.health()[Atom("audit")][Atom("lost")] < 10:
        pass
    assert node.ask("predict", prediction())[0] == "ok"
    resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE, (most, most))
    while node.health()[Atom("audit")][Atom("sequence")] < 4:
        pass
    assert node.ask("list_programs", {})[0] == "ok"
    end(node)
    lost = [record["count"] for record in records(data) if record["event"] == "lost"]
    assert lost == [11]
    assert [record["verb"] for record in requests(data)] == ["list_programs", "list_programs"]
    warnings = [event[2] for event in node.events if str(event[0]) == "log" and b"audit log" in event[2]]
    assert [warning[:31] for warning in warnings] == [
        b"the audit log cannot be written",
        b"the audit log is written again;",
    ]


def test_a_node_without_a_log_writes_none(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    node = start_node("--workers", "1", "--audit", "false")
    node.ready()
    assert node.ask("list_programs", {})[0] == "ok"
    assert node.health()[Atom("audit")] is None
    end(node)
    assert not (tmp_path / "data" / "audit").exists()


def test_a_changed_line_is_named_with_its_file(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    data = tmp_path / "data"
    node = start_node("--workers", "1")
    node.ready()
    for _ in range(3):
        node.ask("list_programs", {})
    end(node)
    path = data / "audit" / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"outcome":"ok"', b'"outcome":"no"'), *lines[4:]]))
    command = [sys.executable, "-m", "erlbridge", "audit", "verify", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "audit.jsonl: 6 lines, 1 to 6, " in ran.stdout
    assert "BROKEN, line 4: changed: it is not as it was written" in ran.stdout


def test_where_there_is_no_log_the_check_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "erlbridge", "audit", "verify"]
    (tmp_path / "empty").mkdir()
    for arguments in ([str(tmp_path / "nowhere")], [str(tmp_path / "empty")], ["--data", str(tmp_path)]):
        ran = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stderr) == (1, "")
        assert "BROKEN" in ran.stdout
