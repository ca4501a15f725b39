"""Ctrl-C and SIGTERM while a job runs: the first is told to who waits for it, one more ends the command."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_READ_BYTES: Final = 64


class Interrupts:
    """For as long as the block runs, the first signal ends nothing, and each further one raises `KeyboardInterrupt`, or
    `SystemExit` for SIGTERM, wherever the block is: it may be sending what nobody reads. In the main thread only.

    Args:
        spent: Whether the first has been before the block, and the next raises.

    Attributes:
        fd: Becomes readable with the first; `heard` empties it.
        code: What a process that the last one ended exits with, 0 before the first.
    """

    def __init__(self, *, spent: bool = False) -> None:
        self.code = 0
        self._spent = spent
        self._heard = False
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        self.fd, self._wake = os.pipe()
        for end in (self.fd, self._wake):
            os.set_blocking(end, False)
        self._wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.fd)
        os.close(self._wake)

    def heard(self) -> bool:
        """Whether the first has come since this was last asked."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, _READ_BYTES)
        heard, self._heard = self._heard, False
        return heard

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.code = 128 + number
        if self._spent:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(self.code)
        self._spent = self._heard = True
