"""The other end of a port and nothing else: reads frames of `{:packet, 4}` and answers each. A node's measure.

With the argument `sum` a thread takes the SHA-256 of what comes, which is the least that a transfer's receiver does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import queue
import sys
import threading

FRAME_BYTES = 2 << 20

with contextlib.suppress(OSError):  # as the node does
    fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, 1 << 20)

rooms: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
for _ in range(4):
    rooms.put(memoryview(bytearray(FRAME_BYTES)))
read_frames: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()


def read(room: memoryview, size: int) -> bool:
    """Whether so many bytes have come into the room."""
    there = 0
    while there < size:
        count = os.readv(0, [room[there:size]])
        if not count:
            return False
        there += count
    return True


def answer_each() -> None:
    """Sums each frame, answers it and gives its room back."""
    summed = hashlib.sha256()
    while (frame := read_frames.get()) is not None:
        room, size = frame
        summed.update(room[:size])
        rooms.put(room)
        os.write(1, b"\0\0\0\2ok")


if sys.argv[1:] == ["sum"]:
    summing = threading.Thread(target=answer_each)
    summing.start()
    while read(room := rooms.get(), 4) and read(room, size := int.from_bytes(room[:4])):
        read_frames.put((room, size))
    read_frames.put(None)
    summing.join()
else:
    room = rooms.get()
    while read(room, 4) and read(room, int.from_bytes(room[:4])):
        os.write(1, b"\0\0\0\2ok")
