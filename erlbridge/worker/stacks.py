"""A worker's stacks, written by the interpreter itself when it is asked to or crashes: no lock, no GIL and no Python
code is needed, so that also a worker that hangs in C tells where.
"""

from __future__ import annotations

import faulthandler
import os
import signal

from erlbridge.core.allotment import STACKS_SIGNAL


def show_stacks(descriptor: int) -> None:
    """Has stacks written to `descriptor`, a pipe: at `STACKS_SIGNAL`, and when a fatal signal ends this process.

    The pipe never blocks: what does not fit is lost, and a worker whose node does not read goes on.
    """
    os.set_inheritable(descriptor, False)
    os.set_blocking(descriptor, False)
    faulthandler.register(STACKS_SIGNAL, file=descriptor, all_threads=True, chain=False)
    faulthandler.enable(file=descriptor, all_threads=True)


def ignore_asking() -> None:
    """For the process that workers are forked from, and so for a worker until it can answer: the signal's default
    would end it."""
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)
