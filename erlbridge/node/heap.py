"""The C library's heap in a process that lives long: what a large frame took goes back when the frame does."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 64 * 1024


def give_back_large_blocks() -> None:
    """Has blocks from 64 KiB on mapped, and unmapped when they are freed (`mallopt(3)`); does nothing without glibc.

    glibc raises that size to that of the largest block freed so far, 32 MiB at most. From then on large frames lie in
    the heap among small things that stay, and the heap creeps upwards from one burst to the next.
    """
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # musl
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)
