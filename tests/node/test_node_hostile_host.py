"""Hosts that mean harm or have bad luck: ways in which a node once went down, fell silent or said too much."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient, NodeGone, await_gone, descendants
from tickets import OFFLINE, SIGNATURE, optimization, prediction, slow

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.wire.frames import FrameReader

STORED = {Atom("program"): b"program:" + b"a" * 64, Atom("input"): {}, Atom("config"): OFFLINE}


def error_of(answer: tuple[str, Any]) -> tuple[str, str]:
    tag, error = answer
    assert tag == "error", error
    return str(error[Atom("error_type")]), error[Atom("message")].decode()


@pytest.mark.parametrize("span", [2**31 + 100_000, 10**300, 10**400], ids=["25 days", "10**300", "10**400"])
def test_no_deadline_or_grace_is_too_long_for_the_node(start_node: Callable[..., NodeClient], span: int) -> None:
    node = start_node("--workers", "1")
    node.ready()
    tag, _ = answer = node.ask("predict", prediction(), {Atom("deadline_ms"): span})
    assert tag == "ok" or error_of(answer)[0] == "validation_error"
    job = node.request("predict", prediction(slow(300)))
    stop = node.request("shutdown", {Atom("grace_ms"): span})
    tag, _ = answer = node.answer(stop) if span > 10**20 else node.answer(job)
    assert tag == "ok" or error_of(answer)[0] == "validation_error"


@pytest.mark.parametrize("place", ["tolerance", "max_seconds", "max_cost_usd"])
def test_a_number_beyond_a_floats_range_is_refused_with_its_path(node: NodeClient, place: str) -> None:
    config: dict[Any, Any] = {**OFFLINE}
    if place == "tolerance":
        config[Atom("metric")] = {Atom("name"): Atom("numeric"), Atom("tolerance"): 10**400}
    else:
        config[Atom("budget")] = {Atom(place): 10**400}
    kind, message = error_of(node.ask("predict", prediction(config)))
    assert kind == "validation_error"
    assert place in message


def test_a_worker_that_dies_of_a_real_time_signal_is_a_typed_error(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    node.wait_until_healthy()
    number = node.request("predict", prediction(slow(60_000)))
    (worker,) = node.health()[Atom("workers")]
    os.kill(worker[Atom("os_pid")], signal.SIGRTMIN + 6)
    kind, message = error_of(node.answer(number))
    assert kind == "process_crashed"
    assert "signal 40" in message
    assert node.ask("predict", prediction())[0] == "ok"


def test_a_data_directory_that_is_no_text_does_not_spoil_the_error_that_names_it(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    client = NodeClient("--workers", "1", data=Path(odd))
    client.ready()
    assert error_of(client.ask("predict", STORED))[0] == "not_found"
    client.close()


@pytest.mark.parametrize("data", ["/dev/null", "/dev/full"])
def test_a_data_directory_that_is_none_is_no_fault_of_the_node(data: str) -> None:
    client = NodeClient("--workers", "1", "--credit", "1000", data=Path(data))
    client.ready()
    assert error_of(client.ask("predict", STORED))[0] == "not_found"
    assert client.ask("optimize_signature", optimization(optimizer=Atom("labeled_few_shot")))[0] == "ok"
    client.close()


@pytest.mark.parametrize("kind", ["pipe", "directory", "link"])
def test_what_stands_in_a_programs_place_but_is_no_file_is_not_read(
    start_node: Callable[..., NodeClient], tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "data" / "programs" / f"{'a' * 64}.etf"
    place.parent.mkdir(parents=True)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "directory":
            place.mkdir()
        case _:
            place.symlink_to("/etc/passwd")
    node = start_node("--workers", "1")
    node.ready()
    assert error_of(node.ask("predict", STORED))[0] == "not_found"
    assert node.ask("health_check", {})[0] == "ok"


def test_too_few_descriptors_for_all_workers_leave_a_node_that_serves_with_some(
    start_node: Callable[..., NodeClient],
) -> None:
    node = start_node("--workers", "8", "--spare-workers", "0")
    node.ready()
    resource.prlimit(node.node_pid, resource.RLIMIT_NOFILE, (30, 30))
    assert node.ask("predict", prediction())[0] == "ok"
    health = node.health()
    assert health[Atom("status")] == Atom("degraded")
    assert health[Atom("restarts")] > 0


def test_a_host_that_closes_without_reading_its_answers_ends_the_node(tmp_path: Path) -> None:
    client = NodeClient("--workers", "1", data=tmp_path)
    client.ready()
    client.wait_until_healthy()
    tree = client.note_tree()
    frame = term_to_binary((Atom("health_check"), b"x" * 1_000_000, {}))
    for _ in range(11):
        client.send_frame(frame)
    client.close_wire()  # our reading end stays open, and unread
    assert client.wait() == 0
    await_gone(tree)
    assert client.process.stdout is not None
    client.process.stdout.close()


def test_requests_right_behind_a_shutdown_are_answered(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    node.wait_until_healthy()
    requests = [
        ("shutdown", b"s", {}),
        ("health_check", b"h", {}),
        ("predict", b"p", prediction()),
        ("shutdown", b"t", {}),
    ]
    frames = [term_to_binary((Atom(verb), name, payload)) for verb, name, payload in requests]
    node.send_bytes(b"".join(len(frame).to_bytes(4) + frame for frame in frames))
    answers: dict[bytes, Any] = {}
    for _ in requests:
        term = node.until(lambda term: str(term[0]) in ("ok", "error"))
        assert term[1] not in answers
        answers[term[1]] = term
    assert node.wait() == 0
    assert {name: str(term[0]) for name, term in answers.items()} == {b"s": "ok", b"h": "ok", b"p": "error", b"t": "ok"}
    assert answers[b"p"][2][Atom("error_type")] == Atom("shutting_down")


def test_a_log_line_above_the_frame_limit_is_dropped_and_is_nobodys_answer(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    (tmp_path / "dspy").mkdir()
    (tmp_path / "dspy" / "__init__.py").write_text("print('x' * 6000)\nraise SystemExit('enough')\n")
    node = start_node("--workers", "1", "--max-frame-bytes", "4096", "--credit", "1000", PYTHONPATH=str(tmp_path))
    node.ready()
    with pytest.raises(NodeGone) as gone:
        node.until(lambda term: str(term[0]) == "error")
    assert gone.value.code == 3
    assert all(len(event[2]) < 4096 for event in node.events if str(event[0]) == "log")


def test_a_closed_standard_error_changes_nothing(tmp_path: Path) -> None:
    frame = term_to_binary((Atom("shutdown"), 1, {}))
    ran = run_in_shell(
        f"exec {sys.executable} -m erlbridge serve --workers 1 --data {tmp_path} 2>&-",
        len(frame).to_bytes(4) + frame,
    )
    assert ran.returncode == 0
    reader = FrameReader()
    reader.feed(ran.stdout)
    assert [str(binary_to_term(frame)[0]) for frame in reader] == ["ready", "ok"]
    assert reader.pending_bytes == 0, "not a byte of anything else"


def run_in_shell(command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a node whose standard input gets the data and stays open until the node is gone."""
    read, write = os.pipe()
    os.write(write, data)
    try:
        return subprocess.run(["bash", "-c", command], stdin=read, stdout=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(read)
        os.close(write)


def test_a_hangup_drains_the_node_like_a_shutdown(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    job = node.request("optimize_signature", optimization())
    node.until(lambda term: str(term[0]) == "progress")
    node.process.send_signal(signal.SIGHUP)
    assert node.answer(job)[0] == "ok"
    assert node.wait() == 0


def test_optimizing_again_mends_a_damaged_program(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    node = start_node("--workers", "1")
    node.ready()
    job = optimization(optimizer=Atom("labeled_few_shot"))
    tag, result = node.ask("optimize_signature", job)
    assert tag == "ok"
    (stored,) = (tmp_path / "data" / "programs").glob("*.etf")
    stored.write_bytes(b"junk")
    tag, again = node.ask("optimize_signature", job)
    program = {key: value for key, value in prediction().items() if key != Atom("signature")}
    tag, _ = node.ask("predict", {**program, Atom("program"): again[Atom("program_id")]})
    assert tag == "ok"
    if again[Atom("program_id")] == result[Atom("program_id")]:
        assert stored.read_bytes() != b"junk"


def test_a_forkserver_killed_while_workers_boot_is_no_reason_to_give_up(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "4")
    node.ready()
    for _ in range(2):
        deadline = time.monotonic() + 30
        while not (children := descendants(node.node_pid)):
            assert time.monotonic() < deadline
        for child in children:
            os.kill(child, signal.SIGKILL)
        await_gone(children)
    assert node.ask("predict", prediction())[0] == "ok"


@pytest.mark.parametrize(
    "payload",
    [
        {b"k" * 5_000_000: 1},
        {b"%d" % number: number for number in range(300_000)},
        {**optimization(), Atom("signature"): b"a," * 5_000_000},
        {**optimization(), Atom("signature"): {Atom("input_fields"): [b"a"] * 500_000, Atom("output_fields"): [b"b"]}},
        {**prediction(), Atom("input"): {b"k" * 2_000_000: {b"j" * 2_000_000: 1}}},
    ],
    ids=["long key", "many keys", "long signature", "many fields", "nested keys"],
)
def test_what_is_refused_is_refused_in_few_words(node: NodeClient, payload: object) -> None:
    kind, message = error_of(node.ask("optimize_signature", payload))
    assert kind == "validation_error"
    assert len(message) < 2000


def test_an_enum_of_more_values_than_fit_a_prompt_is_refused(node: NodeClient) -> None:
    many = [b"v%d" % number for number in range(20_000)]
    signature = {**SIGNATURE, Atom("output_fields"): [{Atom("name"): Atom("category"), Atom("enum"): many}]}
    kind, message = error_of(node.ask("predict", {**prediction(), Atom("signature"): signature}))
    assert (kind, "at most 10000 values" in message) == ("validation_error", True)


def test_meta_may_hold_nil_and_what_the_host_likes(node: NodeClient) -> None:
    meta = {
        Atom("progress"): None,
        Atom("priority"): None,
        Atom("deadline_ms"): None,
        b"tenant": [1, 2],
        b"source": b"t",
    }
    assert node.ask("health_check", {}, meta)[0] == "ok"
