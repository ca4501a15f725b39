"""What the doctor says of the things around a node: each is made right or wrong here, and asked for real."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from erlbridge.tools.finding import FAILED, OK, WARNING
from erlbridge.tools.surroundings import Endpoints, beam, clock

KEY = "sk-right-0123456789"


class Models(BaseHTTPRequestHandler):
    """An endpoint's list of models, for who has the key; `/late/…` is an hour behind, `/busy/…` too busy."""

    asked: list[str] = []  # noqa: RUF012 - of one test's server

    def do_GET(self) -> None:
        self.asked.append(self.path)
        allowed = self.headers.get("Authorization") == f"Bearer {KEY}"
        self.send_response_only(429 if "busy" in self.path else 200 if allowed else 401)
        self.send_header("Date", formatdate(time.time() - 3600 * ("late" in self.path), usegmt=True))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    Models.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def state(model: str, variable: str | None = None) -> tuple[str, str]:
    (finding,) = Endpoints([model], variable).findings()
    assert finding.state == OK or finding.advice
    return finding.state, finding.found


def test_an_endpoint_is_asked_for_its_models_and_nothing_else(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    found = state(f"{address}/v1/", "MY_KEY")
    assert found[0] == OK
    assert "and takes the key" in found[1]
    assert Models.asked == ["/v1/models"]


def test_a_key_that_is_refused_is_a_failure_and_is_not_shown(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-wrong-0123456789")
    found = state(f"{address}/v1?token=sk-wrong", "MY_KEY")
    assert found[0] == FAILED
    assert "refuses the key" in found[1]
    assert "sk-wrong" not in found[1]


def test_an_endpoint_that_is_busy_or_wants_a_key_that_is_not_set_is_a_warning(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    assert state(f"{address}/busy")[0] == WARNING
    found = state(f"{address}/v1", "MY_KEY")
    assert found[0] == WARNING
    assert "MY_KEY is not set" in found[1]


def test_an_address_where_nobody_listens_is_a_failure(address: str) -> None:
    assert state("http://127.0.0.1:1/v1")[0] == FAILED
    assert state("http://[half")[0] == FAILED
    assert state("somebody/model-5")[0] == WARNING
    assert state("offline")[0] == OK


def test_a_clock_that_an_endpoint_contradicts_is_a_warning(address: str, tmp_path: Path) -> None:
    for path, expected in (("v1", OK), ("late", WARNING)):
        endpoints = Endpoints([f"{address}/{path}"], None)
        assert len(list(endpoints.findings())) == 1
        assert clock(tmp_path, endpoints.skews_s).state == expected


def test_a_clock_behind_the_newest_file_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite3"
    file.touch()
    assert clock(tmp_path, []).state == OK
    os.utime(file, (time.time() + 3600, time.time() + 3600))
    assert "behind the newest file" in clock(tmp_path, []).found


@pytest.mark.parametrize(
    ("said", "states"),
    [
        ("Erlang/OTP 27 [erts-15]\n\nElixir 1.18.1 (compiled with Erlang/OTP 27)", [OK, OK]),
        ("Erlang/OTP 21 [erts-10]\n\nElixir 1.9.0 (compiled with Erlang/OTP 21)", [WARNING, WARNING]),
        ("what is this", [WARNING, WARNING]),
    ],
)
def test_elixir_and_otp_are_asked_for_their_versions(
    said: str, states: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elixir").write_text(f"#!/bin/sh\nwhile read line; do echo \"$line\"; done <<'END'\n{said}\nEND\n")
    (tmp_path / "elixir").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [finding.state for finding in beam()] == states


def test_without_elixir_a_node_may_still_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [(finding.name, finding.state) for finding in beam()] == [("elixir", WARNING), ("otp", WARNING)]
