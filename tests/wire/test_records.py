"""Frames that wait as records: the same bytes from both twins, and what a reader of captures makes of them."""

from __future__ import annotations

import gc
import sys
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.codec import term_to_binary
from erlbridge.wire.capture import FILE_HEADER, HOST, CaptureReader, Record
from erlbridge.wire.records import PureRecords, Taken, pure_seal_records, waiting_frames

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

Direction = Literal["in", "out"]
times = st.integers(0, 2**62)
added = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.sampled_from(("in", "out")),
        st.binary(max_size=60) | st.just(term_to_binary([1] * 40, compressed=9)),
        times,
    ),
    max_size=12,
)


def taken(records: PureRecords) -> tuple[bytearray, Taken]:
    content = bytearray(b"what was there before")
    return content, Taken(*records.take(content))


@given(added, st.integers(0, 50), st.integers(0, 600), st.integers(0, 60), st.integers(-(2**40), 2**40))
def test_both_twins_give_the_same(
    frames: list[tuple[int, Direction, bytes, int]], take: int, most: int, keep: int, offset_ns: int
) -> None:
    woken: tuple[list[int], list[int]] = ([], [])
    pure = PureRecords(take, most, lambda: woken[0].append(1), lambda: 0)
    fast = compiled.Records(take, most, lambda: woken[1].append(1), lambda: 0)
    for _ in range(2):  # what is taken leaves nothing behind but the number
        for wire, direction, frame, at_ns in frames:
            pure.add(wire, direction, frame, at_ns)
            fast.add(wire, direction, memoryview(frame), at_ns)
        ours, theirs = taken(pure), taken(fast)
        assert ours == theirs
        assert woken[0] == woken[1]
        content, told = ours
        assert told.frames + told.lost == len(frames)
        assert told.packed == any(frame[1:2] == b"P" for _, _, frame, _ in frames[: told.frames])
        other = theirs[0]
        size = pure_seal_records(content, offset_ns, keep)
        assert compiled.seal_records(other, offset_ns, keep) == size
        assert content[:size] == other[:size]


@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda tail: b"\xf5rec" + tail), times)
def test_bytes_that_are_no_records_are_refused_by_both(data: bytes, offset_ns: int) -> None:
    outcomes = []
    for seal in (pure_seal_records, compiled.seal_records):
        try:
            outcomes.append(seal(bytearray(data), offset_ns, 100))
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("twin", [PureRecords, compiled.Records])
def test_a_reader_of_captures_finds_what_was_added(twin: type[PureRecords]) -> None:
    records = twin(100, 1 << 20, lambda: None, lambda: 5)
    records.add(HOST, "in", b"\x83a\x01")
    records.add(7, "out", b"\x83" + bytes(150), 6)
    content, told = taken(records)
    assert told == Taken(2, False, 2, 0, 0)
    assert [found.frame for found in waiting_frames(content)] == [b"\x83a\x01", b"\x83" + bytes(99)]
    seal = compiled.seal_records if twin is not PureRecords else pure_seal_records
    reader = CaptureReader()
    reader.feed(FILE_HEADER + content[: seal(content, 1000, 80)])
    assert list(reader.finish()) == [
        Record(1, HOST, "in", 5, 1005, 3, b"\x83a\x01", 16),
        Record(2, 7, "out", 6, 1006, 151, b"\x83" + bytes(79), 16 + 52 + 3),
    ]


@pytest.mark.parametrize("twin", [PureRecords, compiled.Records])
def test_what_finds_no_room_is_lost_with_all_behind_it_and_a_long_one_fits_alone(twin: type[PureRecords]) -> None:
    records = twin(1000, 200, lambda: None, lambda: 5)
    records.add(HOST, "in", bytes(900))
    records.add(HOST, "in", b"1")
    records.add(HOST, "in", b"22")
    assert taken(records)[1] == Taken(1, False, 3, 2, 3)
    records.add(HOST, "in", b"333")
    content, told = taken(records)
    assert told == Taken(1, False, 4, 0, 0)
    assert [found.number for found in waiting_frames(content)] == [4]


@pytest.mark.parametrize("twin", [PureRecords, compiled.Records])
def test_sizes_that_are_none_are_refused(twin: type[PureRecords]) -> None:
    for sizes in ((-1, 5), (5, -1), (1 << 31, 5)):
        with pytest.raises(ValueError, match="expected 0 <= take_bytes < 2 GiB"):
            twin(*sizes, lambda: None, lambda: 5)


def test_the_compiled_twin_keeps_nothing_and_refuses_what_it_cannot_add() -> None:
    def wake() -> None:
        raise RuntimeError("woken")

    before = sys.getrefcount(wake)
    for _ in range(50):
        records = compiled.Records(100, 1000, wake, lambda: 5)
        with pytest.raises(RuntimeError, match="woken"):
            records.add(1, "in", b"frame")
        for arguments in ((1, "in"), (-1, "in", b""), (1, b"in", b""), (1, "in", "text"), (1 << 32, "in", b"")):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                records.add(*arguments)
        with pytest.raises(TypeError, match="bytearray"):
            records.take(b"")
        content = bytearray()
        with memoryview(content), pytest.raises(BufferError):
            records.take(content)
        assert Taken(*records.take(content)).frames == 1
    del records
    gc.collect()
    assert sys.getrefcount(wake) == before
