"""Where a worker's prints go, those of C code and of its children too."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Final

_IOLBF: Final = 1


def redirect_output(descriptor: int) -> None:
    """Standard input reads nothing; standard output and error go to `descriptor`, for children of this process too."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(null)
    libc, stdout = _c_library()
    if stdout is not None:
        libc.setvbuf(stdout, None, _IOLBF, 0)  # what C prints is told line by line, as Python's is


def flush_c_output() -> None:
    """Writes the line that C code has begun to print, if any."""
    libc, stdout = _c_library()
    if stdout is not None:
        libc.fflush(stdout)


@cache
def _c_library() -> tuple[ctypes.CDLL, ctypes.c_void_p | None]:
    """The C library and its standard output; opening it again for each job takes longer than to flush."""
    libc = ctypes.CDLL(None)
    try:
        return libc, ctypes.c_void_p.in_dll(libc, "stdout")
    except ValueError:
        return libc, None  # it calls that otherwise: its prints come when its buffer is full
