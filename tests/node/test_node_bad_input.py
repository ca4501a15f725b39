"""Bad input: each gets one typed error with a path or offset, and the next request is served as if nothing had been."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_client import NodeClient, NodeGone
from tickets import LABELS, OFFLINE, SIGNATURE, TICKETS, optimization, prediction

from erlbridge.codec import Atom, BitString, ImproperList, TermMap, term_to_binary


def refused(node: NodeClient, verb: str, payload: object) -> tuple[str, str, str]:
    """The error's type, path and message."""
    tag, error = node.ask(verb, payload)
    assert tag == "error", error
    assert node.ask("health_check", {})[0] == "ok"
    path = error[Atom("context")].get(Atom("path"), b"")
    return str(error[Atom("error_type")]), path.decode(), error[Atom("message")].decode()


def with_changes(payload: dict[Any, Any], **changes: object) -> dict[Any, Any]:
    return {**payload, **{Atom(name): value for name, value in changes.items()}}


def without(payload: dict[Any, Any], name: str) -> dict[Any, Any]:
    return {key: value for key, value in payload.items() if key != Atom(name)}


JOB = optimization()
MISSING_LABEL = [without(TICKETS[0], "category"), *TICKETS[1:4]]


@pytest.mark.parametrize(
    ("verb", "payload", "path", "text"),
    [
        ("optimize_signature", [], "payload", "expected a map, got an empty list"),
        ("optimize_signature", without(JOB, "signature"), "payload", "expected one of `signature`, `pipeline` and"),
        ("optimize_signature", without(JOB, "training_data"), "payload", "expected the key `training_data`"),
        ("optimize_signature", without(JOB, "config"), "payload", "expected the key `config`"),
        ("optimize_signature", with_changes(JOB, trianing_data=[]), "payload", "did you mean `training_data`"),
        ("optimize_signature", with_changes(JOB, training_data=[]), "payload.training_data", "at least one example"),
        ("optimize_signature", with_changes(JOB, training_data={}), "payload.training_data", "a map of 0 entries"),
        (
            "optimize_signature",
            with_changes(JOB, training_data=MISSING_LABEL),
            "payload.training_data[0]",
            "`category`",
        ),
        (
            "optimize_signature",
            with_changes(JOB, training_data=[*TICKETS[:2], {**TICKETS[2], Atom("body"): 7}]),
            "payload.training_data[2].body",
            "got 7",
        ),
        (
            "optimize_signature",
            with_changes(JOB, training_data=[{**TICKETS[0], Atom("category"): b"unheard of"}]),
            "payload.training_data[0].category",
            "expected one of",
        ),
        ("optimize_signature", with_changes(JOB, signature=b"no arrow"), "payload.signature", "program_id"),
        (
            "optimize_signature",
            with_changes(JOB, signature={Atom("input_fields"): [b"a"]}),
            "payload.signature",
            "output",
        ),
        (
            "optimize_signature",
            optimization(optimizer=Atom("bootstrap_few_shots")),
            "payload.config.optimizer",
            "did you mean",
        ),
        ("optimize_signature", optimization(optimizer=7), "payload.config.optimizer", "got 7"),
        ("optimize_signature", optimization(max_demos=-1), "payload.config.max_demos", "at least 0, got -1"),
        ("optimize_signature", optimization(max_demos=b"4"), "payload.config.max_demos", "an integer"),
        (
            "optimize_signature",
            optimization(options={Atom("rounds"): 1}),
            "payload.config.options",
            "unknown key `rounds`",
        ),
        ("optimize_signature", optimization(lm=None), "payload.config.lm", "got nil"),
        ("optimize_signature", optimization(metric=b"accuracy"), "payload.config.metric", "exact_match"),
        ("evaluate_pipeline", {Atom("data"): TICKETS}, "payload", "expected one of `signature`, `pipeline` and"),
        ("predict", with_changes(prediction(), input=[]), "payload.input", "a map"),
        ("predict", with_changes(prediction(), input={}), "payload.input", "`subject`"),
        ("predict", without(prediction(), "input"), "payload", "either `input`, one map, or `inputs`"),
        (
            "predict",
            {**without(prediction(), "input"), Atom("inputs"): [prediction()[Atom("input")], b"x"]},
            "payload.inputs[1]",
            "a map",
        ),
        ("cancel", {}, "payload", "expected the key `id`"),
        ("shutdown", {Atom("mode"): Atom("later")}, "payload.mode", "one of drain, now"),
    ],
)
def test_a_wrong_payload_is_refused_with_its_path(
    node: NodeClient, verb: str, payload: object, path: str, text: str
) -> None:
    kind, found, message = refused(node, verb, payload)
    assert (kind, found) == ("validation_error", path), message
    assert text in message


