"""A host that notes what it was promised: what a node has acknowledged must be there, whatever becomes of the node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node_client import NodeClient
from streams import name_of

from erlbridge.codec import Atom

REFUSALS: Final = ("storage_error", "overloaded")
"""What a request may be answered that the disk refused."""


BEAM: Final = ("elixir", "--erl", "-noinput", str(Path(__file__).with_name("relay.exs")))
"""The launcher of a node whose host is a BEAM; the process that is started is the BEAM itself."""
KILL_OWNER: Final = b"kill owner"


class Broken(Exception):
    """A promise was not kept."""


class Crashed(Broken):
    """A request was answered that its worker died, which is none of its promises where somebody has killed it."""


def _atoms(fields: dict[str, object]) -> dict[Any, Any]:
    return {Atom(key): value for key, value in fields.items()}


@dataclass(slots=True)
class Ledger:
    """What was acknowledged. Of what is in none of these (asked for and not answered), both may be true."""

    taken: dict[str, int] = field(default_factory=dict)
    """By transfer: how many of its chunks."""
    datasets: dict[str, bytes] = field(default_factory=dict)
    """By name: the stream."""
    programs: dict[bytes, Any] = field(default_factory=dict)
    """By id: the program, `plain`."""
    gone: set[bytes] = field(default_factory=set)
    """Programs that were deleted."""
    results: dict[str, Any] = field(default_factory=dict)
    """By idempotency key: the result, `plain` and without its metrics."""
    models: set[bytes] = field(default_factory=set)

    @property
    def size(self) -> int:
        return sum(map(len, (self.taken, self.datasets, self.programs, self.gone, self.results, self.models)))


class Host:
    """Speaks with one node at a time, and keeps the ledger of them all.

    Args:
        data: The nodes' data directory.
        refused: Called when the disk has refused a request, before it is made once more; gives whether it may be.
        launcher: What starts the node's program: nothing, or a BEAM whose port it becomes.

    Attributes:
        cut_at: Before the answer to the request of this number, from 1, the port's owner is killed; 0: never.
    """

    def __init__(self, data: Path, refused: Callable[[], bool] = lambda: False, launcher: Sequence[str] = ()) -> None:
        self.data = data
        self.ledger = Ledger()
        self.refusals = 0
        self.requests = 0
        self.cut_at = 0
        self._refused = refused
        self._launcher = launcher
        self._node: NodeClient | None = None

    @property
    def node(self) -> NodeClient:
        assert self._node is not None
        return self._node

    @contextlib.contextmanager
    def with_node(self, *arguments: str, **environment: str) -> Iterator[NodeClient]:
        """Starts a node, and ends it; whatever is left of it then is an error."""
        asked = ("--workers", "1", "--spare-workers", "0", *arguments)
        node = self._node = NodeClient(*asked, data=self.data, environment=environment, launcher=self._launcher)
        try:
            node.ready()
            node.send((Atom("credit"), 1_000_000))
            yield node
        finally:
            node.close()

    def successor(self) -> Host:
        """Another host, with the ledger of this one, whose nodes are started without a BEAM."""
        other = Host(self.data)
        other.ledger = self.ledger
        return other

    # -- requests

    def ask(self, verb: str, meta: dict[str, object] | None = None, **fields: object) -> dict[str, Any]:
        """The result of a request that must succeed: at once, or when the disk takes it again."""
        self.requests += 1
        number = self.node.request(verb, _atoms(fields), _atoms(meta or {}))
        if self.requests == self.cut_at:
            self.node.send_frame(KILL_OWNER)
        tag, answer = self.node.answer(number)
        if tag == "error" and str(answer[Atom("error_type")]) in REFUSALS and self._refused():
            self.refusals += 1
            tag, answer = self.node.ask(verb, _atoms(fields), _atoms(meta or {}))
        if tag != "ok":
            kind = Crashed if str(answer[Atom("error_type")]) == "process_crashed" else Broken
            raise kind(f"{verb} was answered {answer[Atom('error_type')]}: {answer[Atom('message')].decode()}")
        return {str(key): value for key, value in answer.items()}

    def is_missing(self, verb: str, **fields: object) -> bool:
        """Whether a request is answered `:not_found`."""
        tag, answer = self.node.ask(verb, _atoms(fields))
        return tag == "error" and str(answer[Atom("error_type")]) == "not_found"

    def send(self, transfer: str, stream: bytes, payloads: list[dict[Any, Any]]) -> None:
        """Sends a dataset from where the node says it goes on."""
        told = self.ask("transfer_status", transfer=transfer.encode())
        if told["status"] == Atom("finished"):
            self._finished(transfer, stream, told)
            return
        for payload in payloads[told["next_index"] :]:
            told = self.ask("data_chunk", **{str(key): value for key, value in payload.items()})
            self.ledger.taken[transfer] = told["next_index"]
        self._finished(transfer, stream, told)

    def _finished(self, transfer: str, stream: bytes, told: dict[str, Any]) -> None:
        if told["dataset"] != name_of(stream).encode():
            raise Broken(f"transfer {transfer} became {told['dataset']!r}")
        self.ledger.taken.pop(transfer, None)
        self.ledger.datasets[name_of(stream)] = stream

    def keyed(self, verb: str, key: str, **fields: object) -> dict[str, Any]:
        """The result of a request with an idempotency key."""
        result = self.ask(verb, {"idempotency_key": key.encode()}, **fields)
        self.ledger.results[key] = _without_metrics(result)
        return result

    # -- what was promised

    def check(self, *, results_last: bool = True) -> None:
        """Asks for all that was acknowledged, and reads all that is listed. Raises `Broken`.

        Args:
            results_last: Whether stored results are promised: a disk that refuses them costs a log line alone.
        """
        for transfer, taken in self.ledger.taken.items():
            told = self.ask("transfer_status", transfer=transfer.encode())
            if told["status"] != Atom("finished") and told["next_index"] < taken:
                raise Broken(f"transfer {transfer} goes on at {told['next_index']}, and {taken} was acknowledged")
        for name, stream in self.ledger.datasets.items():
            if self.read_dataset(name) != stream:
                raise Broken(f"dataset {name} is not what was sent")
        listed = {entry[Atom("program_id")] for entry in self.ask("list_programs", limit=1000)["programs"]}
        for program_id in listed | set(self.ledger.programs):
            found = plain(self.ask("get_program", program_id=program_id)["program"])
            if found != self.ledger.programs.get(program_id, found):
                raise Broken(f"{program_id!r} is not what was stored")
        if lost := set(self.ledger.programs) - listed:
            raise Broken(f"{lost} is not listed")
        if back := self.ledger.gone & listed:
            raise Broken(f"{back} was deleted and is listed")
        for key, result in self.ledger.results.items():
            if not results_last and self.is_missing("fetch_result", idempotency_key=key.encode()):
                continue
            if _without_metrics(self.ask("fetch_result", idempotency_key=key.encode())["result"]) != result:
                raise Broken(f"the result of {key} is not what was answered")

    def read_dataset(self, name: str) -> bytes:
        """The whole stream of a dataset."""
        parts: list[bytes] = []
        while True:
            part = self.ask("get_dataset", dataset=name.encode(), offset=sum(map(len, parts)))
            parts.append(part["data"])
            if part["is_final"]:
                return b"".join(parts)


def plain(term: Any) -> Any:
    """A term with binaries for atoms, whose place a request's own words decide."""
    match term:
        case Atom():
            return str(term).encode()
        case dict():
            return {plain(key): plain(value) for key, value in term.items()}
        case list():
            return [plain(element) for element in term]
        case tuple():
            return tuple(plain(element) for element in term)
        case _:
            return term


def _without_metrics(result: dict[Any, Any]) -> Any:
    return {str(key): plain(value) for key, value in result.items() if not str(key).endswith("metrics")}
