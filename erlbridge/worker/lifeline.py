"""What a child process does first: die with its parent, restore its signals, put its descriptors where they belong."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_IOLBF = 1


def die_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends, however that ends; ends at once if it already has.

    Linux only (`prctl(2)`, `PR_SET_PDEATHSIG`). The setting is lost on `fork`, so each generation asks for itself.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if os.getppid() != parent_pid:
        os._exit(1)


def restore_signals() -> None:
    """The BEAM starts port programs with SIGCHLD ignored, which makes `waitpid` lose every child's status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


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
