"""A capture being written, by a thread of its own: the node's loop hands frames over and never waits for a disk.

Frames that find the queue full are lost, counted, and told of in the capture where they are missing. A disk that
refuses ends the capture, and nothing else. Knows clocks and threads; the format is `wire.capture`'s.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from erlbridge.node.capture_files import CaptureFiles
from erlbridge.wire.capture import Direction, Note, encoded, frame_header
from erlbridge.wire.redaction import Redaction

_GATHER_S: Final = 0.02
"""How long a first frame waits for others: handing the interpreter over for each costs more than writing it."""
_BATCH_FRAMES: Final = 64
"""Written at once, half a millisecond in which the loop may have to wait for the interpreter."""
_BATCH_BYTES: Final = 256 * 1024
_MOST_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may wait for a slow disk; further frames are lost."""
_FRAME_COST_BYTES: Final = 512
"""What each of them counts for besides its bytes, so that empty ones are bounded too."""
_SLACK_BYTES: Final = 1024
"""How much further than it keeps of a long frame it looks for secrets: one may begin where the frame is cut."""
_CLOSE_S: Final = 5.0

_Loss: TypeAlias = tuple[int, int]
"""How many frames were lost, and their bytes."""
_Item: TypeAlias = tuple[int, int, Direction, int, int, bytes, _Loss | None]
"""A frame's number, wire, direction, time, size and bytes, and what was lost just before it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a capture is: frames and bytes that were written, and frames that were lost."""

    frames: int
    bytes: int
    lost: int


class CaptureLog:
    """Writes frames to files that are open, until `close` or until the disk refuses: `trouble` says why then.

    Args:
        files: Open; this takes them over.
        redaction: Cleans what is written; None writes it as it is.
        frame_bytes: How much of a frame is kept.
        facts: What the first note of each file says.
    """

    def __init__(
        self, files: CaptureFiles, redaction: Redaction | None, frame_bytes: int, facts: Mapping[str, object]
    ) -> None:
        self.files = files
        self._redaction = redaction
        self._keep_bytes = frame_bytes
        self._take_bytes = frame_bytes + max(_SLACK_BYTES, redaction.longest_bytes if redaction else 0)
        self._facts = facts
        self._waiting: deque[_Item] = deque()
        # Each of these is written by one thread alone.
        self._number = 0
        self._added_bytes = 0
        self._lost = self._lost_bytes = 0
        self._told: _Loss = (0, 0)
        self._done_bytes = 0
        self._frames_written = self._bytes_written = 0
        self.trouble: str | None = None
        self._reason = ""
        self._idle = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._note("opened", 1, facts)
        self._thread = threading.Thread(target=self._run, name="erlbridge-capture", daemon=True)
        self._thread.start()

    def add(self, wire: int, direction: Direction, frame: bytes | memoryview, at_ns: int | None = None) -> None:
        """Hands over a frame of now, or of that time on the monotonic clock."""
        self._number = number = self._number + 1
        size = len(frame)
        if self._added_bytes - self._done_bytes > _MOST_WAITING_BYTES:
            self._lost += 1
            self._lost_bytes += size
            return
        loss = None if self._lost == self._told[0] else self._loss()
        if size > self._take_bytes:
            frame = frame[: self._take_bytes]
        kept = bytes(frame)  # of bytes that is no copy
        self._waiting.append((number, wire, direction, at_ns or time.monotonic_ns(), size, kept, loss))
        self._added_bytes += len(kept) + _FRAME_COST_BYTES
        if self._idle:
            self._idle = False
            self._wake.set()

    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(self._frames_written, self._bytes_written, self._lost)

    def close(self, reason: str, within_s: float = _CLOSE_S) -> None:
        """Has everything written and the files closed, if that takes no longer. Nobody may call `add` any more."""
        self._reason = reason
        self._closing.set()
        self._wake.set()
        self._thread.join(within_s)

    def _loss(self) -> _Loss:
        """What was lost since this was asked last."""
        lost, lost_bytes = self._lost - self._told[0], self._lost_bytes - self._told[1]
        self._told = (self._lost, self._lost_bytes)
        return lost, lost_bytes

    # -- the thread

    def _run(self) -> None:
        try:
            while not self._closing.is_set() or self._waiting:
                self._idle = True
                if not self._waiting and not self._closing.is_set():
                    self._wake.wait()
                self._idle = False
                self._wake.clear()
                self._closing.wait(_GATHER_S)
                while batch := self._batch():
                    self._write(batch)
            if self._lost != self._told[0]:
                self._note("lost", self._number + 1, _facts(self._loss()))
            self._note("closed", self._number + 1, {"reason": self._reason})
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs the capture, and not the node
            self.trouble = f"{type(error).__name__}: {error}"
            self._waiting.clear()
        with contextlib.suppress(OSError):
            self.files.close()

    def _batch(self) -> list[_Item]:
        batch: list[_Item] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_FRAMES and size < _BATCH_BYTES:
            batch.append(item := self._waiting.popleft())
            size += len(item[5])
        return batch

    def _write(self, batch: list[_Item]) -> None:
        offset_ns = time.time_ns() - time.monotonic_ns()
        frames = [item[5] for item in batch]
        content: list[bytes] = []
        size = 0
        clean_frames = frames if self._redaction is None else self._redaction.clean_all(frames)
        for item, clean in zip(batch, clean_frames, strict=True):
            record = self._record(item, clean, offset_ns)
            if not self.files.fits(size + len(record)):
                self._append(content)
                content, size = [], 0
                self.files.rotate()
                self._note("opened", item[0], self._facts)
            content.append(record)
            size += len(record)
        self._append(content)
        self._frames_written += len(frames)
        self._done_bytes += sum(map(len, frames)) + _FRAME_COST_BYTES * len(frames)

    def _record(self, item: _Item, clean: bytes, offset_ns: int) -> bytes:
        number, wire, direction, at_ns, size, frame, loss = item
        most = self._keep_bytes
        if size > len(frame) or len(clean) > most:
            most = min(most, size - 1)  # one that was unpacked would not look cut otherwise
        kept = clean if len(clean) <= most else clean[:most]
        header = frame_header(wire, direction, number, at_ns, at_ns + offset_ns, size, kept, clean is not frame)
        if loss is None:
            return header + kept
        return encoded(Note(number, "lost", _facts(loss), at_ns, at_ns + offset_ns)) + header + kept

    def _append(self, content: list[bytes]) -> None:
        if content:
            whole = b"".join(content)
            self.files.append(whole)
            self._bytes_written += len(whole)

    def _note(self, name: str, number: int, facts: Mapping[str, object]) -> None:
        now_ns = time.monotonic_ns()
        self._append([encoded(Note(number, name, facts, now_ns, time.time_ns()))])


def _facts(loss: _Loss) -> Mapping[str, object]:
    return {"frames": loss[0], "bytes": loss[1]}
