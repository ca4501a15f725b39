"""Transfers and datasets of a real node: sent, gone on with after a kill, learned from, given back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from streams import chunks, framed, name_of, rows
from tickets import KNOWN, OFFLINE, TICKETS, optimization

from erlbridge.codec import Atom, binary_to_term
from erlbridge.wire.frames import FrameReader

TRANSFER, DATASET, STATUS, CONTEXT, REASON = (
    Atom(name) for name in ("transfer", "dataset", "status", "context", "reason")
)
NEXT = Atom("next_index")


def send(node: NodeClient, payloads: list[dict[Any, Any]]) -> list[tuple[str, Any]]:
    """Sends chunks without waiting between them; gives what each was answered."""
    ids = [node.request("data_chunk", payload) for payload in payloads]
    return [node.answer(number) for number in ids]


def send_dataset(node: NodeClient, examples: list[Any]) -> str:
    stream = framed(examples)
    *_, (tag, last) = send(node, chunks(name_of(stream), stream))
    assert (tag, last[DATASET]) == ("ok", name_of(stream).encode())
    return name_of(stream)


def ref(name: str) -> tuple[Atom, bytes]:
    return DATASET, name.encode()


def failed(answer: tuple[str, Any]) -> tuple[str, str | None, str]:
    tag, error = answer
    assert tag == "error", error
    reason = error[CONTEXT].get(REASON)
    return str(error[Atom("error_type")]), None if reason is None else str(reason), error[Atom("message")].decode()


@pytest.fixture(scope="module")
def ready(node: NodeClient) -> NodeClient:
    node.ready()
    node.send((Atom("credit"), 1_000_000))
    return node


def test_a_dataset_that_was_sent_is_learned_from_and_scored_on(ready: NodeClient) -> None:
    name = send_dataset(ready, TICKETS[:24])
    held_out = send_dataset(ready, TICKETS[64:70])
    inline = optimization(24, optimizer=Atom("labeled_few_shot"), seed=1)
    tag, expected = ready.ask("optimize_signature", inline)
    assert tag == "ok", expected
    tag, found = ready.ask("optimize_signature", {**inline, Atom("training_data"): ref(name)})
    assert tag == "ok", found
    assert found[Atom("program")][Atom("state")] == expected[Atom("program")][Atom("state")]
    assert found[Atom("program")][Atom("dataset")] == expected[Atom("program")][Atom("dataset")]
    given = {Atom("program"): found[Atom("program_id")], Atom("data"): ref(held_out), Atom("config"): OFFLINE}
    tag, scored = ready.ask("evaluate_pipeline", given)
    assert (tag, scored[Atom("count")]) == ("ok", 6)
    tag, validated = ready.ask(
        "optimize_signature", {**inline, Atom("training_data"): ref(name), Atom("validation_data"): ref(held_out)}
    )
    assert tag == "ok", validated


def test_a_dataset_that_is_not_there_is_not_found_before_anything_waits(ready: NodeClient) -> None:
    unknown = "sha256:" + "0" * 64
    payload = {**optimization(4), Atom("training_data"): ref(unknown)}
    kind, _, message = failed(ready.ask("optimize_signature", payload))
    assert kind == "not_found"
    assert unknown in message
    assert failed(ready.ask("get_dataset", {DATASET: unknown.encode()}))[0] == "not_found"
    tag, error = ready.ask("optimize_signature", {**payload, Atom("training_data"): (DATASET, b"../../etc/passwd")})
    assert (tag, error[CONTEXT][Atom("path")]) == ("error", b"payload.training_data")


def test_an_example_of_a_dataset_that_does_not_fit_is_named_by_its_place(ready: NodeClient) -> None:
    name = send_dataset(ready, [*KNOWN[:3], {Atom("subject"): b"no more"}])
    tag, error = ready.ask("optimize_signature", {**optimization(4), Atom("training_data"): ref(name)})
    assert (tag, error[CONTEXT][Atom("path")]) == ("error", b"payload.training_data[3]")


def test_the_stream_of_a_dataset_comes_back_part_by_part(ready: NodeClient) -> None:
    examples = list(rows(1500, size=900))
    stream = framed(examples)
    name = send_dataset(ready, examples)
    parts = []
    while True:
        wanted = {DATASET: name.encode(), Atom("offset"): sum(map(len, parts)), Atom("limit"): 500_000}
        tag, part = ready.ask("get_dataset", wanted)
        assert (tag, part[Atom("examples")], part[Atom("bytes")]) == ("ok", 1500, len(stream))
        parts.append(part[Atom("data")])
        if part[Atom("is_final")]:
            break
    assert b"".join(parts) == stream
    tag, nothing = ready.ask("get_dataset", {DATASET: name.encode(), Atom("limit"): 0})
    assert (tag, nothing[Atom("data")]) == ("ok", b"")


def test_a_gap_says_where_to_go_on_and_a_replay_is_acknowledged(ready: NodeClient) -> None:
    stream = framed(rows(200))
    payloads = chunks("gappy", stream, chunk_bytes=1000)
    answers = send(ready, [*payloads[:3], payloads[4], payloads[1]])
    assert [tag for tag, _ in answers] == ["ok", "ok", "ok", "error", "ok"]
    assert answers[3][1][CONTEXT] == {REASON: Atom("gap"), NEXT: 3}
    assert answers[4][1][NEXT] == 3
    *_, (tag, last) = send(ready, payloads[3:])
    assert (tag, last[DATASET]) == ("ok", name_of(stream).encode())
    tag, again = ready.ask("data_chunk", payloads[-1])
    assert (tag, again[STATUS], again[DATASET]) == ("ok", Atom("finished"), name_of(stream).encode())
    assert ready.ask("transfer_status", {TRANSFER: b"gappy"})[1][STATUS] == Atom("finished")
    assert ready.ask("transfer_status", {TRANSFER: b"unheard of"})[1] == {
        STATUS: Atom("not_found"),
        TRANSFER: b"unheard of",
        NEXT: 0,
        Atom("received_bytes"): 0,
        DATASET: None,
    }


def test_a_cancelled_transfer_takes_no_further_chunk(ready: NodeClient) -> None:
    payloads = chunks("unwanted", framed(rows(200)), chunk_bytes=1000)
    send(ready, payloads[:2])
    tag, told = ready.ask("cancel_transfer", {TRANSFER: b"unwanted"})
    assert (tag, told[STATUS], told[NEXT]) == ("ok", Atom("not_found"), 0)
    assert failed(ready.ask("data_chunk", payloads[2]))[0] == "cancelled"
    assert [tag for tag, _ in send(ready, payloads)] == ["ok"] * len(payloads)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({Atom("chunk_index"): -1}, "payload.chunk_index"),
        ({Atom("data"): b"x" * (2**20 + 1)}, "payload.data"),
        ({Atom("data"): [1, 2]}, "payload.data"),
        ({Atom("compression"): Atom("gzip")}, "payload.compression"),
        ({TRANSFER: b""}, "payload.transfer"),
        ({TRANSFER: b"n" * 257}, "payload.transfer"),
        ({Atom("is_final"): True}, "payload"),
        ({Atom("is_final"): True, Atom("sha256"): b"A" * 64}, "payload.sha256"),
        ({Atom("sha256"): b"0" * 64}, "payload.sha256"),
        ({Atom("data"): b""}, "payload.data"),
    ],
    ids=str,
)
def test_a_chunk_that_is_none_is_refused_with_its_path(ready: NodeClient, changed: dict[Any, Any], path: str) -> None:
    first = chunks("refused", framed(rows(200)), chunk_bytes=1000)[0]
    tag, error = ready.ask("data_chunk", {**first, **changed})
    assert (tag, str(error[Atom("error_type")])) == ("error", "validation_error")
    assert error[CONTEXT][Atom("path")].decode() == path


def test_a_name_cannot_leave_the_directory(start_node: Callable[..., NodeClient], tmp_path: Path) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    stream = framed(rows(3))
    *_, (tag, _) = send(node, chunks("../../../evil\0name", stream, chunk_bytes=50))
    assert tag == "ok"
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*evil*")}
    assert kept == set()
    (dataset,) = (tmp_path / "data" / "datasets").iterdir()
    assert (dataset / "stream").read_bytes() == stream


def test_a_transfer_goes_on_after_the_node_was_killed_in_the_middle_of_it(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    stream = framed(rows(3000, size=300))
    payloads = chunks("long", stream, chunk_bytes=20_000)
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    for payload in payloads:  # written, and not waited for
        node.request("data_chunk", payload)
    assert node.answer(5)[0] == "ok"
    node.note_tree()
    os.kill(node.node_pid, signal.SIGKILL)
    node.wait()

    again = start_node("--workers", "1", "--spare-workers", "0")
    again.ready()
    tag, told = again.ask("transfer_status", {TRANSFER: b"long"})
    assert (tag, told[NEXT] >= 5) == ("ok", True)
    *_, (tag, last) = send(again, payloads[min(told[NEXT], len(payloads) - 1) :])
    assert (tag, last[DATASET]) == ("ok", name_of(stream).encode())
    assert list((tmp_path / "data" / "transfers").glob("*.part")) == []


def test_two_nodes_of_one_directory_do_not_mix_a_transfer(
    start_node: Callable[..., NodeClient], ready: NodeClient
) -> None:
    payloads = chunks("shared", framed(rows(200)), chunk_bytes=1000)
    first = start_node("--workers", "1", "--spare-workers", "0")
    second = start_node("--workers", "1", "--spare-workers", "0")
    for node in (first, second):
        node.ready()
    assert send(first, payloads[:2])[1][0] == "ok"
    assert failed(second.ask("data_chunk", payloads[2]))[:2] == ("transfer_error", "busy")
    first.close()
    assert second.ask("transfer_status", {TRANSFER: b"shared"})[1][NEXT] == 2
    *_, (tag, _) = send(second, payloads[2:])
    assert tag == "ok"


def test_a_dataset_that_is_damaged_on_disk_is_set_aside_and_can_be_sent_again(
    start_node: Callable[..., NodeClient], tmp_path: Path
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    name = send_dataset(node, TICKETS[:8])
    stream = tmp_path / "data" / "datasets" / name[7:] / "stream"
    whole = stream.read_bytes()
    stream.write_bytes(whole.replace(b"a", b"b", 1))
    payload = {**optimization(4, optimizer=Atom("labeled_few_shot")), Atom("training_data"): ref(name)}
    assert failed(node.ask("optimize_signature", payload))[:2] == ("not_found", "damaged")
    assert failed(node.ask("optimize_signature", payload))[:2] == ("not_found", None)
    assert send_dataset(node, TICKETS[:8]) == name
    assert node.ask("optimize_signature", payload)[0] == "ok"


def test_an_answer_above_the_frame_limit_comes_in_chunks_under_credit(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--max-frame-bytes", "8192", "--credit", "2")
    node.ready()
    program = optimization(64, optimizer=Atom("labeled_few_shot"), max_labeled_demos=64)
    name = send_dataset(node, TICKETS[:64])
    number = node.request(
        "optimize_signature", {**program, Atom("training_data"): ref(name)}, {Atom("progress"): False}
    )
    tag, (kind, transfer, about) = node.answer(number)
    assert (tag, kind) == ("ok", TRANSFER)
    assert about[Atom("chunks")] > 3
    node.send((Atom("transfer_status"), number, {TRANSFER: b"any"}))
    assert failed(node.answer(number))[0] == "duplicate_id"
    node.health()
    got = [event[2] for event in node.events if str(event[0]) == "data_chunk"]
    assert len(got) <= 2, "no more than there is credit"
    node.send((Atom("credit"), about[Atom("chunks")] + 10))
    while not (got and got[-1][Atom("is_final")]):
        event = node.until(lambda term: str(term[0]) == "data_chunk")
        assert event[1] == number
        got.append(event[2])
    assert [chunk[Atom("chunk_index")] for chunk in got] == list(range(about[Atom("chunks")]))
    stream = b"".join(chunk[Atom("data")] for chunk in got)
    assert (len(stream), name_of(stream)) == (about[Atom("bytes")], transfer.decode())
    reader = FrameReader()
    reader.feed(stream)
    (term,) = [binary_to_term(frame) for frame in reader]
    assert len(term[Atom("program")][Atom("state")]) == 1


def retried(node: NodeClient, number: int) -> int:
    node.send((Atom("transfer_status"), number, {TRANSFER: b"any"}))
    return number


def test_the_rest_of_an_answer_that_nobody_wants_is_dropped(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--max-frame-bytes", "8192", "--credit", "0")
    node.ready()
    name = send_dataset(node, TICKETS[:64])
    program = optimization(64, optimizer=Atom("labeled_few_shot"), max_labeled_demos=64)
    number = node.request("optimize_signature", {**program, Atom("training_data"): ref(name)})
    assert node.answer(number)[1][0] == TRANSFER
    assert node.ask("cancel", {Atom("id"): number})[0] == "ok"
    assert failed(node.answer(number))[0] == "cancelled", "or who waits for the rest would wait for ever"
    assert failed(node.ask("cancel", {Atom("id"): number}))[0] == "not_found"
    node.send((Atom("credit"), 1000))
    node.health()
    assert [event for event in node.events if str(event[0]) == "data_chunk"] == []


def test_an_orderly_end_answers_chunks_and_sends_what_is_left_of_an_answer(
    start_node: Callable[..., NodeClient],
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0", "--max-frame-bytes", "8192", "--credit", "0")
    node.ready()
    stream = framed(TICKETS[:64])
    *_, (tag, _) = send(node, chunks("all", stream, chunk_bytes=4000))
    assert tag == "ok"
    program = optimization(64, optimizer=Atom("labeled_few_shot"), max_labeled_demos=64)
    number = node.request("optimize_signature", {**program, Atom("training_data"): ref(name_of(stream))})
    assert node.answer(number)[1][0] == TRANSFER
    ids = [node.request("data_chunk", payload) for payload in chunks("more", framed(rows(200)), chunk_bytes=1000)]
    stop = node.request("shutdown", {})
    for chunk in ids:
        assert node.answer(chunk)[0] == "ok"
    node.until(lambda term: str(term[0]) == "data_chunk" and term[2][Atom("is_final")])
    assert node.wait() == 0
    assert any(term[1] == stop for term in node.events)


def test_a_transfer_may_be_a_window_ahead_of_the_disk_and_memory_stays_flat(ready: NodeClient) -> None:
    stream = framed(rows(1000, size=1000)) * 64
    payloads = chunks("windowed", stream, compression="none")
    payloads[0][Atom("total_bytes")] = len(stream)
    grown_from = peak_bytes(ready.node_pid)
    window, sent, told = 16, [], {}
    for payload in payloads:
        if len(sent) >= window:
            tag, told = ready.answer(sent.pop(0))
            assert tag == "ok", told
            assert 1 <= told[Atom("window")] <= 16
        sent.append(ready.request("data_chunk", payload))
    for number in sent:
        tag, told = ready.answer(number)
    assert (tag, told[DATASET]) == ("ok", name_of(stream).encode())
    assert peak_bytes(ready.node_pid) - grown_from < 50e6


def peak_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
