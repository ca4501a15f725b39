"""Files of frames: four bytes of length, then one term, as tests/interop/random_terms.exs reads and writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path


def read_frames(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    pos = 0
    while pos < len(data):
        (size,) = struct.unpack_from(">I", data, pos)
        yield data[pos + 4 : pos + 4 + size]
        pos += 4 + size


def write_frames(path: Path, frames: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(struct.pack(">I", len(frame)) + frame for frame in frames))
