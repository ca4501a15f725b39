"""A node looked at over HTTP, as a probe, a scraper, a browser and somebody hostile do it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from node_client import NodeClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from tickets import OFFLINE, SIGNATURE, TICKETS, optimization, prediction, slow

from erlbridge.codec import Atom

OURS = {"X-Erlbridge": "1", "Content-Type": "application/json"}
TOKEN = "a token that is long enough"
SECRET = "a-key-that-no-frame-names"


class Address:
    """Where a node listens."""

    def __init__(self, text: str) -> None:
        self.host, _, port = text.rpartition(":")
        self.port = int(port)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def state(self) -> Any:
        response, body = self.ask("/api/state")
        assert response.status == 200
        return json.loads(body)

    def until(self, seen: Callable[[Any], Any]) -> Any:
        """What is seen in the state, once it is."""
        end = time.monotonic() + 30
        while not (found := seen(state := self.state())):
            assert time.monotonic() < end, state
            time.sleep(0.02)
        return found

    def raw(self, data: bytes) -> socket.socket:
        found = socket.create_connection((self.host.strip("[]"), self.port), timeout=30)
        found.sendall(data)
        return found

    def events(self) -> Iterator[tuple[str, Any]]:
        with self.raw(b"GET /api/events HTTP/1.0\r\nHost: localhost\r\n\r\n") as client, client.makefile("rb") as lines:
            assert b" 200 " in lines.readline()
            name = ""
            for line in lines:
                kind, _, value = line.decode().strip().partition(": ")
                if kind == "event":
                    name = value
                elif kind == "data":
                    yield name, json.loads(value)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeClient, Address]]:
    settings = ("--http", "127.0.0.1:0", "--workers", "1", "--spare-workers", "0")
    client = NodeClient(*settings, data=tmp_path_factory.mktemp("data"), environment={"THEIR_API_KEY": SECRET})
    address = Address(client.ready()[Atom("http")].decode())
    assert address.ask("/readyz")[0].status in (200, 503)
    client.wait_until_healthy()
    address.until(lambda state: state["health"]["status"] == "healthy")  # which is a second old at most
    yield client, address
    client.close()


def running(state: Any) -> Any:
    return next((job for job in state["jobs"] if job["state"] == "running"), None)


def test_a_node_that_serves_is_alive_and_ready(watched: tuple[NodeClient, Address]) -> None:
    _, address = watched
    assert address.ask("/healthz")[1] == b"ok\n"
    assert address.ask("/readyz")[1] == b"ready\n"
    response, body = address.ask("/readyz", "HEAD")
    assert (response.status, body) == (200, b"")


def test_the_state_shows_a_job_with_its_curve_and_then_its_end(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    number = node.request("optimize_signature", optimization(8), {Atom("source"): b"tests"})
    assert node.answer(number)[0] == "ok"
    job = address.until(lambda state: next((job for job in state["ended"] if job["id"] == str(number)), None))
    assert (job["verb"], job["source"], job["outcome"], job["state"]) == (
        "optimize_signature",
        "tests",
        "ok",
        "ended",
    )
    assert job["worker"] == 1
    assert job["arrived_at"] <= job["started_at"] <= job["ended_at"]
    assert job["lm_calls"] > 0
    best = [point[3] for point in job["curve"] if point[3] is not None]
    assert best == sorted(best), "the best score never falls"
    assert best[-1:] == [job["best_score"]]


def test_whoever_follows_hears_of_a_job_and_of_its_end(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    events = address.events()
    name, state = next(events)
    assert name == "state"
    assert state["health"]["status"] == "healthy"
    number = node.request("predict", prediction(slow(300)))
    heard = []
    for name, value in events:
        heard.append(name)
        if name == "ended" and value["id"] == str(number):
            break
    assert "job" in heard
    assert "pulse" in heard
    assert node.answer(number)[0] == "ok"


def test_a_job_is_cancelled_by_our_page_and_by_no_other(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    number = node.request("predict", prediction(slow(60_000)))
    job = address.until(running)["job"]
    body = json.dumps({"job": job}).encode()
    for headers in (
        {},
        {"Content-Type": "application/json"},
        {**OURS, "Content-Type": "text/plain"},
        {**OURS, "Origin": "http://evil.example"},
        {**OURS, "Sec-Fetch-Site": "cross-site"},
    ):
        assert address.ask("/api/cancel", "POST", body, **headers)[0].status == 403
    response, said = address.ask("/api/cancel", "POST", body, **OURS, Origin=f"http://127.0.0.1:{address.port}")
    assert (response.status, json.loads(said)) == (200, {"status": "cancelling"})
    tag, error = node.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("cancelled"))
    address.until(lambda state: not running(state))
    assert address.ask("/api/cancel", "POST", body, **OURS)[0].status == 404
    assert address.ask("/api/cancel", "POST", b"[" * 60_000, **OURS)[0].status == 400
    assert "cancelled" in [error["error_type"] for error in address.state()["errors"] if error["job"] == job]


def test_one_that_waits_is_cancelled_too(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    first = node.request("predict", prediction(slow(1500)))
    second = node.request("predict", prediction())
    waiting = address.until(lambda state: next((job for job in state["jobs"] if job["id"] == str(second)), None))
    assert waiting["state"] == "waiting"
    address.ask("/api/cancel", "POST", json.dumps({"job": waiting["job"]}).encode(), **OURS)
    assert node.answer(second)[1][Atom("error_type")] == Atom("cancelled")
    assert node.answer(first)[0] == "ok"


def test_a_scraper_gets_what_its_parser_takes(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    before = samples(address)
    assert node.ask("predict", prediction())[0] == "ok"
    assert node.ask("no_such_verb", {})[0] == "error"
    after = samples(address)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert grown("erlbridge_requests_total", verb="predict", outcome="ok") == 1
    assert grown("erlbridge_requests_total", verb="unknown", outcome="unknown_verb") == 1
    assert grown("erlbridge_request_duration_seconds_count", verb="predict") == 1
    assert grown("erlbridge_queue_wait_seconds_count") == 1
    assert grown("erlbridge_lm_calls_total", verb="predict") == 1
    assert grown("erlbridge_lm_tokens_total", verb="predict", direction="input") > 0
    assert grown("erlbridge_request_bytes_total", verb="predict") > 100
    assert after["erlbridge_jobs_running", ()] == 0
    assert sum(value for (name, _), value in after.items() if name == "erlbridge_workers") == 1
    assert after["erlbridge_memory_bytes", (("process", "workers"),)] > 2**20
    text = address.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert text[0].headers["Content-Type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(text[1].decode())}
    assert families["erlbridge_requests"].type == "counter"
    assert families["erlbridge_request_duration_seconds"].type == "histogram"


def test_what_a_job_had_paid_for_is_counted_when_it_fails_too(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    before = samples(address)
    config = {**OFFLINE, Atom("cache"): False, Atom("budget"): {Atom("max_lm_calls"): 2}}
    tag, error = node.ask(
        "evaluate_pipeline", {Atom("signature"): SIGNATURE, Atom("data"): TICKETS, Atom("config"): config}
    )
    assert (tag, error[Atom("error_type")], error[Atom("context")][Atom("lm_calls")]) == (
        "error",
        Atom("budget_exceeded"),
        2,
    )
    after = samples(address)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted({"verb": "evaluate_pipeline", **labels}.items())))
        return after[key] - before.get(key, 0.0)

    assert grown("erlbridge_lm_calls_total") == 2
    for direction in ("input", "output"):
        told = error[Atom("context")][Atom(f"{direction}_tokens")]
        assert grown("erlbridge_lm_tokens_total", direction=direction) == told > 0


def samples(address: Address) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = address.ask("/metrics")[1].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in plain_text(text)
        for sample in family.samples
    }


def test_a_killed_worker_is_counted_by_its_reason(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    number = node.request("predict", prediction(slow(60_000)))
    worker = address.until(lambda state: state["health"]["workers"] if running(state) else None)[0]
    os.kill(worker["os_pid"], signal.SIGKILL)
    assert node.answer(number)[1][Atom("error_type")] == Atom("process_crashed")
    node.wait_until_healthy()
    assert samples(address)["erlbridge_worker_restarts_total", (("reason", "signal"),)] == 1


def test_the_last_frames_are_shown_without_keys(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    key = b"sk-shown-to-nobody"
    payload = prediction({Atom("lm"): {Atom("model"): b"offline", Atom("api_key"): key, b"x": {b"api_key": key}}})
    payload[b"listed"] = [(Atom("api_key"), key), b"where no name is: " + key]
    payload[b"environment"] = b"a prompt with " + SECRET.encode()
    node.ask("predict", payload)
    frames = json.loads(address.ask("/api/frames")[1])["frames"]
    assert [frame["number"] for frame in frames] == sorted(frame["number"] for frame in frames)
    asked, answer = [frame for frame in frames if not frame["outgoing"]][-1], frames[-1]
    assert (asked["kind"], answer["outgoing"]) == ("predict", True)
    assert "api_key" in asked["text"]
    assert key.decode() not in json.dumps(frames)
    assert SECRET not in json.dumps(frames)
    other = b"sk-shown-to-nobody-either"
    hidden = [{b"X-Api-Key": other}, (Atom("private_key"), other), b"Authorization: Bearer " + other]
    node.ask("predict", {Atom("x"): hidden})
    assert other.decode() not in address.ask("/api/frames")[1].decode()
    node.send_frame(b"\x83hopeless")
    node.until(lambda term: str(term[0]) == "error")
    broken = [frame for frame in json.loads(address.ask("/api/frames")[1])["frames"] if frame["kind"] == "broken"]
    assert len(broken) == 1


def test_a_small_frame_that_unpacks_to_a_large_one_is_not_unpacked(watched: tuple[NodeClient, Address]) -> None:
    node, address = watched
    node.send_frame(
        b"\x83P" + (9_000_005).to_bytes(4) + zlib.compress(b"m" + (9_000_000).to_bytes(4) + b"x" * 9_000_000)
    )
    node.until(lambda term: str(term[0]) == "error")
    frames = json.loads(address.ask("/api/frames")[1])["frames"]
    assert any(frame["text"].endswith("too long to be shown here") for frame in frames)


# -- who is not let in


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", ""])
def test_a_page_whose_name_was_made_to_resolve_to_loopback_gets_nothing(
    watched: tuple[NodeClient, Address], host: str
) -> None:
    assert watched[1].ask("/api/state", Host=host)[0].status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "127.8.0.1", "[::1]:7"])
def test_loopback_is_let_in_by_any_of_its_names_and_through_a_tunnel(
    watched: tuple[NodeClient, Address], host: str
) -> None:
    assert watched[1].ask("/healthz", Host=host)[0].status == 200


def test_every_answer_keeps_pages_in(watched: tuple[NodeClient, Address]) -> None:
    for path in ("/api/state", "/nothing", "/metrics"):
        headers = watched[1].ask(path, Origin="http://evil.example")[0].headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
        assert headers["Access-Control-Allow-Origin"] is None


def test_what_is_not_there_and_what_is_not_taken_is_told_apart(watched: tuple[NodeClient, Address]) -> None:
    _, address = watched
    assert address.ask("/..%2f..%2fetc/passwd")[0].status == 404
    response, _ = address.ask("/api/cancel")
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert address.ask("/api/state", "OPTIONS", Origin="http://evil.example")[0].status == 405


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"hello\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /api/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 90_000, 413),
        (b"GET /?" + b"a=1&" * 99 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
    ids=["header", "noise", "no host", "target", "body", "fields"],
)
def test_too_much_or_nonsense_is_refused_and_the_connection_ended(
    watched: tuple[NodeClient, Address], sent: bytes, status: int
) -> None:
    with watched[1].raw(sent) as client:
        answer = b""
        try:
            while data := client.recv(4096):
                answer += data
        except ConnectionResetError:
            pass
    assert answer.split()[1:2] == [str(status).encode()]


def test_a_crowd_that_never_finishes_its_requests_keeps_nobody_out(watched: tuple[NodeClient, Address]) -> None:
    _, address = watched
    crowd = [address.raw(b"GET /healthz HTTP/1.1\r\nHost: localho") for _ in range(100)]
    try:
        assert address.ask("/healthz")[0].status == 200
    finally:
        for client in crowd:
            client.close()


def test_a_crowd_that_follows_leaves_places_for_probes(watched: tuple[NodeClient, Address]) -> None:
    _, address = watched

    def follow(clients: contextlib.ExitStack) -> bytes:
        client = clients.enter_context(address.raw(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        return client.recv(1 << 16)

    with contextlib.ExitStack() as crowd:
        refused = [head for head in (follow(crowd) for _ in range(100)) if not head.startswith(b"HTTP/1.1 200 ")]
        assert len(refused) >= 52
        assert all(head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 10\r\n" in head for head in refused)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert address.ask(path)[0].status == 200
    with contextlib.ExitStack() as late:  # there is room again, once it is seen that they have gone
        address.until(lambda _: follow(late).startswith(b"HTTP/1.1 200 "))


def test_a_crowd_that_takes_its_answers_slowly_leaves_places_for_probes(watched: tuple[NodeClient, Address]) -> None:
    """More is asked for than buffers hold, so that answers wait in the node."""
    _, address = watched
    asked = b"GET /console/console.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as crowd:
        for _ in range(80):
            client = crowd.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((address.host, address.port))
            client.sendall(asked * 300)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert address.ask(path)[0].status == 200


def test_several_requests_on_one_connection_are_answered_in_order(watched: tuple[NodeClient, Address]) -> None:
    one = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with watched[1].raw(one % b"healthz" + one % b"nothing" + last) as client:
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_a_node_that_drains_is_alive_and_not_ready(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--http", "[::1]:0", "--workers", "1", "--spare-workers", "0")
    address = Address(node.ready()[Atom("http")].decode())
    assert address.host == "[::1]"
    assert address.ask("/readyz")[1] == b"0 of 1 workers are ready\n"
    node.wait_until_healthy()
    node.request("predict", prediction(slow(60_000)))
    address.until(running)
    node.request("shutdown", {Atom("grace_ms"): 60_000})
    end = time.monotonic() + 10
    while (found := address.ask("/readyz"))[0].status == 200:
        assert time.monotonic() < end
    assert found[1] == b"the node is shutting down\n"
    assert address.ask("/healthz")[0].status == 200
