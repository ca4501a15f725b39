"""Loads what the node imports at need, once it has announced itself: a process whose descriptors are used up can open
no module, and must still answer, with the right error. Knows names only."""

from __future__ import annotations

import importlib
from typing import Final

_AT_NEED: Final = ("erlbridge.codec.scan", "hashlib", "heapq", "psutil", "random", "tempfile", "traceback")


def preload() -> None:
    """Imports them all; the forkserver boots meanwhile, which takes far longer."""
    for name in _AT_NEED:
        importlib.import_module(name)
