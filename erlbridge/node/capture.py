"""The capture of a node: switched on by its settings, on and off by the verb `capture`.

The loop reads the request and looks whether a capture has ended by itself; files are opened and closed by the disk's
thread. What is needed to write one is loaded when one is asked for.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from erlbridge import __version__
from erlbridge.errors import ValidationError
from erlbridge.node.about import About
from erlbridge.node.config import NodeConfig
from erlbridge.node.disk import Errand
from erlbridge.node.secrets import redaction_of
from erlbridge.node.tap import Tap
from erlbridge.wire.capture import HOST
from erlbridge.wire.messages import Term
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom, atom_keys

if TYPE_CHECKING:
    from erlbridge.node.capture_log import CaptureLog

DIRECTORY: Final = "captures"
"""In the data directory: where captures lie that a host asks for."""
DEFAULT_NAME: Final = "capture.ecap"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class Capture:
    """What listens at the tap of one node. It does nothing until it is switched on."""

    def __init__(self, config: NodeConfig, about: About, tap: Tap) -> None:
        self._config = config
        self._about = about
        self._tap = tap
        self._log: CaptureLog | None = None
        self._changing = threading.Lock()
        """Held by the disk's thread while it exchanges the log; the loop never waits for it."""

    def begin(self) -> str | None:
        """Captures from the node's first frame on where the settings say so; gives what the host's log shall hear if it
        cannot."""
        if not self._config.capture:
            return None
        path = Path(self._config.capture)
        try:
            log = self._started(path)
        except OSError as error:
            return f"no capture is written to {path}: {error.strerror or error}; requests go on"
        log.add(HOST, "out", self._about.first_frame(), int(self._about.started_at * 1e9))
        return None

    def errand(self, payload: Term) -> Errand:
        """What a request asks of the disk. Raises `ValidationError` with the path."""
        entries = Place(payload, "payload").only(("mode", "name"))
        mode = entries["mode"].choice(("on", "off")) if "mode" in entries else None
        name = DEFAULT_NAME
        if "name" in entries:
            name = entries["name"].name()
            if mode != "on" or not _NAME.match(name):
                expected = "a name of letters, digits, `.`, `_` and `-`, with `mode: :on`"
                raise ValidationError(f"expected {expected}", entries["name"].path)
        match mode:
            case "on":
                path = self._config.data / DIRECTORY / name
                return Errand(lambda: self._switch_on(path))
            case "off":
                return Errand(self._switch_off)
            case _:
                return Errand(self._state)

    def complaints(self) -> tuple[str, ...]:
        """What the host's log has to hear of a capture that the disk has ended; told once."""
        log = self._log
        if log is None or (trouble := log.trouble) is None or not self._changing.acquire(blocking=False):
            return ()
        try:
            if self._log is not log:  # another has begun meanwhile
                return ()
            self._tap.hear = self._log = None
        finally:
            self._changing.release()
        return (f"the capture {log.files.path} has ended: {trouble}; requests go on",)

    def close(self) -> None:
        """The node ends: what was captured is written."""
        self._end("the node ended")

    # -- what may wait for the disk

    def _switch_on(self, path: Path) -> Term:
        with self._changing:
            log = self._log
            if log is None or log.trouble is not None or log.files.wanted != path:
                if path.parent.is_symlink():
                    raise NotADirectoryError(f"{path.parent} is a link; captures go into the data directory itself")
                self._end("another was asked for")
                self._started(path)
            return self._state()

    def _switch_off(self) -> Term:
        with self._changing:
            ended = self._end("switched off")
            return self._state(ended)

    def _started(self, path: Path) -> CaptureLog:
        from erlbridge.node.capture_files import CaptureFiles  # noqa: PLC0415 - for those who capture
        from erlbridge.node.capture_log import CaptureLog  # noqa: PLC0415

        config = self._config
        files = CaptureFiles(path, config.capture_bytes, config.capture_files)
        files.open()
        facts = {"node_version": __version__, "dspy": self._about.dspy or "none", "os_pid": os.getpid()}
        redaction = redaction_of(config) if config.capture_redact else None
        try:
            log = self._log = CaptureLog(files, redaction, config.capture_frame_bytes, facts)
        except BaseException:  # the disk is full, or there is no room for a thread
            files.close()
            raise
        self._tap.hear = log.add
        return log

    def _end(self, reason: str) -> CaptureLog | None:
        log, self._log = self._log, None
        self._tap.hear = None  # a frame that the loop hands over at this very moment may be missing
        if log is not None:
            log.close(reason)
        return log

    def _state(self, ended: CaptureLog | None = None) -> Term:
        log = self._log
        told = log or ended
        answer: dict[str, Term] = {"status": atom("success"), "mode": atom("off" if log is None else "on")}
        if told is not None:
            done = told.progress()
            file = os.fsencode(told.files.path)
            answer |= {"file": file, "count": done.frames, "bytes": done.bytes, "lost": done.lost}
        return atom_keys(answer)
