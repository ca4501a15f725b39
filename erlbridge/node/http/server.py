"""The thread that serves HTTP: one selector over a bounded number of connections. Knows sockets and times."""

from __future__ import annotations

import contextlib
import functools
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from erlbridge.node.http.admission import Admission
from erlbridge.node.http.connection import Connection
from erlbridge.node.http.listening import listen, name_of
from erlbridge.node.http.mailbox import Bell
from erlbridge.node.http.routes import Desk

_MOST_CONNECTIONS: Final = 64
_MOST_FOLLOWERS: Final = 48
"""Of those: who follows stays for as long as it likes, and a probe that finds no place has a healthy node killed."""
_TICK_S: Final = 0.1
"""How late news may be for who follows events."""
_REST_S: Final = 1.0
_NO_DESCRIPTOR_S: Final = 0.1
_AGAIN_S: Final = 5.0
"""How long until an address that somebody else has is tried again."""


class Server:
    """Serves `desk` at an address.

    Args:
        listening: The socket; None where it could not be had at the node's start.
    """

    def __init__(
        self,
        desk: Desk,
        admission: Admission,
        address: str,
        listening: socket.socket | None,
    ) -> None:
        self.bell = Bell()
        self._desk = desk
        self._admission = admission
        self._address = address
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, Connection] = {}
        self._ended = False

    def start(self) -> None:
        """Begins; a daemon's thread, for the node's end waits for nobody."""
        threading.Thread(target=self._run, name="erlbridge-http", daemon=True).start()

    def close(self) -> None:
        """Takes no more; the process ends behind it."""
        self._ended = True
        self.bell.ring()

    # -- the thread

    def _run(self) -> None:
        try:
            self._selector.register(self.bell, selectors.EVENT_READ)
            if self._await_address():
                self._serve()
        except Exception:  # noqa: BLE001 - who looks must not end the node that is looked at
            self._desk.say("error", f"http has ended: {traceback.format_exc()}")

    def _await_address(self) -> bool:
        """Gets the address. One that another node has, such as the one before this, may be free soon."""
        complained = False
        while self._listening is None and not self._ended:
            try:
                self._listening = listen(self._address)
            except OSError as error:
                if not complained:
                    why = error.strerror or error
                    self._desk.say(
                        "warning", f"http: cannot listen at {self._address}: {why}; tried every {_AGAIN_S:g} s"
                    )
                    complained = True
                self._selector.select(_AGAIN_S)
                self.bell.heard()
        if self._listening is None:
            return False
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._desk.say("info", f"http: listening at {name_of(self._listening)}")
        return True

    def _serve(self) -> None:
        while not self._ended:
            follows = any(connection.follows for connection in self._connections.values())
            ready = self._selector.select(_TICK_S if follows else _REST_S)
            now = time.monotonic()
            for key, events in ready:
                if key.fileobj is self.bell:
                    self.bell.heard()
                elif key.fileobj is self._listening:
                    self._accept(now)
                else:
                    self._attend(key.data, functools.partial(key.data.happened, events, now))
            for connection in list(self._connections.values()):
                self._attend(connection, functools.partial(self._look_after, connection, now))
            if follows:
                time.sleep(0)  # lets the loop, which may wait for the interpreter, go first
        self._end()

    def _attend(self, connection: Connection, call: Callable[[], None]) -> None:
        """Does something for a connection, whose fault is its own and not the others'."""
        try:
            call()
        except Exception:  # noqa: BLE001 - as said
            self._desk.say("error", f"http: {traceback.format_exc()}")
            self._drop(connection)

    def _accept(self, now: float) -> None:
        assert self._listening is not None  # noqa: S101 - it was registered
        try:
            client, _ = self._listening.accept()
        except OSError:
            time.sleep(
                _NO_DESCRIPTOR_S
            )  # gone already, or no descriptor is left, and the selector would tell it at once
            return
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._connections) >= _MOST_CONNECTIONS:
            self._drop(self._least_missed())
        connection = Connection(client, self._admission, self._desk, self._may_follow, now)
        self._connections[client.fileno()] = connection
        self._selector.register(client, selectors.EVENT_READ, connection)

    def _least_missed(self) -> Connection:
        """Who makes room for a newcomer, which may be a probe: of those that do not follow, and there always are some,
        one that is idle, else the one that has taken the longest over its answers."""
        others = [one for one in self._connections.values() if not one.follows]
        return next((one for one in others if one.idle), others[0])

    def _may_follow(self) -> bool:
        return sum(one.follows for one in self._connections.values()) < _MOST_FOLLOWERS

    def _look_after(self, connection: Connection, now: float) -> None:
        """Brings a connection on, and what the selector watches of it in line with what it wants."""
        if not connection.closed:
            connection.look(now)
        if connection.wants_to_write and not connection.closed:
            connection.write(now)
        if connection.closed:
            self._drop(connection)
            return
        wanted = selectors.EVENT_READ * connection.wants_to_read | selectors.EVENT_WRITE * connection.wants_to_write
        watched = self._selector.get_map().get(connection.client.fileno())
        if watched is None:
            if wanted:
                self._selector.register(connection.client, wanted, connection)
        elif not wanted:
            self._selector.unregister(connection.client)
        elif watched.events != wanted:
            self._selector.modify(connection.client, wanted, connection)

    def _drop(self, connection: Connection) -> None:
        descriptor = connection.client.fileno()
        self._connections.pop(descriptor, None)
        if descriptor in self._selector.get_map():
            self._selector.unregister(connection.client)
        connection.close()

    def _end(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        if self._listening is not None:
            self._listening.close()
