"""Captures for the tests: frames that nobody sent, with times that are said, and those of a real conversation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from node_client import NodeClient

from erlbridge.codec import Atom, term_to_binary
from erlbridge.wire.capture import FILE_HEADER, HOST, Direction, Note, Record, encoded

BEGIN_NS = 1_795_000_000_000_000_000
"""Of the clock on the wall, when every capture here begins: on a 18th of November, 2026."""


def a(name: str) -> Atom:
    return Atom(name)


class Capture:
    """A capture that is written frame by frame; `later` moves its clock."""

    def __init__(self) -> None:
        self.data = bytearray(FILE_HEADER)
        self.now_ns = 0
        self.count = 0

    def later(self, milliseconds: float) -> Capture:
        self.now_ns += int(milliseconds * 1e6)
        return self

    def frame(
        self, direction: Direction, data: bytes, *, wire: int = HOST, size: int = 0, redacted: bool = False
    ) -> Capture:
        self.count += 1
        self.data += encoded(
            Record(
                self.count,
                wire,
                direction,
                self.now_ns,
                BEGIN_NS + self.now_ns,
                size or len(data),
                data,
                redacted=redacted,
            )
        )
        return self

    def host(self, term: Any) -> Capture:
        """What the host says to the node."""
        return self.frame("in", term_to_binary(term))

    def node(self, term: Any) -> Capture:
        """What the node says to the host."""
        return self.frame("out", term_to_binary(term))

    def to_worker(self, number: int, term: Any) -> Capture:
        return self.frame("out", term_to_binary(term), wire=number)

    def worker(self, number: int, term: Any) -> Capture:
        """What a worker says to the node."""
        return self.frame("in", term_to_binary(term), wire=number)

    def lost(self, frames: int) -> Capture:
        self.data += encoded(
            Note(self.count + 1, "lost", {"frames": frames, "bytes": 10 * frames}, self.now_ns, BEGIN_NS)
        )
        return self

    def write(self, path: Path) -> Path:
        path.write_bytes(self.data)
        return path


def conversation() -> Capture:
    """A prediction that a worker runs, one that fails, bytes that are no term, and one without an answer."""
    payload = {a("program"): b"program:12", a("input"): {a("question"): b"1 + 1"}}
    failure = {a("error_type"): a("lm_error"), a("message"): b"429 from the endpoint", a("traceback"): None}
    progress = {a("stage"): a("predicting"), a("done"): 1, a("total"): None}
    return (
        Capture()
        .node((a("ready"), {a("version"): b"0.1.0", a("os_pid"): 4711, a("workers"): 2, a("codec"): a("compiled")}))
        .later(10)
        .host((a("predict"), 7, payload))
        .later(2)
        .to_worker(1, (a("run"), a("predict"), payload, {}))
        .later(500)
        .worker(1, (a("progress"), progress))
        .node((a("progress"), 7, progress))
        .later(300)
        .worker(1, (a("ok"), {a("status"): a("success"), a("answer"): b"2"}))
        .later(1)
        .node((a("ok"), 7, {a("status"): a("success"), a("answer"): b"2"}))
        .later(1000)
        .host((a("predict"), (a("job"), 8), payload))
        .later(50)
        .node((a("error"), (a("job"), 8), failure))
        .frame("in", b"\x83h\x02a\x01")
        .node((a("error"), None, {a("error_type"): a("serialization_error"), a("message"): b"cut"}))
        .host((a("health_check"), 9, {}))
    )


class Overheard:
    """A real node and a capture of what is said with it, as the host hears it."""

    def __init__(self, node: NodeClient) -> None:
        self.capture = Capture()
        self.capture.now_ns = time.monotonic_ns()
        self._node = node

    def ask(self, *request: Any) -> Any:
        """Sends a request, and hears everything up to its answer."""
        self.capture.host(request)
        self._node.send(request)
        while True:
            term = self._node.receive()
            self.capture.node(term)
            if str(term[0]) in ("ok", "error") and term[1] == request[1]:
                return term
