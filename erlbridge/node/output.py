"""What processes print: the node's end of a child's standard output and error, and the node's own. Moves lines only."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import io
import os
import selectors
import sys
import termios
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from erlbridge.core.lines import LineReader, Rate

OnLines: TypeAlias = Callable[[list[bytes], int], None]
"""Hears of lines, and of how many more there were than are worth telling of."""

_READ_BYTES: Final = 64 * 1024
_MOST_READS: Final = 64
_OWN_PIPE_BYTES: Final = 1024 * 1024
_STANDARD: Final = (1, 2)
_IOLBF: Final = 1
_INT_BYTES: Final = 4


class Output:
    """Reads a child's output as it comes and gives its lines to `on_lines`.

    A child that prints without end costs one short read in each turn of the loop: what is above the rate is read, for a
    full pipe would stop the child, and counted.

    `theirs` is the descriptor for the child; the owner hands it over and then calls `handed_over`.
    """

    def __init__(self, selector: selectors.BaseSelector, on_lines: OnLines) -> None:
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self.on_lines = on_lines
        self._selector = selector
        self._lines = LineReader()
        self._rate = Rate()
        self._open = True
        selector.register(self._ours, selectors.EVENT_READ, lambda _events: self._read())

    def handed_over(self) -> None:
        """The child has its end; ours of it is closed, so that the child's death ends the stream."""
        os.close(self.theirs)

    def catch_up(self) -> None:
        """Takes what has been printed by now, a begun line too: what comes from here on belongs to something else."""
        for _ in range(_MOST_READS):
            if not self._open or not _waits(self._ours) or not self._read():
                break
        if begun := self._lines.close():
            self._tell(begun)

    def close(self) -> None:
        """The child is gone: takes what it left, then gives the descriptor back."""
        self.catch_up()
        if self._open:
            self._selector.unregister(self._ours)
        os.close(self._ours)

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._open = False
            self._selector.unregister(self._ours)
            return False
        self._tell(self._lines.feed(data, self._rate.left(time.monotonic())))
        return True

    def _tell(self, lines: list[bytes]) -> None:
        dropped, self._lines.dropped = self._lines.dropped, 0
        if lines or dropped:
            self._rate.spend(len(lines))
            self.on_lines(lines, dropped)


def _waits(pipe: int) -> bool:
    """Whether a pipe holds something. A read that finds nothing says so by an exception, which costs three times as
    much."""
    fcntl.ioctl(pipe, termios.FIONREAD, count := bytearray(_INT_BYTES))
    return any(count)


class OwnOutput:
    """The node's own standard output and error, read by the node itself for as long as the context lasts.

    Its one thread must not wait for itself to read, so the pipe lets no writer wait: what exceeds a megabyte within one
    turn of the loop is lost. What is said of a crash goes to the real standard error: a fatal signal's traceback at
    once, an exception's behind the context, when nobody would read the pipe any more.
    """

    def __init__(self, selector: selectors.BaseSelector, on_lines: OnLines) -> None:
        self._selector = selector
        self._on_lines = on_lines

    def __enter__(self) -> None:
        self._real = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in _STANDARD]
        self._output = Output(self._selector, self._on_lines)
        with contextlib.suppress(OSError):  # the system's pages for pipes are used up: the default size works too
            fcntl.fcntl(self._output.theirs, fcntl.F_SETPIPE_SZ, _OWN_PIPE_BYTES)
        os.set_blocking(self._output.theirs, False)
        for descriptor in _STANDARD:
            os.dup2(self._output.theirs, descriptor)
        self._output.handed_over()
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _unbuffered(1), _unbuffered(2)
        _line_buffer_c()
        faulthandler.enable(self._real[-1])

    def __exit__(self, *_error: object) -> None:
        sys.stdout, sys.stderr = self._streams
        faulthandler.disable()
        for real, descriptor in zip(self._real, _STANDARD, strict=True):
            os.dup2(real, descriptor)
            os.close(real)
        self._output.on_lines = lambda lines, _dropped: _write(lines)  # the host has heard its last
        self._output.close()


def _unbuffered(descriptor: int) -> io.TextIOWrapper:
    """A stream whose raw writes say None, not an error, when the pipe is full; what stands above them takes that."""
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", write_through=True)


def _line_buffer_c() -> None:
    """What C prints into a pipe comes when a buffer is full otherwise, or never."""
    libc = ctypes.CDLL(None)
    with contextlib.suppress(ValueError):  # a C library that calls it otherwise
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)


def _write(lines: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"".join(line + b"\n" for line in lines))
