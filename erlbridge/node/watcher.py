"""Who hears what happens in the node's loop: nobody, unless the setting `http` gives an address to look from.

The loop calls these methods as things happen and never waits for what they do. `node.http` is loaded only when an
address is set; without one a node neither opens a port nor keeps anything for one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from erlbridge.core.queue import Entry
from erlbridge.core.roster import Worker
from erlbridge.errors import ProcessCrashed
from erlbridge.node.config import NodeConfig
from erlbridge.wire.messages import Request, Term

if TYPE_CHECKING:
    from erlbridge.node.node import Node


class Watcher:
    """Hears what happens, and does nothing with it."""

    def frame(self, outgoing: bool, frame: bytes | memoryview) -> None:
        """A frame came from the host, or goes to it."""

    def arrived(self, key: bytes, request: Request, size: int) -> None:
        """A request came in, in a frame of so many bytes, and will be answered."""

    def sent(self, entry: Entry, worker: int) -> None:
        """A worker has a request's job."""

    def progressed(self, entry: Entry, state: Term) -> None:
        """A job has come this far; `state` is the map that the host gets."""

    def finished(self, entry: Entry, ok: bool, term: Term) -> None:
        """A worker has ended a job, with a result or an error map. What it cost is in these."""

    def answered(self, key: bytes, answer: tuple[Term, ...], size: int) -> None:
        """A request's one answer has gone out: `{:ok, id, result}` or `{:error, id, error}`."""

    def died(self, worker: Worker | None, cause: ProcessCrashed) -> None:
        """A worker is gone; None when it was taken for gone already."""

    def logged(self, level: str, line: bytes, worker: int | None, job: Term, logger: bytes | None) -> None:
        """A line for the host's log."""

    def due_at(self) -> float | None:
        """When `look` has something to do, on the monotonic clock; None when it never has."""
        return None

    def look(self, now: float) -> None:
        """Sees to what is due."""

    def close(self) -> None:
        """The node ends."""


def watcher_of(node: Callable[[], Node], config: NodeConfig, listening: socket.socket | None) -> Watcher:
    """Who watches a node.

    Args:
        node: Gives the node, once it is put together.
        config: The node's; of its setting `http` depends whether anybody does.
        listening: The socket at that address; None where it could not be had, to be tried again.
    """
    if not config.http:
        return Watcher()
    from erlbridge.node.http.observatory import Observatory  # noqa: PLC0415 - for those who set an address

    return Observatory(node, config, listening)
