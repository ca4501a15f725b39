"""One connection of HTTP against clients that are slow, with a clock of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from erlbridge.node.http.admission import Admission
from erlbridge.node.http.chronicle import Chronicle
from erlbridge.node.http.connection import Connection
from erlbridge.node.http.frames import FrameViews
from erlbridge.node.http.mailbox import Mailbox
from erlbridge.node.http.metrics import Metrics
from erlbridge.node.http.routes import Desk
from erlbridge.wire.redaction import Redaction

FOLLOW = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def chronicle() -> Chronicle:
    return Chronicle()


@pytest.fixture
def pair(chronicle: Chronicle) -> Iterator[tuple[Connection, socket.socket]]:
    """The node's end, at the time 0, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    admission = Admission(loopback=True, token=None)
    desk = Desk(chronicle, Mailbox(), Metrics(chronicle), FrameViews(Redaction()))
    yield Connection(ours, admission, desk, lambda: True, 0.0), theirs
    ours.close()
    theirs.close()


def test_a_request_that_comes_byte_by_byte_has_ten_seconds_in_all(pair: tuple[Connection, socket.socket]) -> None:
    connection, client = pair
    for second, byte in enumerate(FOLLOW[:10]):
        client.send(bytes([byte]))
        connection.read(float(second))
        connection.look(float(second))
        assert not connection.closed
    connection.look(10.0)
    assert connection.closed


def test_who_follows_and_does_not_read_holds_little_and_is_left(
    pair: tuple[Connection, socket.socket], chronicle: Chronicle
) -> None:
    connection, client = pair
    client.sendall(FOLLOW)
    connection.read(0.0)
    for number in range(3_000):
        chronicle.logged("info", b"x" * 1_000, 1, number, None)
        connection.look(0.001 * number)
    assert connection.follows
    assert len(connection._unsent) < 600_000
    connection.look(21.0)
    assert connection.closed


def test_who_reads_again_gets_what_is_new_and_not_all_that_was(
    pair: tuple[Connection, socket.socket], chronicle: Chronicle
) -> None:
    connection, client = pair
    client.sendall(FOLLOW)
    client.setblocking(False)
    connection.read(0.0)

    def take() -> bytes:
        taken = b""
        while connection.wants_to_write:
            connection.write(1.0)
            taken += client.recv(1 << 20)
        return taken

    assert take().count(b"event: state") == 1
    for number in range(1_000):
        chronicle.logged("info", b"line %d" % number, 1, None, None)
    connection.look(1.0)
    heard = take()
    assert heard.count(b"event: log") == 200
    assert b"line 999" in heard
    connection.look(2.0)
    assert not connection.wants_to_write
    connection.look(17.0)
    assert b": still here" in take()


def test_a_head_that_is_not_understood_is_refused_without_a_body(pair: tuple[Connection, socket.socket]) -> None:
    connection, client = pair
    client.sendall(b"HEAD http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection.read(0.0)
    connection.write(0.0)
    head, _, body = client.recv(1 << 16).partition(b"\r\n\r\n")
    assert (head.split()[1], body, connection.closed) == (b"400", b"", True)
