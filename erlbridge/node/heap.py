"""The C library's heap in a process that lives long: what a large frame took goes back when the frame does."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 64 * 1024
_LARGER_BYTES: Final = 4 * 1024 * 1024
_MOST_KEPT_BYTES: Final = 32 * 1024 * 1024


def give_back_large_blocks() -> None:
    """Has blocks from 64 KiB on mapped, and unmapped when they are freed (`mallopt(3)`); does nothing without glibc.

    glibc raises that size to that of the largest block freed so far, 32 MiB at most. From then on large frames lie in
    the heap among small things that stay, and the heap creeps upwards from one burst to the next.
    """
    _set(_LARGE_BYTES, _LARGE_BYTES)


class Burst:
    """While chunks of transfers come by the thousand, each in a block of a megabyte, such blocks stay in the heap: to
    map and unmap one costs as much as to write it to disk. What they took goes back when the burst is over."""

    def __init__(self) -> None:
        self._is_on = False

    def begin(self) -> None:
        """A chunk has come."""
        if not self._is_on:
            self._is_on = True
            _set(_LARGER_BYTES, _MOST_KEPT_BYTES)

    def end(self) -> None:
        """None is at work."""
        if self._is_on:
            self._is_on = False
            give_back_large_blocks()
            with suppress(AttributeError):
                _libc().malloc_trim(0)


def _set(mapped_from_bytes: int, kept_bytes: int) -> None:
    libc = _libc()
    with suppress(AttributeError):  # musl
        libc.mallopt(_M_MMAP_THRESHOLD, mapped_from_bytes)
        libc.mallopt(_M_TRIM_THRESHOLD, kept_bytes)
        libc.mallopt(_M_ARENA_MAX, 1)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
