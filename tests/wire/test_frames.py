"""Frames: every stream, cut anywhere, gives the same frames; a length above the limit is refused unread."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.errors import FrameError
from erlbridge.wire.frames import FrameReader, FrameWriter


def written(*frames: bytes) -> bytes:
    writer = FrameWriter()
    for frame in frames:
        writer.add(frame)
    stream = b""
    while writer.pending_bytes:  # `buffers` gives so many at a time
        some = b"".join(writer.buffers())
        writer.advance(len(some))
        stream += some
    return stream


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 7)))
def test_any_cut_of_the_stream_gives_the_same_frames(frames: list[bytes], cuts: list[int]) -> None:
    stream = written(*frames)
    reader = FrameReader()
    found: list[bytes] = []
    for cut in [*cuts, len(stream)]:
        reader.feed(stream[:cut])
        stream = stream[cut:]
        found += reader
    assert found == frames
    assert reader.pending_bytes == 0


def test_frames_that_were_left_come_before_what_is_read_behind_them() -> None:
    stream = written(b"first", b"second", b"third", b"fourth")
    reader = FrameReader()
    reader.feed(stream[:25])
    assert next(reader.views()) == b"first"
    assert reader.pending_bytes == 25 - 9
    reader.feed(stream[25:])
    assert list(reader) == [b"second", b"third", b"fourth"]
    assert reader.pending_bytes == 0


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    reader = FrameReader(limit_bytes=10)
    reader.feed(written(b"x" * 10))
    assert list(reader) == [b"x" * 10]


def test_a_length_above_the_limit_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader(limit_bytes=10)
    reader.feed((11).to_bytes(4))
    with pytest.raises(FrameError, match="frame of 11 bytes, limit 10"):
        list(reader)


def test_frames_before_a_bad_length_are_given_first() -> None:
    reader = FrameReader(limit_bytes=10)
    reader.feed(written(b"good") + b"\xff\xff\xff\xff")
    frames = iter(reader)
    assert next(frames) == b"good"
    with pytest.raises(FrameError, match="frame of 4294967295 bytes"):
        next(frames)


def test_a_writer_refuses_what_its_reader_would() -> None:
    writer = FrameWriter(limit_bytes=3)
    with pytest.raises(FrameError, match="frame of 4 bytes, limit 3"):
        writer.add(b"four")
    assert writer.pending_bytes == 0


@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"s" * 16_384, b"l" * 16_385, b"l" * 70_000]), min_size=1),
    st.lists(st.integers(1, 9) | st.integers(10_000, 80_000)),
)
def test_a_writer_survives_partial_writes(frames: list[bytes], takes: list[int]) -> None:
    writer = FrameWriter()
    for frame in frames:
        writer.add(frame)
    sent = bytearray()
    for take in [*takes, *([1_000_000] * len(frames))]:
        chunk = b"".join(writer.buffers())[:take]
        sent += chunk
        writer.advance(len(chunk))
    while writer.pending_bytes:
        chunk = b"".join(writer.buffers())
        sent += chunk
        writer.advance(len(chunk))
    assert bytes(sent) == b"".join(len(frame).to_bytes(4) + frame for frame in frames)


def test_frames_of_every_length_are_read_where_they_stay() -> None:
    lengths = (5, 300_000, 3 * 2**20, 0, 5 * 2**20, 70_000, 2 * 2**20, 1)
    stream = memoryview(written(*(bytes([number]) * length for number, length in enumerate(lengths))))
    reader = FrameReader()
    found: list[tuple[int, set[int]]] = []
    while stream:
        count = 0
        for room in reader.room():
            part = min(len(room), len(stream))
            room[:part] = stream[:part]
            stream, count = stream[part:], count + part
        reader.filled(count)
        found += [(len(frame), set(bytes(frame))) for frame in reader.views()]
    assert found == [(length, {number} if length else set()) for number, length in enumerate(lengths)]
    assert reader.pending_bytes == 0


def test_a_very_long_frame_takes_memory_as_it_comes_and_none_that_is_shared() -> None:
    length = 8 * 2**20
    before, reader = resident_bytes(), FrameReader()
    reader.feed(length.to_bytes(4) + b"x")
    assert not list(reader)
    assert resident_bytes()["RssAnon"] - before["RssAnon"] < length / 4
    reader.feed(bytes(length - 1))
    assert resident_bytes()["RssShmem"] == before["RssShmem"]
    assert [len(frame) for frame in reader.views()] == [length]


def resident_bytes() -> dict[str, int]:
    """The memory that this process has, by what it is."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Rss"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _unit in lines}
