"""The wire's two descriptors, taken away from everything that prints. The first thing a node does."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import Final

_PIPE_BYTES: Final = 1024 * 1024
"""Wanted size of a pipe's buffer; Linux's default of 64 KiB costs a large message many more system calls."""


def take_wire(incoming: int = 0, outgoing: int = 1) -> tuple[int, int]:
    """Private copies of the wire's descriptors, close-on-exec and non-blocking.

    Standard input then reads nothing and standard output is standard error, in this process and in its children: one
    stray byte in the wire would be read by the BEAM as a frame's length, and hang it without a word.
    """
    open_standard_error()
    wire = (os.dup(incoming), os.dup(outgoing))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (incoming, outgoing):
        os.dup2(null, descriptor)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    for descriptor in wire:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):  # a terminal would stay non-blocking for the shell after us
            os.set_blocking(descriptor, False)
        if stat.S_ISFIFO(mode):
            _enlarge(descriptor)
    return wire


def open_standard_error() -> None:
    """Whoever closed it must not make the wire's copy take its number, and everything that prints print there."""
    try:
        os.fstat(2)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != 2:
            os.dup2(null, 2)
            os.close(null)


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return  # the system's pages for pipes are used up, or not ours to ask for: the default size works too
