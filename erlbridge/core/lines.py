"""Captured output, cut into lines of bounded length and number. Bytes in, lines out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from erlbridge.limits import MAX_LOG_LINE_BYTES, MAX_LOG_LINES, MAX_LOG_LINES_PER_S

_LEFT_OUT: Final = "\n… {} bytes left out …\n"


class LineReader:
    """Splits a stream into lines. A line above the limit is cut there and its rest dropped; blank lines are skipped.

    A carriage return begins the line anew, as on a terminal: of a progress bar that draws itself a thousand times the
    last state is the line.

    >>> reader = LineReader(limit_bytes=5)
    >>> reader.feed(b"one\\n10 %\\r20 %\\ntw"), reader.feed(b"o and more\\n"), reader.close()
    ([b'one', b'20 %'], [b'two a'], [])
    """

    def __init__(self, limit_bytes: int = MAX_LOG_LINE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.dropped = 0
        self._line = bytearray()
        self._returned = False

    def feed(self, data: bytes, most: int = 2**31) -> list[bytes]:
        """Takes the next bytes; gives the lines that they end, at most so many. The rest are counted in `dropped`,
        without a look at each: more may be printed than is worth the time."""
        *ended, rest = data.split(b"\n", most)
        lines = []
        for piece in ended:
            self._add(piece)
            lines += self.close()
        if more := rest.count(b"\n"):
            self.dropped += more
            rest = rest[rest.rindex(b"\n") + 1 :]
            self.close()
        self._add(rest)
        return lines

    def close(self) -> list[bytes]:
        """The line that has begun, if any."""
        self._returned = False
        if not self._line:
            return []
        line = bytes(self._line).rstrip()
        self._line.clear()
        return [line] if line else []

    def _add(self, piece: bytes) -> None:
        text = piece.rstrip(b"\r")
        if text:
            _, returned, last = text.rpartition(b"\r")
            if self._returned or returned:
                self._line.clear()
            self._line += last[: self.limit_bytes - len(self._line)]
        # What was drawn stands until something is drawn over it: "\r\n" only ends a line.
        self._returned = len(text) < len(piece) or (self._returned and not text)


@dataclass(slots=True)
class Rate:
    """How many lines may pass now: `burst` at once, then `per_s`.

    >>> rate = Rate(per_s=10, burst=3)
    >>> rate.spend(3); rate.left(now=0.0), rate.left(now=0.1), rate.left(now=9.0)
    (0, 1, 3)
    """

    per_s: float = MAX_LOG_LINES_PER_S
    burst: int = MAX_LOG_LINES
    _saved: float = -1.0
    _at: float | None = None

    def __post_init__(self) -> None:
        self._saved = float(self.burst)

    def left(self, now: float) -> int:
        """Lines that may pass at `now`."""
        if self._at is not None:
            self._saved = min(self.burst, self._saved + (now - self._at) * self.per_s)
        self._at = now
        return int(self._saved)

    def spend(self, count: int) -> None:
        """So many have passed."""
        self._saved -= count


def shortened(text: str, limit_bytes: int = MAX_LOG_LINE_BYTES) -> bytes:
    """A text as at most so many bytes and a few: of a long one its beginning and, for a traceback ends with what
    matters, its end."""
    data = text.encode(errors="replace")
    if len(data) <= limit_bytes:
        return data
    half = limit_bytes // 2
    head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    left_out = len(data) - len(head.encode()) - len(tail.encode())
    return f"{head}{_LEFT_OUT.format(left_out)}{tail}".encode()
