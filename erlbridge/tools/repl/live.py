"""The node that the REPL speaks with: started when it is first needed, in a data directory of its own unless one is
named.

All that is said stands on the tape, under the wire `repl`. What the node says is read while a command waits for it, and
before each command.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Final

from erlbridge.codec import Atom, term_to_binary
from erlbridge.errors import BridgeError
from erlbridge.tools.client import Client, NodeGone
from erlbridge.tools.repl.said import decoded
from erlbridge.tools.repl.tape import OWN, Frame, Tape
from erlbridge.wire.answers import text

_GRANT: Final = 64
"""Events between two credits."""
_FREE: Final = frozenset(("ok", "error", "call", "call_over"))
"""What needs no credit."""

Outcome = Callable[[object, object], object]
"""What becomes of a call of an Elixir function, by its name and arguments: `{:ok, value}` or `{:error, reason}`."""


def no_function(name: object, _arguments: object) -> object:
    """The outcome where nobody knows one."""
    told = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return Atom("error"), f"{told} is a function of Elixir, and no capture here has its value".encode()


class Live:
    """A node, or the place for one. For one thread."""

    def __init__(self, tape: Tape, arguments: Sequence[str] = ()) -> None:
        """`arguments` are those of `erlbridge serve`."""
        self._tape = tape
        self.arguments = tuple(arguments)
        self._client: Client | None = None
        self._directory: str | None = None
        self._events = 0
        self.outcome: Outcome = no_function

    @property
    def runs(self) -> bool:
        """Whether there is a node."""
        return self._client is not None

    @property
    def about(self) -> str:
        """The node in a line."""
        if self._client is None:
            return "no node runs; `send` and `node start` start one"
        info = self._client.info
        where = "a fresh data directory" if self._directory else " ".join(self.arguments)
        return f"node {text(info.get('version'))}, os_pid {info.get('os_pid')}, {info.get('workers')} workers, {where}"

    def start(self, arguments: Sequence[str] | None = None) -> None:
        """Starts a fresh node; one that runs is ended. Raises `NodeGone` when it ends at once, as with wrong
        settings."""
        self.stop()
        if arguments is not None:
            self.arguments = tuple(arguments)
        given = list(self.arguments)
        if not any(argument.partition("=")[0] in ("--data", "--config") for argument in given):
            self._directory = tempfile.mkdtemp(prefix="erlbridge-repl-")
            given += ["--data", self._directory]
        try:
            self._client = Client.start(*given)
        except BaseException:
            self._forget()
            raise

    def stop(self) -> int | None:
        """Ends the node, and gives its exit code."""
        client, self._client = self._client, None
        try:
            return client.close() if client else None
        finally:
            self._forget()

    def send(self, frame: bytes) -> Frame:
        """Sends bytes as a frame, to a fresh node where none runs. Raises `NodeGone`."""
        if self._client is None:
            self.start()
        assert self._client is not None  # noqa: S101 - started
        noted = self._note(frame, inward=True)
        try:
            self._client.send_frame(frame)
        except NodeGone:
            self.stop()
            raise
        return noted

    def receive(self, timeout_s: float) -> Frame | None:
        """The node's next frame; None when there is none in time, or no node. Answers calls. Raises `NodeGone`."""
        if self._client is None:
            return None
        try:
            data = self._client.receive_frame(timeout_s)
        except NodeGone:
            self.stop()
            raise
        if data is None:
            return None
        frame = self._note(data, inward=False)
        if frame.said.head == "call":
            match decoded(data):
                case (_, call_id, _, name, arguments):
                    self.send(term_to_binary((Atom("result"), call_id, self.outcome(name, arguments))))
        elif frame.said.head not in _FREE:
            self._events += 1
            if self._events >= _GRANT:
                self.send(term_to_binary((Atom("credit"), self._events)))
                self._events = 0
        return frame

    def drain(self) -> list[Frame]:
        """What the node has said meanwhile. Never raises: that it has ended is heard by who needs it."""
        found: list[Frame] = []
        try:
            while frame := self.receive(0):
                found.append(frame)
        except BridgeError as error:
            self._tape.note(error.message)
        return found

    def answer(self, request: Frame, timeout_s: float) -> Frame | None:
        """Waits for a request's answer, None when it does not come in time. Raises `NodeGone`."""
        deadline = time.monotonic() + timeout_s
        while (found := self._tape.answer(request.number)) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self.runs:
                return None
            self.receive(left_s)
        return found

    def _note(self, data: bytes, *, inward: bool) -> Frame:
        return self._tape.add(data, wire=OWN, inward=inward, monotonic_ns=time.monotonic_ns(), wall_ns=time.time_ns())

    def _forget(self) -> None:
        directory, self._directory = self._directory, None
        self._events = 0
        if directory:
            shutil.rmtree(directory, ignore_errors=True)
