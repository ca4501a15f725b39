"""A timer of the kernel's that a thread waits for (`timerfd_create(2)`): to set it takes a system call, and no thread
wakes before it is due. Linux only; Python has it from 3.13 on.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_LIBC: Final = ctypes.PyDLL(None, use_errno=True)
"""These calls return at once: to give the interpreter's lock away meanwhile would cost more than they do."""

_COUNT_BYTES: Final = 8


class _Times(ctypes.Structure):
    """C's `struct itimerspec`."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


def after(seconds: float) -> object:
    """A time from now, for `Alarm.set`."""
    whole = int(seconds)
    return ctypes.byref(_Times(0, 0, whole, int((seconds - whole) * 1e9)))


NEVER: Final = after(0)
NOW: Final = after(1e-9)


class Alarm:
    """Goes off once, at the time that was set last."""

    def __init__(self) -> None:
        self._descriptor = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _failure()

    def set(self, when: object) -> None:
        """Sets it anew: to `NEVER`, `NOW` or `after` some seconds. Raises `OSError` once a job has closed it, as code
        that closes a descriptor twice may: a worker whose alarm never goes off hears nothing while a job lasts."""
        if _LIBC.timerfd_settime(self._descriptor, 0, when, None) < 0:
            raise _failure()

    def wait(self) -> None:
        """Waits until it goes off."""
        os.read(self._descriptor, _COUNT_BYTES)


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
