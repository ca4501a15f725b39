"""What this machine takes for each pass over a transfer's bytes: nanoseconds of the processor, and of time, for a byte.

    python benchmarks/transfer_bounds.py [directory]

The passes are those of the node: the pipe read, the chunk decoded, its examples counted, its bytes summed, moved to
where they are written from, and written. The directory is where the file of 1 GB is written to, and removed. The least
of some rounds, so that what else the machine does shows little; only the system's own threads, which bring its cache to
the disk, are in no figure but that of time.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable

import report

from erlbridge.codec import Atom, _pure, binary_to_term, term_to_binary
from erlbridge.codec.scan import count_maps
from erlbridge.node.heap import Burst

MEGABYTE = 1024 * 1024
FILE_MEGABYTES = 1024
ROUNDS = 5


def passed(name: str, megabytes: int, work: Callable[[], None], rounds: int = ROUNDS) -> tuple[str, str, str]:
    """The table's line of one pass: nanoseconds of the processor, and of time, for a byte."""
    spans = []
    for _ in range(rounds):
        begun, begun_at = time.process_time(), time.perf_counter()
        work()
        spans.append((time.process_time() - begun, time.perf_counter() - begun_at))
    worked, span = (min(found) / megabytes / MEGABYTE * 1e9 for found in zip(*spans, strict=True))
    return name, f"{worked:.2f}", f"{span:.2f}"


def again(call: Callable[[], object], times: int = 200) -> Callable[[], None]:
    def work() -> None:
        for _ in range(times):
            call()

    return work


def piped(data: bytes, times: int) -> None:
    """Both ends of a pipe: what writes to it is the BEAM."""
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, MEGABYTE)
    room = memoryview(bytearray(MEGABYTE))

    def write() -> None:
        for _ in range(times):
            view = memoryview(data)
            while view:
                view = view[os.write(writing, view) :]

    writer = threading.Thread(target=write)
    writer.start()
    left = times * len(data)
    while left:
        left -= os.readv(reading, [room])
    writer.join()
    os.close(reading)
    os.close(writing)


def unnamed(directory: str, flags: int) -> int:
    """A file without a name, which goes when it is closed."""
    return os.open(directory, os.O_RDWR | os.O_TMPFILE | flags, 0o600)


def written(directory: str, data: memoryview, flags: int) -> None:
    """A file, on the disk when this returns."""
    file = unnamed(directory, flags)
    for index in range(FILE_MEGABYTES):
        if index % 32 == 0:
            os.posix_fallocate(file, index * MEGABYTE, 32 * MEGABYTE)
        os.write(file, data)
    os.fsync(file)
    os.close(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    report.takes_flags(parser, gate=False)
    parser.add_argument("directory", nargs="?", default=tempfile.gettempdir(), metavar="DIRECTORY")
    given = parser.parse_args()
    directory = given.directory
    try:
        os.close(unnamed(directory, os.O_DIRECT))
    except OSError as error:
        parser.error(f"a file past the cache cannot be written to {directory}: {error.strerror}")
    Burst().begin()  # blocks of a chunk stay in the heap, as in the node
    example = term_to_binary({Atom("text"): b"x" * 1000})
    stream = (len(example).to_bytes(4) + example) * (MEGABYTE // (len(example) + 4))
    data = memoryview(mmap.mmap(-1, MEGABYTE))
    data[:] = os.urandom(MEGABYTE)
    frame = term_to_binary((Atom("data_chunk"), 1, {Atom("data"): bytes(data)}))
    room = memoryview(mmap.mmap(-1, MEGABYTE))
    summed = hashlib.sha256()

    def move() -> None:
        room[:] = data

    rows = [
        passed("a pipe, written and read", 200, lambda: piped(bytes(data), 200)),
        passed("a chunk decoded", 200, again(lambda: binary_to_term(frame))),
        passed("examples of 1 KB counted, in C", 200, again(lambda: count_maps(stream, 0, MEGABYTE))),
        passed("the same in Python", 200, again(lambda: _pure.count_maps(stream, 0, MEGABYTE))),
        passed("SHA-256", 200, again(lambda: summed.update(data))),
        passed("moved to a page's beginning", 200, again(move)),
        passed("written past the cache", FILE_MEGABYTES, lambda: written(directory, data, os.O_DIRECT), 3),
        passed("written through the cache", FILE_MEGABYTES, lambda: written(directory, data, 0), 3),
    ]
    table = report.markdown(("a pass", "the processor, ns for a byte", "time"), rows)
    report.publish("transfer_bounds", table, write=given.write)


if __name__ == "__main__":
    main()
