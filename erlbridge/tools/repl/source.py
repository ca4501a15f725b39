"""The capture that frames come from, all of its files, read as far as they go, again and again while a node writes
them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from erlbridge.node.capture_files import older_files
from erlbridge.tools.captures import read_capture
from erlbridge.tools.repl.tape import Tape
from erlbridge.wire.capture import HOST, MAGIC, CaptureError, CaptureReader, Damage, Entry, Note, Record

_PIECE_BYTES: Final = 1 << 20


class Recording:
    """A capture on its way to the tape: the files that were set aside, then the one that is written."""

    def __init__(self, path: Path, tape: Tape) -> None:
        """Raises `OSError` when it cannot be opened, `CaptureError` when it is no regular file."""
        self.path = path
        self._tape = tape
        self._seen: set[tuple[int, int]] = set()
        """Device and inode of every file that was opened: a node renames those that it sets aside."""
        if not stat.S_ISREG(path.stat().st_mode):
            raise CaptureError("no regular file")
        self._file: BinaryIO = path.open("rb")
        self._reader = CaptureReader()
        head = self._file.read(len(MAGIC))
        # Of an empty file a node may make a capture yet.
        self._once = None if head == MAGIC[: len(head)] else read_capture(path)
        if self._once is None and (older := older_files(path)):
            self._file.close()
            self._file = older[0].open("rb")
        self._file.seek(0)
        self._note_opened()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a record at the end of the file that is not whole."""
        return self._reader.pending_bytes

    def read(self) -> int:
        """Puts what has come since on the tape, and says how many frames.

        Raises `CaptureError` for what is no capture, `OSError` when it cannot be read.
        """
        before = len(self._tape.frames)
        if self._once is not None:
            for entry in self._once:
                self._take(entry)
            return len(self._tape.frames) - before
        self._drain()
        while (following := self._following()) is not None:
            # It was set aside: what is not whole by now stays so.
            self._drain()
            for entry in self._reader.finish():
                self._take(entry)
            self._file.close()
            self._file, self._reader = following, CaptureReader()
            self._note_opened()
            self._drain()
        return len(self._tape.frames) - before

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _following(self) -> BinaryIO | None:
        """The next file that was not opened yet, None while there is none."""
        try:
            if _identity(self.path.stat()) in self._seen:
                return None
            for path in (*older_files(self.path), self.path):
                if _identity(path.stat()) not in self._seen:
                    return path.open("rb")
        except FileNotFoundError:  # between two names; the next look finds it
            pass
        return None

    def _note_opened(self) -> None:
        self._seen.add(_identity(os.fstat(self._file.fileno())))

    def _drain(self) -> None:
        while piece := self._file.read(_PIECE_BYTES):
            self._reader.feed(piece)
            for entry in self._reader:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        match entry:
            case Record():
                self._tape.add(
                    entry.frame,
                    wire=entry.wire_name,
                    inward=(entry.direction == "in") == (entry.wire == HOST),
                    monotonic_ns=entry.monotonic_ns,
                    wall_ns=entry.wall_ns,
                    size=entry.size,
                    cut=entry.cut,
                    redacted=entry.redacted,
                )
            case Note(name="lost", facts=facts):
                self._tape.note(
                    f"{facts.get('frames')} frames, {facts.get('bytes')} bytes, were lost: the disk was slow"
                )
            case Note(name=name, facts=facts):
                told = ", ".join(f"{key} {fact}" for key, fact in facts.items())
                self._tape.note(f"capture {name}" + (f": {told}" if told else ""), bad=False)
            case Damage():
                self._tape.note(f"{entry.size} bytes at {entry.offset} are damaged: {entry.problem}")


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
