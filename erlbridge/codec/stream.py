"""Terms from a byte stream that comes in pieces cut anywhere, in the manner of h11: bytes in, terms out, no I/O.

Knows terms that follow each other, each with its version byte, compressed or not. Knows nothing of frames: where a
length stands before each term, `wire.frames` reads it. Every byte is scanned once for the ends of terms (`skip`), and
each whole term is given to `binary_to_term`, so what it refuses is refused here.
"""

from __future__ import annotations

from erlbridge.codec import binary_to_term
from erlbridge.codec.scan import Inflation, Scan, begin, moved, skip
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_DEPTH, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class StreamDecoder:
    """Takes pieces of a stream and gives its terms.

    `feed` takes a piece; iterating gives every term that is whole by then, and can be done again after the next piece.
    All work is linear in the stream, even if it is fed byte by byte. Held are the bytes fed and not yet given as terms,
    and of a term that is not whole no more than `max_term_bytes` and the last piece.

    A DecodeError ends the stream, as no later boundary is known: the terms before it are given, then it is raised, and
    raised again by every later use. Its offset counts from the beginning of the stream; of what is wrong inside of
    a compressed term it is the offset of that term. Not for several threads at once.

    Args:
        max_term_bytes: Longest term, as it stands in the stream and, if it is compressed, unpacked.
        max_depth: How deep containers may nest.
        text: Give binaries as `str` where they are valid UTF-8, as in `binary_to_term`.

    >>> stream = StreamDecoder()
    >>> stream.feed(bytes.fromhex("8361078361"))
    >>> list(stream)
    [7]
    >>> stream.feed(bytes.fromhex("08"))
    >>> list(stream), stream.offset
    ([8], 6)
    >>> stream.close()
    """

    __slots__ = ("_base", "_buffer", "_closed", "_error", "_max_depth", "_max_term_bytes", "_scan", "_start", "_text")

    def __init__(self, *, max_term_bytes: int = MAX_TERM_BYTES, max_depth: int = MAX_DEPTH, text: bool = False) -> None:
        self._max_term_bytes = max_term_bytes
        self._max_depth = max_depth
        self._text = text
        self._buffer = bytearray()
        self._base = 0  # where in the stream the buffer begins
        self._start = 0  # where in the buffer the next term begins
        self._scan: Scan | Inflation | None = None  # what finds its end, once that many bytes are there
        self._error: DecodeError | None = None
        self._closed = False

    @property
    def offset(self) -> int:
        """Where in the stream the next term begins: how many bytes the terms given so far took."""
        return self._base + self._start

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next piece of the stream, of any length.

        Raises:
            DecodeError: The stream was refused before.
            ValueError: The stream is closed.
        """
        if self._closed:
            raise ValueError("the stream is closed")
        if self._error is not None:
            raise self._error
        if self._start:
            del self._buffer[: self._start]
            if self._scan is not None:
                self._scan.pos -= self._start
            self._base += self._start
            self._start = 0
        self._buffer += data

    def __iter__(self) -> Iterator[object]:
        """The terms that are whole by now and were not given yet.

        Raises:
            DecodeError: What follows them is no term, or exceeds a limit.
        """
        while (end := self._end_of_next()) is not None:
            start = self._start
            try:
                with memoryview(self._buffer)[start:end] as frame:  # no copy: fresh pages cost more than the scan
                    term = binary_to_term(
                        frame, max_depth=self._max_depth, max_bytes=self._max_term_bytes, text=self._text
                    )
            except DecodeError as error:
                packed = type(self._scan) is Inflation
                raise self._refused(self._inside(error) if packed else moved(error, start)) from None
            self._start = end
            self._scan = None
            yield term

    def close(self) -> None:
        """Says that the stream has ended. Terms that were not taken can still be.

        Raises:
            DecodeError: The stream ends inside a term, or was refused.
        """
        self._closed = True
        if self._error is not None:
            raise self._error
        pos = self._start
        try:
            while pos < len(self._buffer):
                pos = skip(self._buffer, pos, max_depth=self._max_depth, max_bytes=self._max_term_bytes)
        except DecodeError as error:
            raise moved(error, self._base) from None

    def _end_of_next(self) -> int | None:
        """Where in the buffer the next term ends, if it is whole."""
        if self._error is not None:
            raise self._error
        buffer = self._buffer
        scan = self._scan
        whole = False
        least = 2
        try:
            if scan is None:
                scan = begin(buffer, self._start, max_depth=self._max_depth, max_bytes=self._max_term_bytes)
                self._scan = scan
            if scan is not None:
                whole = scan.advance(buffer)
                least = scan.pos - self._start + (0 if whole else scan.left)
        except DecodeError as error:
            raise self._refused(error) from None
        if least > self._max_term_bytes:
            raise self._refused(
                DecodeError(f"term of at least {least} bytes, limit {self._max_term_bytes}", self._start)
            )
        return self._start + least if whole else None

    def _inside(self, error: DecodeError) -> DecodeError:
        """Trouble inside of a compressed term: its own offset counts in bytes that are not in the stream."""
        return DecodeError(f"compressed term unpacks to none ({error.message})", self._start)

    def _refused(self, error: DecodeError) -> DecodeError:
        """The error with its offset in the stream, kept for every later use; nothing else of the stream is."""
        self._error = moved(error, self._base)
        self._buffer.clear()
        return self._error
