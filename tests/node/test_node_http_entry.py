"""Who gets in to a node's HTTP port, by which token and address; and what a fault or a loop that hangs leaves of it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_client import NodeClient, descendants
from test_node_http import TOKEN, Address

from erlbridge.codec import Atom
from erlbridge.errors import ValidationError
from erlbridge.node.config_sources import resolve
from erlbridge.node.http.admission import Admission
from erlbridge.node.http.chronicle import Chronicle
from erlbridge.node.http.connection import Connection
from erlbridge.node.http.frames import FrameViews
from erlbridge.node.http.listening import listen, name_of
from erlbridge.node.http.mailbox import Mailbox
from erlbridge.node.http.messages import HttpRequest, read_request
from erlbridge.node.http.metrics import Metrics
from erlbridge.node.http.routes import Desk
from erlbridge.node.http.server import Server
from erlbridge.wire.redaction import Redaction


@pytest.fixture
def deaf() -> Iterator[Address]:
    """A server whose node's loop hangs."""
    chronicle, mailbox = Chronicle(), Mailbox()
    admission = Admission(loopback=True, token=None)
    listening = listen("127.0.0.1:0")
    server = Server(
        Desk(chronicle, mailbox, Metrics(chronicle), FrameViews(Redaction())), admission, "127.0.0.1:0", listening
    )
    server.start()
    yield Address(name_of(listening))
    server.close()


def test_a_loop_that_hangs_is_not_alive_and_can_still_be_looked_at(deaf: Address) -> None:
    for path in ("/healthz", "/readyz"):
        response, said = deaf.ask(path)
        assert (response.status, said) == (503, b"the node's loop has not answered within 1 s\n")
    assert b"erlbridge_requests" in deaf.ask("/metrics")[1]
    assert deaf.state()["health"] is None


def test_a_fault_in_a_handler_is_one_requests(deaf: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chronicle, "state", lambda _self: 1 / 0)
    assert deaf.ask("/api/state")[0].status == 500
    assert deaf.ask("/nothing")[0].status == 404


def test_a_fault_of_one_connection_ends_that_one_alone(deaf: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "_serve", lambda _self, _now: 1 / 0)
    with deaf.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        assert client.recv(1) == b""
    monkeypatch.undo()
    assert deaf.ask("/nothing")[0].status == 404


def test_a_node_loads_nothing_for_a_port_that_it_does_not_have() -> None:
    code = (
        "import sys, erlbridge.node.node, erlbridge.tools.commands.serve\n"
        "print([name for name in sys.modules if name.startswith(('erlbridge.node.http', 'h11', 'prometheus', 'http'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# -- tokens and addresses


def asked(target: str, **headers: str) -> HttpRequest:
    sent = [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())]
    return read_request(b"GET", target.encode(), sent, b"")


def cookie_of(admission: Admission, token: str) -> str:
    answer = admission.refuse(asked(f"/?token={token}"))
    assert answer is not None
    assert answer.status == 303
    return answer.headers["Set-Cookie"].partition(";")[0]


def test_two_nodes_of_one_machine_and_its_other_servers_share_a_browser() -> None:
    """Cookies know no ports, and some are not as they should be."""
    nodes = [Admission(loopback=True, token=token.encode()) for token in ("a" * 16, "b" * 16)]
    cookies = [cookie_of(node, node.token.decode()) for node in nodes if node.token]
    assert len({cookie.partition("=")[0] for cookie in cookies}) == 2
    jar = "; ".join(['theme={"dark": [1, 2]}', *cookies, "broken"])
    assert [node.refuse(asked("/api/state", cookie=jar)) for node in nodes] == [None, None]
    assert nodes[0].refuse(asked("/api/state", cookie=cookies[1])) is not None


@pytest.mark.parametrize("token", ["ab+cd/ef==gh+ij/kl", "schlüssel-der-niemand-kennt"])
def test_a_token_may_have_any_characters(token: str) -> None:
    admission = Admission(loopback=True, token=token.encode())
    cookie_of(admission, token.replace("ü", "%C3%BC"))
    assert admission.refuse(asked("/api/state", authorization=f"Bearer {token}")) is None


def test_with_a_token_only_who_has_it_gets_in(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--http", "0.0.0.0:0", "--http-token-env", "THE_TOKEN", "--workers", "1", THE_TOKEN=TOKEN)
    _, _, port = node.ready()[Atom("http")].decode().rpartition(":")
    address = Address(f"127.0.0.1:{port}")
    assert address.ask("/healthz", Host="bridge.example")[0].status == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": f"erlbridge={TOKEN}"}):
        assert address.ask("/api/state", **headers)[0].status == 401
    assert address.ask("/api/state", Host="bridge.example", Authorization=f"Bearer {TOKEN}")[0].status == 200
    assert address.ask("/?token=wrong")[0].status == 401
    response, _ = address.ask(f"/?token={TOKEN.replace(' ', '%20')}")
    assert (response.status, response.headers["Location"]) == (303, "/")
    cookie = response.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert address.ask("/api/state", Cookie=f"other=1; {cookie.partition(';')[0]}")[0].status == 200
    assert address.ask("/api/state", Cookie="a=\x01; erlbridge")[0].status in (400, 401)
    inherited = [Path(f"/proc/{pid}/environ").read_bytes() for pid in descendants(node.node_pid)]
    assert inherited
    assert TOKEN.encode() not in b"".join(inherited), "workers could cancel each other's jobs with it"


@pytest.mark.parametrize(
    ("settings", "token", "said"),
    [
        ({"http": "0.0.0.0:0"}, TOKEN, "needed for an address off loopback"),
        ({"http": "[::]:0"}, TOKEN, "needed for an address off loopback"),
        ({"http": "0.0.0.0:0", "http_token_env": "THE_TOKEN"}, "", "is not set"),
        ({"http": "127.0.0.1:0", "http_token_env": "THE_TOKEN"}, "short", "has 5 characters"),
    ],
)
def test_an_address_without_a_good_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], token: str, said: str
) -> None:
    monkeypatch.setenv("THE_TOKEN", token)
    with pytest.raises(ValidationError, match=said) as refused:
        Admission.of(resolve(settings, {}).config)
    assert token not in str(refused.value) or not token


def test_it_is_refused_before_anything_is_said_on_the_wire(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "erlbridge", "serve", "--data", str(tmp_path), "--http", "0.0.0.0:0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert "http_token_env" in ran.stderr.decode()


def test_a_port_that_somebody_has_costs_no_node_and_is_taken_when_it_is_free(
    start_node: Callable[..., NodeClient],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = start_node("--http", f"127.0.0.1:{port}", "--workers", "1")
        assert Atom("http") not in node.ready()
        warned = node.until(lambda term: str(term[0]) == "log")
        assert b"cannot listen" in warned[2]
        assert node.health()[Atom("versions")]
