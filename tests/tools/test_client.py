"""The host in Python against a real node: what comes back is what the BEAM would get."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tickets import TICKETS, optimization, slow

from erlbridge.codec import Atom
from erlbridge.errors import (
    BridgeError,
    CallbackFailed,
    Cancelled,
    DeadlineExceeded,
    LMFailed,
    NotFound,
    SerializationError,
    ValidationError,
)
from erlbridge.tools.client import Client, Event, NodeGone
from erlbridge.tools.wire_end import WireEnd
from erlbridge.wire.answers import named, parse_error
from erlbridge.wire.messages import error_map

ASKS = {Atom("signature"): b"subject, body -> category", Atom("input"): {b"subject": b"a", b"body": b"b"}}


@pytest.fixture(scope="module")
def heard() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, heard: list[Event]) -> Iterator[Client]:
    """One node with a small frame limit for the module."""
    arguments = ["--data", str(tmp_path_factory.mktemp("data")), "--workers", "1", "--spare-workers", "0"]
    with Client.start(*arguments, "--max-frame-bytes", "6000", on_event=heard.append) as started:
        yield started


def test_a_node_says_what_it_is(client: Client) -> None:
    assert client.info["protocol"] == 1
    assert named(client.ask("health_check", {}))["status"] is not None


def test_a_result_above_the_frame_limit_comes_whole_and_progress_before_it(client: Client, heard: list[Event]) -> None:
    heard.clear()
    result = named(client.ask("optimize_signature", optimization(optimizer=Atom("labeled_few_shot"))))
    assert str(result["program_id"], "ascii").startswith("program:")  # type: ignore[call-overload]
    assert len(named(result["optimized_signature"])["demos"]) == 16  # type: ignore[arg-type]
    assert "progress" in {str(event[0]) for event in heard}


def test_answers_are_kept_until_they_are_asked_for(client: Client) -> None:
    first, second = client.request("health_check", {}), client.request("list_programs", {})
    assert "programs" in named(client.answer(second))
    assert client.answered(first)
    assert named(client.answer(first))["status"] is not None


@pytest.mark.parametrize(
    ("verb", "payload", "meta", "kind"),
    [
        ("predict", {b"sgnature": 1}, {}, ValidationError),
        ("get_program", {b"program_id": b"program:" + b"0" * 64}, {}, NotFound),
        ("predict", {**ASKS, Atom("config"): {b"lm": (Atom("call"), b"mine")}}, {}, CallbackFailed),
        ("predict", {**ASKS, Atom("config"): slow(60_000)}, {"deadline_ms": 50}, DeadlineExceeded),
        ("predict", {b"signature": b"x" * 6000}, {}, SerializationError),
    ],
)
def test_errors_come_back_in_their_own_class(
    client: Client, verb: str, payload: object, meta: dict[str, object], kind: type[BridgeError]
) -> None:
    with pytest.raises(kind) as raised:
        client.ask(verb, payload, **meta)
    assert raised.value.error_type == kind.error_type


def test_a_request_is_cancelled(client: Client) -> None:
    number = client.request("predict", {**ASKS, Atom("config"): slow(60_000)})
    client.cancel(number)
    with pytest.raises(Cancelled):
        client.answer(number)


def test_an_error_is_the_same_on_both_ends_of_the_wire() -> None:
    sent: list[BridgeError] = [
        ValidationError("expected a map", "payload.config"),
        LMFailed("RateLimited: later", kind="rate_limit", transient=True, retry_after_ms=1500, traceback="…"),
        NotFound("no program is stored here", context={"program_id": b"program:0"}),
    ]
    for error in sent:
        came = parse_error(error_map(error))
        assert type(came) is type(error)
        assert (came.message, came.traceback, came.retry_after_ms) == (
            error.message,
            error.traceback,
            error.retry_after_ms,
        )
        assert (came.recovery_strategy, set(came.context)) == (error.recovery_strategy, set(error.context))


@pytest.mark.parametrize("term", [None, 5, {}, {Atom("error_type"): b"of_a_later_version"}, {b"context": 3}])
def test_whatever_a_node_calls_an_error_is_one(term: Any) -> None:
    assert isinstance(parse_error(term), BridgeError)


def test_a_node_that_is_killed_is_told_with_its_code(tmp_path: Path) -> None:
    client = Client.start("--data", str(tmp_path), "--workers", "1")
    number = client.request("predict", {**ASKS, Atom("config"): slow(60_000)})
    node = client.info["os_pid"]
    assert isinstance(node, int)
    os.kill(node, signal.SIGKILL)
    with pytest.raises(NodeGone) as gone:
        client.answer(number)
    assert gone.value.code == 137
    assert client.close() == 137


def test_wrong_settings_are_told_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NodeGone, match="exit code 2: wrong settings"):
        Client.start("--data", str(tmp_path), "--workers", "0")
    assert "--workers: expected a whole number" in capfd.readouterr().err


def test_more_is_sent_than_a_pipe_holds_while_answers_come(client: Client) -> None:
    """A host that only writes would stop a node that waits for somebody to read, and wait for it itself."""
    numbers = [client.request("predict", {**ASKS, b"wrong": TICKETS[:20]}) for _ in range(200)]
    for number in numbers:
        with pytest.raises(ValidationError):
            client.answer(number)


def test_a_host_with_more_descriptors_than_select_takes_has_a_client() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    ours, theirs = os.pipe(), os.pipe()
    try:
        incoming, outgoing = fcntl.fcntl(ours[0], fcntl.F_DUPFD, 2000), fcntl.fcntl(theirs[1], fcntl.F_DUPFD, 2000)
        wire = WireEnd(incoming, outgoing)
        wire.send(b"hello")
        assert os.read(theirs[0], 100) == b"\0\0\0\5hello"
        assert wire.receive(0.0) is None
        os.write(ours[1], b"\0\0\0\3yes")
        assert wire.receive(5.0) == b"yes"
        wire.close()
    finally:
        for descriptor in (*ours, *theirs):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
