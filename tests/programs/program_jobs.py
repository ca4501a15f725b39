"""What the tests of programs are made of: jobs on the shipped tickets, an observer that remembers, a real endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.functions import returned, value_of
from erlbridge.core.jobs import Chunk, Outcome, Progress, parse_job
from erlbridge.core.spelling import Spelling
from erlbridge.errors import BridgeError
from erlbridge.programs.run import run

CATEGORIES = ("account", "billing", "shipping", "technical")


def atoms(value: object) -> object:
    """A Python value as Elixir would write it: maps with atom keys, text as binaries."""
    match value:
        case dict():
            return {Atom(key) if isinstance(key, str) else key: atoms(item) for key, item in value.items()}
        case list():
            return [atoms(item) for item in value]
        case str():
            return value.encode()
        case _:
            return value


def plain(value: object) -> Any:
    """A term as Python reads it best: atoms and binaries as text, whatever a key's spelling."""
    match value:
        case Atom():
            return str(value)
        case bytes():
            return value.decode()
        case Mapping():
            return {plain(key): plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


@dataclass
class Watcher:
    """An observer that keeps what it is told, says `stop` once `stop_when` does, and has functions to be called."""

    stop_when: Callable[[Progress], bool] | None = None
    reason: BridgeError | None = None
    seen: list[Progress] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    stop_at_chunk: int | None = None
    stopping: bool = False
    functions: dict[str, Callable[..., object]] = field(default_factory=dict)
    called: list[tuple[str, list[Any]]] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    asking: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))

    def progress(self, state: Progress) -> None:
        self.seen.append(state)
        if self.stop_when is not None and self.stop_when(state):
            self.stopping = True

    def chunk(self, piece: Chunk) -> None:
        self.chunks.append(piece)
        self.stopping = self.stopping or len(self.chunks) == self.stop_at_chunk

    def keep(self, program_id: str, program: bytes) -> None:
        self.kept[program_id] = program

    def stop_reason(self) -> BridgeError | None:
        return self.reason if self.stopping else None

    def call(self, name: Atom | bytes, arguments: list[object], timeout_ms: int | None) -> Future[object]:
        """Runs the function of that name as a host would: its arguments and its value cross as terms."""
        text = plain(name)
        received = binary_to_term(term_to_binary(arguments))
        self.called.append((text, plain(received)))

        def run_function() -> object:
            try:
                outcome = returned(True, self.functions[text](*plain(received)))
            except ValueError as error:
                outcome = returned(False, str(error))
            return value_of(binary_to_term(term_to_binary(outcome)), name)

        return self.asking.submit(run_function)

    def stages(self) -> list[str]:
        """The stages in the order in which they began."""
        names = [state.stage for state in self.seen]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


@dataclass
class Jobs:
    """Builds requests on the tickets and runs them."""

    tickets: list[dict[str, str]]
    watcher: Watcher = field(default_factory=Watcher)

    @property
    def signature(self) -> dict[str, object]:
        return {
            "name": "Triage",
            "instructions": "Sort the ticket into its category.",
            "input_fields": ["subject", "body"],
            "output_fields": [{"name": "category", "enum": list(CATEGORIES)}],
        }

    def run(
        self, verb: str, payload: Mapping[str, object], programs: Mapping[str, bytes] | None = None
    ) -> tuple[Any, Outcome]:
        """Runs a payload; gives its result in plain Python beside the outcome itself."""
        term = atoms(dict(payload))
        outcome = run(parse_job(verb, term), self.watcher, programs or {}, Spelling.of(term))
        return plain(outcome.result), outcome

    def optimize(self, optimizer: str, *, train: int = 64, dev: int = 40, **config: object) -> tuple[Any, Outcome]:
        payload = {
            "signature": self.signature,
            "training_data": self.tickets[:train],
            "validation_data": self.tickets[64 : 64 + dev],
            "config": {"lm": Atom("offline"), "optimizer": optimizer, **config},
        }
        return self.run("optimize_signature", payload)

    def evaluate(self, program: object, *, count: int = 10, metric: object = None, **config: object) -> Any:
        source = (
            {"signature": program} if isinstance(program, dict) and "input_fields" in program else {"program": program}
        )
        payload = {
            **source,
            "data": self.tickets[:count],
            "metric": metric,
            "config": {"lm": Atom("offline"), **config},
        }
        return self.run("evaluate_pipeline", payload)[0]


# -- a real endpoint --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """One answer of the endpoint. `hangs` waits until the test is over before it answers.

    With `pieces` it is a stream of them; then it ends, or breaks off, or goes on with the last one until nobody reads.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    pieces: tuple[str, ...] = ()
    then: str = "end"


def completion(text: str, *, asked: int = 100, answered: int = 10) -> Reply:
    """A chat completion with this text and this usage."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
    body = {"id": "c-1", "object": "chat.completion", "created": 0, "model": "x", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(body).encode())


def category(value: str, **usage: int) -> Reply:
    """An answer in the form of DSPy's chat adapter."""
    return completion(f"[[ ## category ## ]]\n{value}\n\n[[ ## completed ## ]]", **usage)


def streaming(*pieces: str, then: str = "end") -> Reply:
    """A chat completion in these pieces. `then`: `end`, `break` or `repeat`."""
    return Reply(pieces=pieces, then=then, headers={"Content-Type": "text/event-stream"})


def failure(status: int, message: str, *, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI writes it. Underscores in header names become hyphens."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


class Endpoint:
    """An OpenAI chat endpoint on a loopback port that answers as the test says and keeps what it was asked."""

    def __init__(self) -> None:
        self.default: Callable[[dict[str, Any]], Reply] = lambda request: category("billing")
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.over = threading.Event()
        self._script: list[Reply] = []
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = endpoint.answer(body, dict(self.headers))
                if reply.hangs:
                    endpoint.over.wait(30)
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    if reply.pieces:
                        self.end_headers()
                        return self.stream(reply)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except OSError:
                    pass  # the client did not wait

            def stream(self, reply: Reply) -> None:
                for piece in reply.pieces:
                    self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
                while reply.then == "repeat" and not endpoint.over.wait(0.005):
                    self.event({"choices": [{"index": 0, "delta": {"content": reply.pieces[-1]}}]})
                if reply.then == "end":
                    self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                    self.event({"choices": [], "usage": usage})
                    self.wfile.write(b"data: [DONE]\n\n")

            def event(self, data: dict[str, object]) -> None:
                data = {"id": "c-1", "object": "chat.completion.chunk", "created": 0, "model": "x", **data}
                self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")
                self.wfile.flush()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def script(self, *replies: Reply) -> None:
        """The next answers, in order; after them the default one."""
        self._script.extend(replies)

    def always(self, reply: Reply) -> None:
        self.default = lambda request: reply

    def answer(self, request: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            return self._script.pop(0) if self._script else self.default(request)

    def lm(self, **options: object) -> dict[str, object]:
        """This endpoint as a request names it."""
        return {"model": "openai/x", "api_base": self.url, "timeout_ms": 5000, **options}

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
