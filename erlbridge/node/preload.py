"""Loads what the node imports at need, once it has announced itself: a process whose descriptors are used up can open
no module, and must still answer, with the right error. Knows names only."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Final

_AT_NEED: Final = (
    "erlbridge.codec.scan",
    "erlbridge.store.sqlite_file",
    "hashlib",
    "heapq",
    "psutil",
    "random",
    "tempfile",
)


def preload() -> None:
    """Imports them all; the forkserver boots meanwhile, which takes far longer. What cannot be loaded even now is
    missed by whoever needs it."""
    for name in _AT_NEED:
        with suppress(ImportError, OSError):
            importlib.import_module(name)
