"""The file that frames come from, read as far as it goes, again and again while a node writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from erlbridge.tools.repl.tape import Tape
from erlbridge.wire.capture import CaptureReader, Damage, Note, Record

_PIECE_BYTES: Final = 1 << 20


class Recording:
    """A capture on its way to the tape."""

    def __init__(self, path: Path, tape: Tape) -> None:
        """Raises `OSError` when it cannot be opened."""
        self.path = path
        self._tape = tape
        self._file = path.open("rb")
        self._reader = CaptureReader()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a record at the end of the file that is not whole."""
        return self._reader.pending_bytes

    def read(self) -> int:
        """Puts what has come since on the tape, and says how many frames. Raises `CaptureError` for what is no
        capture."""
        before = len(self._tape.frames)
        while piece := self._file.read(_PIECE_BYTES):
            self._reader.feed(piece)
            for entry in self._reader:
                self._take(entry)
        return len(self._tape.frames) - before

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _take(self, entry: Record | Note | Damage) -> None:
        match entry:
            case Record():
                self._tape.add(
                    entry.frame,
                    wire=entry.wire_name,
                    inward=(entry.direction == "in") == (entry.wire == 0),
                    monotonic_ns=entry.monotonic_ns,
                    wall_ns=entry.wall_ns,
                    size=entry.size,
                    cut=entry.cut,
                    redacted=entry.redacted,
                )
            case Note(name="lost", facts=facts):
                self._tape.note(
                    f"{facts.get('frames')} frames, {facts.get('bytes')} bytes, were lost: the disk was too slow"
                )
            case Note(name=name, facts=facts):
                told = ", ".join(f"{key} {fact}" for key, fact in facts.items())
                self._tape.note(f"capture {name}" + (f": {told}" if told else ""))
            case Damage():
                self._tape.note(f"{entry.size} bytes at {entry.offset} are damaged: {entry.problem}")
