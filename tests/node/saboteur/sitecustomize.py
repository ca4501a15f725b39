"""Makes workers do damage when a prompt asks for it: on the path of a node, Python loads this file by itself.

The offline model of a forked worker then looks for `sabotage: NAME` in its prompts and does that before it answers.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

_KEPT: list[Any] = []


def leak() -> None:
    """200 MB at once, then 50 MB/s in pieces."""
    _KEPT.append(b"x" * 200_000_000)
    while True:
        _KEPT.append(b"x" * 5_000_000)
        time.sleep(0.1)


def gulp() -> None:
    """3 GB in one call of C, which holds the interpreter's lock while it writes them."""
    _KEPT.append(b"x" * 3_000_000_000)


def gobble() -> None:
    """1.5 GB in one such call: less than what the kernel refuses."""
    _KEPT.append(b"x" * 1_500_000_000)


def fatten() -> None:
    """300 MB that stay, then the job goes on."""
    _KEPT.append(b"x" * 300_000_000)


def hang() -> None:
    """In C, with the interpreter's lock held, and no processor time used; a signal does not end it."""
    ctypes.PyDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)


def count() -> None:
    """In C, with the lock held, busily."""
    sum(range(10**12))


def sleep() -> None:
    time.sleep(60)


def spin() -> None:
    """In Python, busily."""
    while True:
        pass


def crash() -> None:
    ctypes.string_at(0)


DEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed for deed in (leak, gulp, gobble, fatten, hang, count, sleep, spin, crash)
}


def _tamper() -> None:
    offline = sys.modules.get("erlbridge.programs.offline")
    if offline is None:
        return  # forked by something else
    complete = offline.OfflineEngine.complete

    def sabotaged(self: Any, request: Any) -> Any:
        if asked := re.search(r"sabotage: (\w+)", repr(request)):
            DEEDS[asked[1]]()
        return complete(self, request)

    offline.OfflineEngine.complete = sabotaged


os.register_at_fork(after_in_child=_tamper)
