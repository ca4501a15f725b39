"""A worker's stacks, written by the interpreter when the node asks for them, or when the worker crashes.

The stacks of threads that run may be read by whoever has the interpreter's lock, and by nobody else: frames that come
and go meanwhile end a healthy process with a SIGSEGV. So a thread of ours writes them all when it is asked to. Where it
cannot have the lock, because something hangs in C with it, a signal has each thread that it reaches write its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal

from erlbridge.core.allotment import STACKS_END, STACKS_SIGNAL


class Stacks:
    """Writes to `descriptor`, a pipe, which never blocks: what does not fit is lost, and a worker whose node does not
    read goes on. A fatal signal writes there too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)
        faulthandler.register(STACKS_SIGNAL, file=descriptor, all_threads=False, chain=False)
        faulthandler.enable(file=descriptor, all_threads=True)

    def write(self) -> None:
        """Writes the stack of every thread, and that this was all."""
        faulthandler.dump_traceback(self._descriptor, all_threads=True)
        with contextlib.suppress(BlockingIOError):
            os.write(self._descriptor, STACKS_END)


def ignore_asking() -> None:
    """For the process that workers are forked from, and so for a worker until it can answer: the signal's default
    would end it."""
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)
