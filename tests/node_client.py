"""A host in Python: starts `python -m erlbridge serve` and speaks frames with it, as a BEAM's port would."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.wire.frames import FrameReader

PATIENCE_S = 60.0
"""How long a node may say nothing."""
LONG_PATIENCE_S = 110.0
"""How long it may say anything but what a test waits for: below pytest's own limit, which tells nothing of the node."""


class NodeGone(Exception):
    """The node closed its end of the wire; `code` is what it exited with."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"the node exited with {code}")
        self.code = code


class NodeClient:
    """A node and this side of its wire: `process` is the guardian, `node_pid` the node itself, known once it is ready.

    Reads block for at most `PATIENCE_S`, `until` for at most `LONG_PATIENCE_S` though events keep coming.
    """

    node_pid: int

    def __init__(
        self,
        *arguments: str,
        data: Path,
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.ids = itertools.count(1)
        self.events: list[Any] = []
        self.reader = FrameReader(2**31)
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "erlbridge", "serve", "--data", str(data), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            bufsize=0,
        )
        self.tree: set[int] = {self.process.pid}

    # -- the wire

    def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def send_frame(self, frame: bytes) -> None:
        self.send_bytes(len(frame).to_bytes(4) + frame)

    def send(self, term: object) -> None:
        self.send_frame(term_to_binary(term))

    def receive(self) -> Any:
        """The next term; raises `NodeGone` when the node has closed the wire."""
        return next(self.terms())

    def terms(self) -> Iterator[Any]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for frame in self.reader:
                yield binary_to_term(frame)
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"nothing from the node for {PATIENCE_S} s; so far {self.events[-5:]}"
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise NodeGone(self.process.wait(PATIENCE_S))
            self.reader.feed(data)

    def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The next term that is wanted; what comes before it is kept in `events`."""
        deadline = time.monotonic() + LONG_PATIENCE_S
        while not wanted(term := self.receive()):
            self.events.append(term)
            assert time.monotonic() < deadline, f"not heard in {LONG_PATIENCE_S} s; the last were {self.events[-5:]}"
        return term

    # -- requests

    def ready(self) -> dict[Any, Any]:
        tag, info = self.receive()
        assert tag == Atom("ready")
        self.node_pid = int(info[Atom("os_pid")])
        return info

    def request(self, verb: str, payload: object, meta: object = None) -> int:
        """Sends a request under a fresh id and gives the id."""
        number = next(self.ids)
        self.send((Atom(verb), number, payload) if meta is None else (Atom(verb), number, payload, meta))
        return number

    def answer(self, number: object) -> tuple[str, Any]:
        """The answer to a request, as `("ok", result)` or `("error", map)`."""
        term = self.until(lambda term: str(term[0]) in ("ok", "error") and term[1] == number)
        return str(term[0]), term[2]

    def ask(self, verb: str, payload: object, meta: object = None) -> tuple[str, Any]:
        """Sends a request and waits for its answer."""
        return self.answer(self.request(verb, payload, meta))

    def health(self) -> dict[Any, Any]:
        tag, result = self.ask("health_check", {})
        assert tag == "ok"
        return result

    def wait_until_healthy(self) -> dict[Any, Any]:
        """Asks until every worker has booted."""
        deadline = time.monotonic() + PATIENCE_S
        while (health := self.health())[Atom("status")] != Atom("healthy"):
            assert time.monotonic() < deadline, health
            select.select([], [], [], 0.02)
        return health

    # -- processes

    def note_tree(self) -> set[int]:
        """Remembers every process of the node that is alive now."""
        self.tree |= descendants(self.process.pid) | {self.process.pid}
        return self.tree

    def close_wire(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Ends the node and sees that nothing of it is left."""
        if self.process.poll() is None:
            self.note_tree()
        self.close_wire()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
        await_gone(self.tree)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def await_gone(pids: set[int], within_s: float = 5.0) -> None:
    """Waits until none of the processes runs."""
    deadline = time.monotonic() + within_s
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {left}"
        select.select([], [], [], 0.005)


def descendants(pid: int) -> set[int]:
    """Every child of a process, and theirs."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(child) for child in task.read_text().split()]
                found.update(children)
                waiting += children
    return found
