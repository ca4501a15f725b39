"""Captures as they lie on a disk: opened, read to their end, and followed while a node writes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from erlbridge.wire.capture import CaptureReader, Entry

_PIECE_BYTES: Final = 1 << 20
_LOOK_S: Final = 0.1


def read_capture(path: Path | str, follow: bool = False) -> Iterator[Entry]:
    """The entries of a capture in order.

    Args:
        path: The file.
        follow: Whether to wait for more at its end, for ever, as `tail -f` does.

    Raises `CaptureError` for what is none, `OSError` when it cannot be read.
    """
    reader = CaptureReader()
    with Path(path).open("rb") as file:
        while True:
            while piece := file.read(_PIECE_BYTES):
                reader.feed(piece)
                yield from reader
            if not follow:
                yield from reader.finish()
                return
            time.sleep(_LOOK_S)
