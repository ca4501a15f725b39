"""A model endpoint on a loopback port that misbehaves as a test asks, byte by byte where HTTP servers would not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from erlbridge.codec import Atom

_STEP_S = 0.05
_PATIENCE_S = 30.0


def answer(category: str = "billing") -> bytes:
    """The body of a chat completion in the form that DSPy asks for."""
    text = f"[[ ## category ## ]]\n{category}\n\n[[ ## completed ## ]]"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "model": "x", "choices": [choice], "usage": usage}
    ).encode()


def response(body: bytes, status: int = 200, *headers: str, kind: str = "application/json") -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def failure(status: int, *headers: str) -> bytes:
    """An error as OpenAI writes it."""
    return response(json.dumps({"error": {"message": "no", "type": "error"}}).encode(), status, *headers)


class FaultyEndpoint:
    """Answers each request by the fault that `choose` gives for its number (from 1), or as it should for `well`."""

    def __init__(self, choose: Callable[[int], str] = lambda number: "well") -> None:
        self.choose = choose
        self.requests: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._serve()

    def __enter__(self) -> FaultyEndpoint:
        return self

    def __exit__(self, *raised: object) -> None:
        self.over.set()
        self.go()

    def lm(self, **options: object) -> dict[Any, Any]:
        """This endpoint as a request names it."""
        named = {"model": b"openai/x", "api_base": f"http://127.0.0.1:{self.port}/v1".encode(), **options}
        return {Atom(key): value for key, value in named.items()}

    def go(self) -> None:
        """Refuses every connection from now on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Listens again on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def open_connections(self) -> int:
        """Connections that the client has not closed."""
        with self._lock:
            return len(self._connections)

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    self._connections.add(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while self._read_request(connection):
                with self._lock:
                    fault = self.choose(len(self.requests) + 1)
                    self.requests.append(fault)
                if not self._say(connection, fault):
                    break
        with self._lock:
            self._connections.discard(connection)

    def _read_request(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := connection.recv(65536)):
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            if not (piece := connection.recv(65536)):
                return False
            body += piece
        return True

    def _say(self, connection: socket.socket, fault: str) -> bool:
        """Does what the fault is; whether the connection is of further use."""
        match fault:
            case "well":
                connection.sendall(response(answer()))
                return True
            case "500":
                connection.sendall(failure(500))
                return True
            case "429":
                connection.sendall(failure(429, "Retry-After: 0.3"))
                return True
            case "401":
                connection.sendall(failure(401))
                return True
            case "hang":
                connection.settimeout(_PATIENCE_S)
                connection.recv(1)  # until the client leaves
            case "drip head":
                self._drip(connection, b"", response(answer()))
            case "drip body":
                whole = response(answer())
                at = whole.index(b"\r\n\r\n") + 4
                self._drip(connection, whole[:at], whole[at:])
            case "reset":
                connection.sendall(response(answer())[:-40])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            case "garbage":
                connection.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76" + bytes(range(256)) * 4)
            case "endless":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + answer()[:-1])
                while not self.over.is_set():
                    connection.sendall(b" " * 65536)
            case "wrong type":
                connection.sendall(response(b"<html><h1>Welcome</h1></html>", kind="text/html"))
                return True
            case "truncated":
                connection.sendall(response(answer()[:60]))
                return True
            case _:
                raise AssertionError(fault)
        return False

    def _drip(self, connection: socket.socket, at_once: bytes, slowly: bytes) -> None:
        connection.sendall(at_once)
        for byte in slowly:
            connection.sendall(bytes([byte]))
            if self.over.wait(_STEP_S):
                return
