"""The audit log as the node's loop sees it: told of each request, of its worker and of its answer.

One line for each request goes out with its answer, and one for the node's start and end. Left out are a health_check
that was answered, which would drown the rest, and `:credit` and `:result`, which are no requests. Knows clocks; what a
line may hold is decided in `core.audit`.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Final

from erlbridge import __version__
from erlbridge.core.audit import Handled, Record, digest, rendered
from erlbridge.node.about import About
from erlbridge.node.audit_files import AuditFiles
from erlbridge.node.audit_log import AuditLog, Synced
from erlbridge.node.config import NodeConfig
from erlbridge.wire.messages import Request, Term
from erlbridge.wire.vocabulary import atom_keys

_LEFT_OUT: Final = "health_check"
_SUMMED_ELSEWHERE: Final = "data_chunk"
"""Its bytes are a dataset's, whose name is their sum: another pass over them costs as much as the rest."""
_MOST_HELD_BYTES: Final = 64 * 1024
"""Of answers whose lines are not made yet."""


class Audit:
    """One node's audit log; does nothing when the configuration says so."""

    def __init__(self, config: NodeConfig, about: About) -> None:
        self._open: dict[bytes, Handled] = {}
        self._answered: list[tuple[Handled, tuple[Term, ...], bytes, float]] = []
        self._answered_bytes = 0
        self._log: AuditLog | None = None
        self._stated: tuple[Synced, int, Term] | None = None
        if config.audit:
            stamp: Record = {"os_pid": os.getpid(), "start": os.urandom(8).hex()}
            files = AuditFiles(config.data / "audit", config.audit_max_bytes, config.audit_files, stamp)
            self._log = AuditLog(files)
            self._log.add(_started(config, about))

    def arrived(self, key: bytes, frame: bytes | memoryview, request: Request | None) -> None:
        """A frame came that is answered under the id with this key; `request` is None when it held none."""
        if self._log is not None:
            now, verb = time.monotonic(), None if request is None else request.verb
            # A long frame is a view, which is good for now only.
            unsummed = frame if verb == _LEFT_OUT and isinstance(frame, bytes) else None
            summed = None if unsummed is not None or verb == _SUMMED_ELSEWHERE else digest(frame)
            earlier = self._open.pop(key, None)
            self._open[key] = Handled(key, request, len(frame), summed, now, earlier=earlier, unsummed=unsummed)

    def sent(self, key: bytes, worker: int) -> None:
        """A worker got the request."""
        if handled := self._open.get(key):
            handled.sent_at, handled.worker = time.monotonic(), worker

    def answered(self, key: bytes, answer: tuple[Term, ...], frame: bytes) -> None:
        """The request's answer goes out; `write` tells of it."""
        if self._log is None or (handled := self._open.pop(key, None)) is None:
            return
        if handled.earlier is not None:
            self._open[key] = handled.earlier
        if handled.request is None or handled.request.verb != _LEFT_OUT or str(answer[0]) != "ok":
            self._answered.append((handled, answer, frame, time.monotonic()))
            self._answered_bytes += len(frame)
            if self._answered_bytes > _MOST_HELD_BYTES:
                self.write()

    def write(self) -> None:
        """Hands over the lines of what has been answered. The loop does it when the answers are on their way, so that
        no host waits for sums of bytes and for a thread to wake."""
        if self._answered and self._log is not None:
            for handled, answer, frame, at in self._answered:
                self._log.add(handled.record(answer, len(frame), digest(frame), at))
            self._answered.clear()
            self._answered_bytes = 0

    def complaints(self) -> list[str]:
        """What the host's log has to hear of the disk; each is told once."""
        found: list[str] = []
        while self._log is not None and self._log.complaints:
            found.append(self._log.complaints.popleft())
        return found

    def state(self) -> Term:
        """For health_check: how far the chain is on the disk, and how many lines were lost. None: there is no log."""
        if self._log is None:
            return None
        synced, lost = self._log.synced, self._log.lost
        if self._stated is None or self._stated[:2] != (synced, lost):
            state = atom_keys({"sequence": synced.sequence, "head": synced.head, "lost": lost})
            self._stated = synced, lost, state
        return self._stated[2]

    def close(self, exit_code: int) -> None:
        """Writes what became of requests that nobody waits for any more, and the node's end."""
        if self._log is None:
            return
        self.write()
        now = time.monotonic()
        for newest in self._open.values():
            handled: Handled | None = newest
            while handled is not None:
                self._log.add(handled.record(None, 0, "", now))
                handled = handled.earlier
        self._log.add({"event": "stopped", "exit_code": exit_code})
        self._log.close()


def _started(config: NodeConfig, about: About) -> Record:
    """The node's first record. The configuration is told by a hash: the same settings, the same hash."""
    settings = {**asdict(config), "data": str(config.data)}
    return {
        "event": "started",
        "node_version": __version__,
        "python": about.python,
        "dspy": about.dspy or "none",
        "config_sha256": digest(rendered(settings)),
    }
