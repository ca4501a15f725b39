"""Reads a dataset's file. Knows paths; what the bytes mean is known to `core.datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_PIECE_BYTES: Final = 1024 * 1024


def pieces(path: bytes) -> Iterator[bytes]:
    """The file's bytes, in order. Raises `OSError`."""
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
