"""Captured output becomes lines, however the pieces fall and however long a line is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from erlbridge.core.lines import LineReader


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_cut_gives_the_same_lines(data: bytes, size: int) -> None:
    whole, cut = LineReader(), LineReader()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    once = [*whole.feed(data), *whole.close()]
    assert [line for piece in pieces for line in cut.feed(piece)] + list(cut.close()) == once


def test_a_line_above_the_limit_is_cut_and_memory_stays_bounded() -> None:
    reader = LineReader(limit_bytes=10)
    for _ in range(1000):
        assert list(reader.feed(b"x" * 1000)) == []
    assert list(reader.feed(b"\nshort\n")) == [b"x" * 10, b"short"]


def test_a_progress_bar_drawn_with_carriage_returns_arrives_as_lines() -> None:
    assert list(LineReader().feed(b"10 %\r20 %\r\n\n")) == [b"10 %", b"20 %"]
