"""A capture being written, by a thread of its own: the node's loop hands frames over and never waits for a disk.

Frames that find the queue full are lost, counted, and told of in the capture where they are missing. A disk that
refuses ends the capture, and nothing else. Knows clocks and threads; the format is `wire.capture`'s.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from erlbridge.node.capture_files import CaptureFiles
from erlbridge.wire.capture import Note, encoded, frame_header
from erlbridge.wire.records import Records, Taken, WaitingFrame, seal_records, waiting_frames
from erlbridge.wire.redaction import Redaction

_GATHER_S: Final = 0.02
"""How long a first frame waits for others: handing the interpreter over for each costs more than writing it."""
_GROUP_FRAMES: Final = 64
"""Cleaned and written at once, half a millisecond in which the loop may have to wait for the interpreter."""
_GROUP_BYTES: Final = 256 * 1024
_MOST_WAITING_BYTES: Final = 16 * 1024 * 1024
"""What may wait while as much is being written to a slow disk; further frames are lost."""
_SLACK_BYTES: Final = 1024
"""How much further than it keeps of a long frame it looks for secrets: one may begin where the frame is cut."""
_CLOSE_S: Final = 5.0


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
        self._facts = facts
        self._frames = self._bytes = self._lost = 0
        self.trouble: str | None = None
        self._reason = ""
        self._wake = threading.Event()
        self._closing = threading.Event()
        slack_bytes = max(_SLACK_BYTES, redaction.longest_bytes if redaction else 0)
        self._waiting = Records(frame_bytes + slack_bytes, _MOST_WAITING_BYTES, self._wake.set, time.monotonic_ns)
        self.add = self._waiting.add
        """Hands over a frame of now; a fourth argument may tell another time on the monotonic clock."""
        self._content = bytearray()
        self._note("opened", 1, facts)
        self._thread = threading.Thread(target=self._run, name="erlbridge-capture", daemon=True)
        self._thread.start()

    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(self._frames, self._bytes, self._lost)

    def close(self, reason: str, within_s: float = _CLOSE_S) -> None:
        """Has everything written and the files closed, if that takes no longer. What is added from now on may miss."""
        self._reason = reason
        self._closing.set()
        self._wake.set()
        self._thread.join(within_s)

    # -- the thread

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wake.wait()
                self._wake.clear()
                self._closing.wait(_GATHER_S)
                self._write()
            number = self._write()
            self._note("closed", number + 1, {"reason": self._reason})
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs the capture, and not the node
            self.trouble = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            self.files.close()

    def _write(self) -> int:
        """Writes what waits; gives the number of the last frame."""
        content = self._content
        taken = Taken(*self._waiting.take(content))
        offset_ns = time.time_ns() - time.monotonic_ns()
        clean = self._redaction is None or not (taken.packed or self._redaction.may_hold(content))
        if clean and self.files.fits(len(content)):
            with memoryview(content)[: seal_records(content, offset_ns, self._keep_bytes)] as records:
                self._append(records)
        else:
            for group in _groups(waiting_frames(content)):
                self._write_group(group, offset_ns)
        self._frames += taken.frames
        if taken.lost:
            self._lost += taken.lost
            self._note("lost", taken.number + 1, {"frames": taken.lost, "bytes": taken.lost_bytes})
        return taken.number

    def _write_group(self, group: list[WaitingFrame], offset_ns: int) -> None:
        content = bytearray()
        frames = [waiting.frame for waiting in group]
        clean_frames = frames if self._redaction is None else self._redaction.clean_all(frames)
        for waiting, clean in zip(group, clean_frames, strict=True):
            record = self._record(waiting, clean, offset_ns)
            if not self.files.fits(len(content) + len(record)):
                self._append(content)
                content.clear()
                self.files.rotate()
                self._note("opened", waiting.number, self._facts)
            content += record
        self._append(content)

    def _record(self, waiting: WaitingFrame, clean: bytes, offset_ns: int) -> bytes:
        number, wire, direction, at_ns, size, frame = waiting
        most = self._keep_bytes
        if size > len(frame) or len(clean) > most:
            most = min(most, size - 1)  # one that was unpacked would not look cut otherwise
        kept = clean if len(clean) <= most else clean[:most]
        return frame_header(wire, direction, number, at_ns, at_ns + offset_ns, size, kept, clean is not frame) + kept

    def _append(self, content: bytes | bytearray | memoryview) -> None:
        if content:
            self.files.append(content)
            self._bytes += len(content)

    def _note(self, name: str, number: int, facts: Mapping[str, object]) -> None:
        now_ns = time.monotonic_ns()
        self._append(encoded(Note(number, name, facts, now_ns, time.time_ns())))


def _groups(frames: Iterable[WaitingFrame]) -> Iterator[list[WaitingFrame]]:
    """So many at once as may be cleaned without a pause."""
    group: list[WaitingFrame] = []
    size = 0
    for waiting in frames:
        group.append(waiting)
        size += len(waiting.frame)
        if len(group) == _GROUP_FRAMES or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
