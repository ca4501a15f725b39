"""Where a worker's prints go, those of C code and of its children too."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_IOLBF: Final = 1


def redirect_output(descriptor: int) -> None:
    """Standard input reads nothing; standard output and error go to `descriptor`, for children of this process too."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(null)
    if (stdout := _c_stdout()) is not None:
        ctypes.CDLL(None).setvbuf(stdout, None, _IOLBF, 0)  # what C prints is told line by line, as Python's is


def flush_c_output() -> None:
    """Writes the line that C code has begun to print, if any."""
    if (stdout := _c_stdout()) is not None:
        ctypes.CDLL(None).fflush(stdout)


def _c_stdout() -> ctypes.c_void_p | None:
    try:
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stdout")
    except ValueError:
        return None  # a C library that calls it otherwise: its prints come when its buffer is full
