"""Ctrl-C and SIGTERM as something that is counted: whoever waits for a job decides what they mean."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_READ_BYTES: Final = 64


class Interrupts:
    """Counts signals for as long as the block runs, in which they end nothing; in the main thread only.

    Attributes:
        fd: Becomes readable with each of them; `heard` empties it.
        code: What a process that the last one ended exits with, 0 before the first.
    """

    def __init__(self) -> None:
        self.code = 0
        self._count = 0
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        self.fd, self._wake = os.pipe()
        for end in (self.fd, self._wake):
            os.set_blocking(end, False)
        self._wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._count_one) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.fd)
        os.close(self._wake)

    def heard(self) -> int:
        """How many have come so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, _READ_BYTES)
        return self._count

    def _count_one(self, number: int, _: FrameType | None) -> None:
        self._count += 1
        self.code = 128 + number