def test_an_unknown_verb_names_the_known_ones(node: NodeClient) -> None:
    kind, _, message = refused(node, "optimise_signature", {})
    assert kind == "unknown_verb"
    assert "did you mean `optimize_signature`" in message


def test_a_program_id_cannot_leave_its_directory(node: NodeClient) -> None:
    for hostile in (b"../../etc/passwd", b"program:../../x", b"program:" + b"A" * 64, b"program:" + b"0" * 63):
        kind, path, _ = refused(node, "predict", {**without(prediction(), "signature"), Atom("program"): hostile})
        assert (kind, path) == ("validation_error", "payload.program")


def test_a_frame_that_is_no_term_spoils_only_itself(node: NodeClient) -> None:
    for frame, offset in ((b"", 0), (b"hello", 0), (b"\x83", 1), (b"\x83h\x03a", 4), (b"\x83\xff", 1)):
        node.send_frame(frame)
        tag, error = node.answer(None)
        assert (tag, error[Atom("error_type")]) == ("error", Atom("serialization_error")), frame
        assert error[Atom("context")][Atom("offset")] == offset, frame
        assert node.ask("health_check", {})[0] == "ok"


def test_a_term_that_is_no_request_is_answered_under_its_id_where_it_has_one(node: NodeClient) -> None:
    node.send((Atom("health_check"), b"my id"))
    assert node.answer(None)[1][Atom("context")] == {Atom("path"): b"request"}
    node.send((b"health_check", b"my id", {}))
    assert node.answer(b"my id")[1][Atom("context")] == {Atom("path"): b"verb"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=st.binary(max_size=60), damage=st.integers(0, 255), at=st.integers(0, 10_000))
def test_random_and_damaged_frames_never_take_the_node_down(
    node: NodeClient, frame: bytes, damage: int, at: int
) -> None:
    whole = bytearray(term_to_binary((Atom("optimise"), b"hurt", {Atom("a"): [1, 2.5, {b"k": (None, True)}]})))
    whole[at % len(whole)] = damage
    for hurt in (frame, b"\x83" + frame, bytes(whole)):
        node.send_frame(hurt)
    assert node.ask("health_check", {})[0] == "ok"


@pytest.mark.parametrize(
    "request_id",
    [
        0,
        1.0,
        -0.0,
        2**200,
        None,
        True,
        Atom("id"),
        b"id",
        [],
        [1, [2, b"x"]],
        (),
        {},
        {Atom("a"): {b"b": [1]}},
        TermMap([(1, b"int"), (1.0, b"float"), ([1], b"list")]),
        ImproperList([1], 2),
        BitString(b"\x80", 1),
    ],
    ids=repr,
)
def test_any_term_is_an_id_and_comes_back_as_it_was(node: NodeClient, request_id: object) -> None:
    node.send((Atom("health_check"), request_id, {}))
    node.send((Atom("nonsense"), request_id, {}))
    for wanted in ("ok", "error"):
        tag, found, _ = node.until(lambda term: str(term[0]) in ("ok", "error"))
        assert str(tag) == wanted
        assert term_to_binary(found) == term_to_binary(request_id)


def test_an_id_in_flight_is_refused_the_second_time(node: NodeClient) -> None:
    node.wait_until_healthy()
    node.send((Atom("optimize_signature"), b"twin", optimization()))
    node.send((Atom("predict"), b"twin", prediction()))
    node.send((Atom("health_check"), b"twin", {}))
    answers = [node.until(lambda term: str(term[0]) in ("ok", "error")) for _ in range(3)]
    assert [str(answer[0]) for answer in answers] == ["error", "error", "ok"]
    assert {answer[2][Atom("error_type")] for answer in answers[:2]} == {Atom("duplicate_id")}


