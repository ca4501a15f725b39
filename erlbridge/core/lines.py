"""Captured output, cut into lines of bounded length. Bytes in, lines out."""

from __future__ import annotations

from collections.abc import Iterator

from erlbridge.limits import MAX_LOG_LINE_BYTES


class LineReader:
    """Splits a stream into lines. A line above the limit is cut there and its rest dropped; blank lines are skipped.

    A carriage return ends a line too, so that progress bars drawn with it arrive as lines.

    >>> reader = LineReader(limit_bytes=5)
    >>> list(reader.feed(b"one\\ntw")), list(reader.feed(b"o and more\\n")), list(reader.close())
    ([b'one'], [b'two a'], [])
    """

    def __init__(self, limit_bytes: int = MAX_LOG_LINE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._line = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Takes the next bytes; yields the lines that they end."""
        *ended, rest = data.replace(b"\r", b"\n").split(b"\n")
        for piece in ended:
            self._add(piece)
            yield from self.close()
        self._add(rest)

    def close(self) -> Iterator[bytes]:
        """Yields the line that has begun, if any."""
        line = bytes(self._line).rstrip()
        self._line.clear()
        if line:
            yield line

    def _add(self, piece: bytes) -> None:
        self._line += piece[: self.limit_bytes - len(self._line)]
