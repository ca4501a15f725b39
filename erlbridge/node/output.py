"""What a child prints: the node's end of the pipe that is the child's standard output and error. Moves lines only."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from typing import Final

from erlbridge.core.lines import LineReader

_READ_BYTES: Final = 64 * 1024
_MOST_READS_AT_END: Final = 64


class Output:
    """Reads a child's output as it comes and gives each line to `on_line`.

    `theirs` is the descriptor for the child; the owner hands it over and then calls `handed_over`.
    """

    def __init__(self, selector: selectors.BaseSelector, on_line: Callable[[bytes], None]) -> None:
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._selector = selector
        self._on_line = on_line
        self._lines = LineReader()
        self._open = True
        selector.register(self._ours, selectors.EVENT_READ, lambda _events: self._read())

    def handed_over(self) -> None:
        """The child has its end; ours of it is closed, so that the child's death ends the stream."""
        os.close(self.theirs)

    def close(self) -> None:
        """The child is gone: takes what it left, then gives the descriptor back."""
        for _ in range(_MOST_READS_AT_END):
            if not self._open or not self._read():
                break
        for line in self._lines.close():
            self._on_line(line)
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
        for line in self._lines.feed(data):
            self._on_line(line)
        return True
