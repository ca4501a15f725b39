"""The other end of a port and nothing else: reads frames of `{:packet, 4}` and answers each. A node's measure."""

from __future__ import annotations

import contextlib
import fcntl
import os

with contextlib.suppress(OSError):  # as the node does
    fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, 1 << 20)

room = memoryview(bytearray(2 << 20))


def read(size: int) -> bool:
    """Whether so many bytes have come into `room`."""
    there = 0
    while there < size:
        count = os.readv(0, [room[there:size]])
        if not count:
            return False
        there += count
    return True


while read(4) and read(int.from_bytes(room[:4])):
    os.write(1, b"\0\0\0\2ok")
