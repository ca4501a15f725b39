"""Bytes written to a file by a thread, while who has them does something else with them: sums them, for example.

Long streams go past the system's cache of the disk's pages where the file system can do that (`O_DIRECT`): to put them
there, and from there on the disk, costs the processor more than summing them does, and pushes out what others read.
Blocks on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final

DIRECT_FROM_BYTES: Final = 32 * 1024 * 1024
"""Where in its file a stream is long. What is shorter is read again before the cache needs its place."""

_BLOCK_BYTES: Final = 4096
"""What addresses and sizes of such writes are multiples of: the largest block that disks have, the smallest page."""


class Beside:
    """One writer: a thread, begun with the first long write, and the memory that it writes from.

    Args:
        most_bytes: Of one write.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._room: memoryview | None = None
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    @contextlib.contextmanager
    def writing(self, file: int, data: bytes, at: int) -> Iterator[None]:
        """Writes the bytes at the file's end, which is `at`, while the body runs. They are written when it ends,
        however it does. Raises `OSError` then."""
        if at < DIRECT_FROM_BYTES:
            write_all(file, data)
            yield
            return
        room = self._begun()
        if at % _BLOCK_BYTES == 0 and 0 < len(data) <= self._most_bytes and len(data) % _BLOCK_BYTES == 0:
            room[: len(data)] = data
            self._todo.put(lambda: _write_direct(file, room[: len(data)]))
        else:
            self._todo.put(lambda: write_all(file, data))
        try:
            yield
        finally:
            failure = self._done.get()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Ends the thread."""
        if self._room is not None:
            self._room = None
            self._todo.put(None)

    def _begun(self) -> memoryview:
        if self._room is None:
            self._room = memoryview(mmap.mmap(-1, self._most_bytes))  # which begins with a page
            threading.Thread(target=self._run, name="erlbridge-beside", daemon=True).start()
        return self._room

    def _run(self) -> None:
        while (work := self._todo.get()) is not None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                self._done.put(error)
            else:
                self._done.put(None)
            del work  # and the bytes with it


def write_all(file: int, data: bytes | memoryview) -> None:
    """Writes all of it, where the file stands."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _write_direct(file: int, data: memoryview) -> None:
    """The same past the cache; what a file system does not take like this goes through it."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
        data = data[os.write(file, data) :]
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        fcntl.fcntl(file, fcntl.F_SETFL, flags)
    write_all(file, data)