def test_a_metric_that_raises_ends_the_job_with_its_traceback(node: NodeClient) -> None:
    kind, _, message = refused(node, "evaluate_pipeline", {
        Atom("signature"): SIGNATURE, Atom("data"): TICKETS[:6], Atom("metric"): Atom("numeric"),
        Atom("config"): {Atom("lm"): Atom("offline")},
    })  # fmt: skip
    assert kind == "dspy_optimization_error", message
    tag, error = node.ask("optimize_signature", optimization(metric=Atom("numeric")))
    assert (tag, error[Atom("error_type")]) == ("error", Atom("dspy_optimization_error"))
    assert b"Traceback" in error[Atom("traceback")]


def test_a_length_above_the_limit_is_refused_before_anything_is_allocated(
    start_node: Callable[..., NodeClient],
) -> None:
    node = start_node("--workers", "1", "--max-frame-bytes", "100000")
    node.ready()
    node.health()  # the node says that it is ready before all of it is loaded; this answer comes after
    before = rss_bytes(node.node_pid)
    node.send_bytes((2**31).to_bytes(4) + b"x" * 50_000)
    tag, request_id, error = node.receive()
    assert (tag, request_id) == (Atom("error"), None)
    assert error[Atom("error_type")] == Atom("frame_error")
    assert b"frame of 2147483648 bytes, limit 100000" in error[Atom("message")]
    grown = rss_bytes(node.node_pid) - before if node.process.poll() is None else 0
    assert grown < 2_000_000
    with pytest.raises(NodeGone) as gone:
        node.receive()
    assert gone.value.code == 4


def test_a_request_of_exactly_the_frame_limit_is_taken(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--max-frame-bytes", "100000")
    node.ready()
    empty = term_to_binary((Atom("health_check"), 1, b""))
    node.send_frame(term_to_binary((Atom("health_check"), 1, b"x" * (100_000 - len(empty)))))
    assert node.answer(1)[0] == "ok"


def test_a_result_above_the_frame_limit_is_announced_and_follows_in_chunks(
    start_node: Callable[..., NodeClient],
) -> None:
    node = start_node("--workers", "1", "--max-frame-bytes", "4096")
    node.ready()
    example = {Atom("subject"): b"s", Atom("body"): b"b", Atom("category"): LABELS[0]}
    payload = {Atom("signature"): SIGNATURE, Atom("data"): [example] * 50, Atom("config"): OFFLINE}
    assert len(term_to_binary(payload)) < 4000
    tag, (kind, _name, about) = node.ask("evaluate_pipeline", payload)
    assert (tag, kind) == ("ok", Atom("transfer"))
    last = node.until(lambda term: str(term[0]) == "data_chunk" and term[2][Atom("is_final")])
    assert last[2][Atom("chunk_index")] == about[Atom("chunks")] - 1


def test_an_id_that_leaves_no_room_for_an_answer_is_refused_without_it(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1", "--max-frame-bytes", "100000")
    node.ready()
    room = b"x" * (100_000 // 8 - 6)
    assert node.answer(node.send((Atom("health_check"), room, {})) or room)[0] == "ok"
    for too_long in (
        (Atom("health_check"), room + b"x", {}),
        (b"no request", room * 7, {}),
        (Atom("predict"), room * 7, {}),
    ):
        node.send(too_long)
        tag, error = node.answer(None)
        assert (tag, error[Atom("error_type")]) == ("error", Atom("validation_error"))
    assert node.ask("health_check", {})[0] == "ok"


def test_requests_cut_at_every_byte_are_served(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    frame = term_to_binary((Atom("health_check"), 5, {}))
    for byte in len(frame).to_bytes(4) + frame:
        node.send_bytes(bytes([byte]))
    assert node.answer(5)[0] == "ok"


def rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_health_is_answered_while_every_worker_is_busy(node: NodeClient) -> None:
    node.wait_until_healthy()
    jobs = [node.request("optimize_signature", optimization()) for _ in range(4)]
    health = node.health()
    states = [str(worker[Atom("state")]) for worker in health[Atom("workers")]]
    assert states.count("busy") == 2, "the spare waits"
    assert health[Atom("queue")][Atom("waiting")] == 2
    assert health[Atom("queue")][Atom("running")] == 2
    answered_at = time.monotonic()
    done = {node.until(lambda term: str(term[0]) == "ok")[1] for _ in jobs}
    assert done == set(jobs)
    assert time.monotonic() > answered_at
