"""Captures as they lie on a disk, read to their end or followed while a node writes them; and what stands in for one: a
dump of frames, the packets of a connection (`packets`). What a file is, its first bytes say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from erlbridge.errors import FrameError
from erlbridge.limits import MAX_WORKER_FRAME_BYTES
from erlbridge.node.audit_files import opened_to_read
from erlbridge.node.capture_files import older_files
from erlbridge.tools.packets import PACKET_MAGICS, read_packets
from erlbridge.tools.tcp_streams import frames_of
from erlbridge.wire.capture import (
    HOST,
    MAGIC,
    MARKER,
    CaptureError,
    CaptureReader,
    Damage,
    Entry,
    Record,
    likely_direction,
)
from erlbridge.wire.frames import HEADER_BYTES, FrameReader

_PIECE_BYTES: Final = 1 << 20
_LOOK_S: Final = 0.1


def read_capture(path: Path | str, follow: bool = False) -> Iterator[Entry]:
    """The entries of a capture in order, with those of its files that were set aside before it.

    Args:
        path: A capture, a file of frames (each behind its length in 4 bytes, as they are on the wire), or packets of
            a connection as pcap or pcapng.
        follow: Whether to wait for more at a capture's end, for ever, as `tail -F` does; also into the next file.

    Raises `CaptureError` for what is none of these, `OSError` when it cannot be read.
    """
    path = Path(path)
    with _opened(path) as file:
        head = file.read(_PIECE_BYTES)
        file.seek(0)
        if head[: len(MAGIC)] == MAGIC[: len(head)]:
            for older in older_files(path):
                with _opened(older) as aside:
                    if os.path.samestat(os.fstat(aside.fileno()), os.fstat(file.fileno())):
                        break  # it has been set aside this very moment
                    yield from _to_the_end(aside, CaptureReader())
            yield from _followed(path, file) if follow else _to_the_end(file, CaptureReader())
        elif head.startswith(PACKET_MAGICS):
            yield from frames_of(read_packets(file))
        elif MARKER in head:
            yield from _to_the_end(file, CaptureReader(headless=True))
        else:
            yield from _frames(file)


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(opened_to_read(path), "rb")


def _to_the_end(file: BinaryIO, reader: CaptureReader) -> Iterator[Entry]:
    while piece := file.read(_PIECE_BYTES):
        reader.feed(piece)
        yield from reader
    yield from reader.finish()


def _followed(path: Path, file: BinaryIO) -> Iterator[Entry]:
    reader = CaptureReader()
    while True:
        while piece := file.read(_PIECE_BYTES):
            reader.feed(piece)
            yield from reader
        following = _next_file(path, file)
        if following is None:
            time.sleep(_LOOK_S)
            continue
        yield from _to_the_end(file, reader)  # what came between the last look and the rotation
        with following:
            yield from _followed(path, following)


def _next_file(path: Path, file: BinaryIO) -> BinaryIO | None:
    """The file behind this one, None while this is the last. Where it has been forgotten: the oldest that is left."""
    try:
        if os.path.samestat(path.stat(), mine := os.fstat(file.fileno())):
            return None
        files = [*older_files(path), path]
        places = [place for place, beside in enumerate(files) if os.path.samestat(beside.stat(), mine)]
        return _opened(files[places[0] + 1 if places else 0])
    except FileNotFoundError:  # the next one is being made, or the oldest was forgotten
        return None


def _frames(file: BinaryIO) -> Iterator[Entry]:
    """Frames one behind the other, of either direction. There is no next boundary behind what is none."""
    reader = FrameReader(MAX_WORKER_FRAME_BYTES)
    offset = number = 0
    try:
        while piece := file.read(_PIECE_BYTES):
            reader.feed(piece)
            for frame in reader:
                number += 1
                yield Record(number, HOST, likely_direction(frame), 0, 0, len(frame), frame, offset)
                offset += HEADER_BYTES + len(frame)
    except FrameError as error:
        if not number:
            raise CaptureError(f"neither a capture nor packets, nor frames behind their lengths: {error}") from None
        yield Damage(offset, os.fstat(file.fileno()).st_size - offset, str(error))
        return
    if reader.pending_bytes:
        if not number:
            raise CaptureError("neither a capture nor packets, nor a whole frame behind its length")
        yield Damage(offset, reader.pending_bytes, "the file ends inside a frame")
