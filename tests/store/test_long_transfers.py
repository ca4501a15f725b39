"""Streams longer than what goes through the system's cache: whole, also when the process that takes them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from streams import chunks, framed, name_of

from erlbridge.codec import Atom
from erlbridge.core.transfers import DataChunk, parse_chunk
from erlbridge.limits import MAX_CHUNK_BYTES
from erlbridge.store.beside import DIRECT_FROM_BYTES, Beside
from erlbridge.store.store import open_store
from erlbridge.store.transfers import Transfers

BLOCK = 4096
KILLED_BEHIND = 34
"""How many chunks are acknowledged, the last two past the cache."""

TAKER = textwrap.dedent(
    """
    import os, signal, sys
    sys.path[:0] = sys.argv[2:]
    from pathlib import Path
    from test_long_transfers import KILLED_BEHIND, parsed, transfers

    taker = transfers(Path(sys.argv[1]))
    for chunk in parsed()[:KILLED_BEHIND]:
        taker.take(chunk)
    os.kill(os.getpid(), signal.SIGKILL)
    """
)


def stream() -> bytes:
    return framed({b"number": number, b"text": bytes([number % 251]) * 900_000} for number in range(40))


def parsed(chunk_bytes: int = MAX_CHUNK_BYTES) -> list[DataChunk]:
    payloads = chunks("t", stream(), compression="none", chunk_bytes=chunk_bytes)
    return [parse_chunk(payload) for payload in payloads]


def transfers(data: Path) -> Transfers:
    return Transfers(data / "transfers", open_store(data, str).datasets, 2**30)


def stored(data: Path) -> bytes:
    found = open_store(data, str).datasets.check(name_of(stream()))
    assert found.examples == 40
    return Path(os.fsdecode(found.path)).read_bytes()


def test_what_was_acknowledged_of_a_long_stream_outlives_a_kill(tmp_path: Path) -> None:
    taker = subprocess.run([sys.executable, "-c", TAKER, str(tmp_path), *sys.path], check=False)
    assert taker.returncode == -9
    after = transfers(tmp_path)
    assert after.status("t")[Atom("next_index")] == KILLED_BEHIND
    for chunk in parsed()[KILLED_BEHIND:]:
        after.take(chunk)
    after.close()
    assert stored(tmp_path) == stream()


def test_chunks_of_odd_sizes_make_the_same_long_stream(tmp_path: Path) -> None:
    taker = transfers(tmp_path)
    for chunk in parsed(MAX_CHUNK_BYTES - 1):
        taker.take(chunk)
    taker.close()
    assert stored(tmp_path) == stream()


@pytest.fixture
def beside() -> Iterator[Beside]:
    beside = Beside(4 * BLOCK)
    yield beside
    beside.close()


@pytest.mark.parametrize("directory", ["/dev/shm", None], ids=["in memory", "on the disk"])
def test_any_file_system_and_any_size_give_the_bytes_as_they_were(
    tmp_path: Path, directory: str | None, beside: Beside
) -> None:
    file = os.open(directory or tmp_path, os.O_RDWR | os.O_TMPFILE, 0o600)
    pieces = [os.urandom(size) for size in (BLOCK, 4 * BLOCK, 1, 4 * BLOCK, BLOCK - 1, BLOCK, 5 * BLOCK, 0)]
    at = os.lseek(file, DIRECT_FROM_BYTES, os.SEEK_SET)
    for piece in pieces:
        with beside.writing(file, piece, at):
            pass
        at += len(piece)
        assert os.fstat(file).st_size == at
    assert os.pread(file, at, DIRECT_FROM_BYTES) == b"".join(pieces)
    os.close(file)


def test_what_the_disk_refuses_is_told_when_the_body_is_over_and_the_next_write_is_whole(
    tmp_path: Path, beside: Beside
) -> None:
    path = tmp_path / "file"
    path.touch()
    unwritable, file = os.open(path, os.O_RDONLY), os.open(path, os.O_RDWR)
    done = []
    with (
        pytest.raises(OSError, match="Bad file descriptor"),
        beside.writing(unwritable, b"x" * BLOCK, DIRECT_FROM_BYTES),
    ):
        done.append("body")
    assert done == ["body"]
    with pytest.raises(KeyError), beside.writing(file, b"y" * BLOCK, DIRECT_FROM_BYTES):
        raise KeyError("of the body")
    assert path.read_bytes() == b"y" * BLOCK
    os.close(unwritable)
    os.close(file)
