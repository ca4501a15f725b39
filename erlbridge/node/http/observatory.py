"""The loop's side of HTTP: hears what happens, notes it in the chronicle, answers the thread that serves.

Of the loop's time it takes a sample of all processes each second (0.4 ms), and microseconds for what happens.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from erlbridge.codec import Atom
from erlbridge.core.queue import Entry
from erlbridge.core.roster import Worker
from erlbridge.errors import ProcessCrashed
from erlbridge.node.config import NodeConfig
from erlbridge.node.http.admission import Admission
from erlbridge.node.http.chronicle import Chronicle
from erlbridge.node.http.frames import FrameViews
from erlbridge.node.http.mailbox import Mailbox
from erlbridge.node.http.metrics import Metrics
from erlbridge.node.http.routes import Desk
from erlbridge.node.http.server import Server
from erlbridge.node.secrets import redaction_of
from erlbridge.node.watcher import Watcher
from erlbridge.wire.messages import Request, Term

if TYPE_CHECKING:
    from erlbridge.node.node import Node

_PULSE_S: Final = 1.0
_SOON_S: Final = 0.2
"""How long after a change its pulse may come: not one for each of a thousand answers a second."""
_METRICS: Final = (Atom("metrics"), Atom("optimization_metrics"))
_CONTEXT: Final = Atom("context")


class Observatory(Watcher):
    """Watches one node."""

    def __init__(self, node: Callable[[], Node], config: NodeConfig, listening: socket.socket | None) -> None:
        self._node = node
        self._chronicle = Chronicle()
        self._mailbox = Mailbox()
        self._admission = Admission.of(config)
        self._frames = FrameViews(redaction_of(config))
        os.environ.pop(config.http_token_env, None)  # before workers inherit it, who could cancel each other's jobs
        self._address = config.http
        self._listening = listening
        self._server: Server | None = None
        self._kept_at = 0.0
        self._pulse_at = 0.0

    # -- what happens

    def frame(self, outgoing: bool, frame: bytes | memoryview) -> None:
        self._chronicle.frame(outgoing, frame)

    def arrived(self, key: bytes, request: Request, size: int) -> None:
        self._chronicle.arrived(key, request, size, time.monotonic())

    def sent(self, entry: Entry, worker: int) -> None:
        self._chronicle.sent(entry.key, worker, self._changed())

    def progressed(self, entry: Entry, state: Term) -> None:
        assert entry.worker is not None  # noqa: S101 - it has told
        self._chronicle.progressed(entry.key, entry.worker, state, time.monotonic())

    def finished(self, entry: Entry, ok: bool, term: Term) -> None:
        assert entry.worker is not None  # noqa: S101 - it has ended
        told = term if isinstance(term, Mapping) else {}
        names = _METRICS if ok else (_CONTEXT,)
        spent = next((found for name in names if isinstance(found := told.get(name), Mapping)), {})
        self._chronicle.finished(entry.worker, {str(name): spent[name] for name in spent})

    def answered(self, key: bytes, answer: tuple[Term, ...], size: int) -> None:
        self._chronicle.answered(key, answer, size, self._changed())

    def died(self, worker: Worker | None, cause: ProcessCrashed) -> None:
        self._changed()
        if worker is not None and worker.killed and worker.verdict is None:
            self._chronicle.died("replaced")  # worn, or not wanted any more
        else:
            verdict = None if worker is None else worker.verdict
            self._chronicle.died(verdict.reason if verdict else str(cause.context.get("reason")))

    def logged(self, level: str, line: bytes, worker: int | None, job: Term, logger: bytes | None) -> None:
        self._chronicle.logged(level, line, worker, job, logger)

    def _changed(self) -> float:
        now = time.monotonic()
        self._pulse_at = min(self._pulse_at, now + _SOON_S)
        return now

    # -- the loop's turns

    def due_at(self) -> float | None:
        return self._pulse_at

    def look(self, now: float) -> None:
        if now < self._pulse_at:
            return
        node = self._node()
        if self._server is None:
            self._server = self._start(node)
        keep = now >= self._kept_at
        if keep:
            self._kept_at = now + _PULSE_S
        self._pulse_at = self._kept_at
        self._chronicle.beat(node.health(), keep=keep)

    def _start(self, node: Node) -> Server:
        node.selector.register(self._mailbox.bell, selectors.EVENT_READ, lambda _events: self._mailbox.serve(node))
        desk = Desk(self._chronicle, self._mailbox, Metrics(self._chronicle), self._frames)
        server = Server(desk, self._admission, self._address, self._listening)
        self._mailbox.on_answer = server.bell.ring
        server.start()
        return server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
