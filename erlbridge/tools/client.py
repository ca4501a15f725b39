"""A host in Python: starts a node, or takes one's pipes, and asks it over the same wire as the BEAM does.

Everything is said in the codec's own terms; names may be atoms or `bytes`, as they may be atoms or binaries in Elixir.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.errors import BridgeError, SerializationError
from erlbridge.tools.wire_end import WireClosed, WireEnd
from erlbridge.wire.answers import named, parse_error, text
from erlbridge.wire.frames import HEADER_BYTES

_BOOT_S: Final = 30.0
"""For a node to say that it is there, which takes 0.15 s on a machine that does nothing else."""
_END_S: Final = 30.0
"""For a node to end after its wire is closed; it does at once, but for what workers have to put down."""
_CREDIT: Final = 256
"""Events that may be on their way at once."""
_EXITS: Final = {2: ": wrong settings", 3: ": its workers cannot boot", 4: ": framing was lost", 70: ": its own fault"}

Event: TypeAlias = tuple[object, ...]
"""`{:progress, id, state}`, `{:chunk, id, piece}`, `{:log, level, text, about}` or `{:telemetry, …}`, as it came."""
Listener: TypeAlias = Callable[[Event], None]


class NodeGone(BridgeError):
    """The node ended; `code` is what it exited with, as far as that is known."""

    def __init__(self, code: int | None) -> None:
        known = "without a word" if code is None else f"with exit code {code}{_EXITS.get(code, '')}"
        super().__init__(f"the node ended {known}")
        self.code = code


class Client:
    """A node and a host's end of its wire. For one thread.

    Answers come in any order: `request` gives an id, `answer` waits for that one's answer and keeps the others.
    `on_event` hears of events while something is waited for. Elixir functions there are none here: a job that calls
    one gets an error for its value.

    Attributes:
        info: What `:ready` said, by name.
        process: The guardian, where this client has started it.
    """

    def __init__(
        self,
        incoming: int,
        outgoing: int,
        *,
        process: subprocess.Popen[bytes] | None = None,
        on_event: Listener | None = None,
        boot_s: float = _BOOT_S,
    ) -> None:
        """Takes the descriptors of a node that has said nothing yet, and waits for its first word.

        Args:
            incoming: Where the node writes.
            outgoing: Where it reads.

        Raises `NodeGone` when it ends before that.
        """
        self.process = process
        self.on_event = on_event
        self._wire = WireEnd(incoming, outgoing)
        self._ids = itertools.count(1)
        self._answers: dict[object, tuple[bool, object]] = {}
        self._parts: dict[object, _Parts] = {}
        self._spent = 0
        self.info: Mapping[str, object] = {}
        try:
            self._await_ready(boot_s)
        except BaseException as error:
            self.close(at_once=not isinstance(error, NodeGone))
            raise

    @classmethod
    def start(
        cls,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
        on_event: Listener | None = None,
    ) -> Self:
        """Starts `erlbridge serve` with these arguments. It hears no Ctrl-C of this terminal, and ends with
        this process.

        Args:
            environment: Variables on top of this process's own.
            launcher: What stands before the command, such as `nice`.

        Raises `NodeGone` when it ends at once, as with wrong settings; standard error says why.
        """
        process = subprocess.Popen(  # noqa: S603 - what runs here already, and what the caller says
            [*launcher, sys.executable, "-P", "-m", "erlbridge", "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes, as asked for
        incoming, outgoing = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdout.close()
        process.stdin.close()
        return cls(incoming, outgoing, process=process, on_event=on_event)

    # -- requests

    def ask(self, verb: str, payload: object, **meta: object) -> object:
        """Sends a request, waits for its answer and gives its result. `meta` is such as `deadline_ms=5000`.

        Raises the `BridgeError` that the node answered with, `NodeGone`, and `SerializationError` for what no frame
        can hold.
        """
        return self.answer(self.request(verb, payload, **meta))

    def request(self, verb: str, payload: object, **meta: object) -> int:
        """Sends a request and gives its id, for `answer`, `answered` and `cancel`. `meta` as for `ask`.

        Raises `SerializationError` for what no frame can hold, and `NodeGone`.
        """
        number = next(self._ids)
        request = (Atom(verb), number, payload)
        frame = term_to_binary((*request, {Atom(name): value for name, value in meta.items()}) if meta else request)
        limit = named(self.info.get("limits")).get("max_frame_bytes")
        if isinstance(limit, int) and len(frame) > limit:
            raise SerializationError(
                f"a request of {len(frame)} bytes, limit {limit}; send its examples as a dataset, "
                "or raise max_frame_bytes",
                context={"limit": limit},
            )
        self.send_frame(frame)
        return number

    def answer(self, number: int) -> object:
        """Waits for the answer to a request and gives its result; raises as `ask`."""
        while not self.answered(number):
            self.step()
        fine, term = self._answers.pop(number)
        if not fine:
            raise parse_error(term)
        return term

    def answered(self, number: int) -> bool:
        """Whether `answer` would give the answer to this request at once. Reads nothing: `step` does."""
        return number in self._answers

    def cancel(self, number: int) -> None:
        """Asks for a request's end; its answer comes all the same, as `Cancelled` with the best there was."""
        self.request("cancel", {Atom("id"): number})

    # -- the wire

    def step(self, timeout_s: float | None = None, wake: int | None = None) -> bool:
        """Takes the next message of the node, whichever it is; False when none came, as `WireEnd.receive` says."""
        frame = self.receive_frame(timeout_s, wake)
        if frame is None:
            return False
        self._take(binary_to_term(frame))
        return True

    def send_frame(self, frame: bytes) -> None:
        """Sends bytes as a frame, whatever they are. Raises `NodeGone`."""
        try:
            self._wire.send(frame)
        except WireClosed:
            raise NodeGone(self._code()) from None

    def receive_frame(self, timeout_s: float | None = None, wake: int | None = None) -> bytes | None:
        """The node's next frame as it is, which is then no answer to anybody; see `step`. Raises `NodeGone`."""
        try:
            return self._wire.receive(timeout_s, wake)
        except WireClosed:
            raise NodeGone(self._code()) from None

    def close(self, *, at_once: bool = False) -> int | None:
        """Closes the wire, on which the node ends with what it runs, and gives its exit code; None where this client
        has not started it. One that does not end is killed: by its guardian, soon, where nobody listens any more
        (`at_once`).
        """
        self._wire.close_writing()
        if self.process is not None and not at_once:
            # Its last words are read: it would wait for somebody to take them.
            with contextlib.suppress(WireClosed, OSError, BridgeError):
                while self._wire.receive(_END_S) is not None:
                    pass
        self._wire.close()
        return self._code()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None and not issubclass(kind, Exception))

    # -- what comes

    def _await_ready(self, boot_s: float) -> None:
        frame = self.receive_frame(boot_s)
        term = None if frame is None else binary_to_term(frame)
        match term:
            case (Atom() as tag, info) if str(tag) == "ready":
                self.info = named(info)
            case None:
                raise BridgeError(f"the node has said nothing within {boot_s:.0f} s")
            case _:
                raise BridgeError(f"expected {{:ready, …}} as the node's first word, got {term!r:.200}")
        granted = named(self.info.get("limits")).get("credit")
        self._grant(_CREDIT - granted if isinstance(granted, int) else _CREDIT)

    def _take(self, term: object) -> None:
        match term:
            case (Atom() as tag, number, result) if str(tag) == "ok":
                self._parts.pop(number, None)
                parts = _Parts.announced(result)
                if parts is None:
                    self._answers[number] = (True, result)
                else:
                    self._parts[number] = parts
            case (Atom() as tag, number, error) if str(tag) == "error":
                self._parts.pop(number, None)
                self._answers[number] = (False, error)
            case (Atom() as tag, number, chunk) if str(tag) == "data_chunk":
                self._spend()
                self._take_part(number, chunk)
            case (Atom() as tag, call_id, _, name, _) if str(tag) == "call":
                reason = f"{text(name)} is a function of Elixir, and this host is Python".encode()
                self.send_frame(term_to_binary((Atom("result"), call_id, (Atom("error"), reason))))
            case (Atom() as tag, _) if str(tag) == "call_over":
                pass
            case tuple():
                self._spend()
                if self.on_event is not None:
                    self.on_event(term)

    def _take_part(self, number: object, chunk: object) -> None:
        parts = self._parts.get(number)
        if parts is not None and parts.take(chunk):
            del self._parts[number]
            self._answers[number] = parts.result()

    def _spend(self) -> None:
        self._spent += 1
        if self._spent >= _CREDIT // 2:
            self._grant(self._spent)
            self._spent = 0

    def _grant(self, count: int) -> None:
        if count > 0:
            with contextlib.suppress(NodeGone):  # who waits for an answer hears of it
                self.send_frame(term_to_binary((Atom("credit"), count)))

    def _code(self) -> int | None:
        if self.process is None:
            return None
        try:
            return self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class _Parts:
    """A result above the frame limit, of which the chunks follow its answer."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._data: list[bytes] = []

    @classmethod
    def announced(cls, result: object) -> _Parts | None:
        """For `{:transfer, name, %{sha256: …}}`; None for any other result."""
        match result:
            case (Atom() as tag, bytes(), about) if str(tag) == "transfer":
                return cls(text(named(about).get("sha256")))
            case _:
                return None

    def take(self, chunk: object) -> bool:
        """Whether that was the last of it."""
        entries = named(chunk)
        data = entries.get("data")
        if isinstance(data, bytes):
            self._data.append(data)
        return entries.get("is_final") is True

    def result(self) -> tuple[bool, object]:
        """The answer, as if it had come whole."""
        stream = b"".join(self._data)
        if hashlib.sha256(stream).hexdigest() != self._digest:
            unfit = {"error_type": b"transfer_error", "message": b"the chunks of a result are not what was announced"}
            return False, {Atom(name): value for name, value in unfit.items()}
        return True, binary_to_term(stream[HEADER_BYTES:])
