"""Captured output becomes lines, however the pieces fall, however long a line is and however many there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from erlbridge.core.lines import LineReader, Rate, shortened

TEXT = st.lists(st.sampled_from([b"a", b"bc", b" ", b"\r", b"\n", b"\r\n"])).map(b"".join)


@given(TEXT, st.integers(1, 20))
def test_any_cut_gives_the_same_lines(data: bytes, size: int) -> None:
    whole, cut = LineReader(), LineReader()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    once = [*whole.feed(data), *whole.close()]
    assert [line for piece in pieces for line in cut.feed(piece)] + cut.close() == once


@given(TEXT)
def test_a_line_is_what_a_terminal_would_show_last(data: bytes) -> None:
    reader = LineReader()
    shown = [line.rstrip(b"\r").rpartition(b"\r")[2].rstrip() for line in data.split(b"\n")]
    assert [*reader.feed(data), *reader.close()] == [line for line in shown if line]


def test_a_line_above_the_limit_is_cut_and_memory_stays_bounded() -> None:
    reader = LineReader(limit_bytes=10)
    for _ in range(1000):
        assert reader.feed(b"x" * 1000) == []
    assert reader.feed(b"\nshort\n") == [b"x" * 10, b"short"]


def test_of_a_progress_bar_the_last_state_arrives() -> None:
    reader = LineReader()
    for percent in range(1000):
        assert reader.feed(b"\r%d of 1000" % percent) == []
    assert reader.feed(b"\r1000 of 1000\r\n\n") == [b"1000 of 1000"]
    assert (reader.feed(b"\rhalf"), reader.close()) == ([], [b"half"])


def test_lines_above_the_number_are_counted_and_the_next_is_whole() -> None:
    reader = LineReader()
    assert reader.feed(b"one\ntwo\nthree\nfour\nfi", most=2) == [b"one", b"two"]
    assert (reader.dropped, reader.feed(b"ve\n")) == (2, [b"five"])
    assert (reader.feed(b"half a\nnew", most=0), reader.close(), reader.dropped) == ([], [b"new"], 3)


def test_a_rate_lets_a_burst_pass_and_then_so_many_a_second() -> None:
    rate = Rate(per_s=2, burst=4)
    assert rate.left(10.0) == 4
    rate.spend(4)
    assert [rate.left(now) for now in (10.0, 10.4, 10.5, 11.0, 99.0)] == [0, 0, 1, 2, 4]


@given(st.text(max_size=200), st.integers(10, 100))
def test_a_long_text_keeps_its_beginning_and_its_end(text: str, limit: int) -> None:
    short, whole = shortened(text, limit), text.encode(errors="replace")
    assert len(short) < limit + 40
    assert (
        short == whole
        if len(whole) <= limit
        else (short[:5], short[-5:]) == (whole[:5], whole[-5:]) or not whole.isascii()
    )
