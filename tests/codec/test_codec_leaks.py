"""What the codec holds on to after thousands of calls, error paths included: nothing. For the twin that is in use."""

from __future__ import annotations

import contextlib
import gc
import sys
from array import array
from collections.abc import Callable

import pytest
from test_codec_hostile import GOLDENS, golden

from erlbridge.codec import (
    IMPLEMENTATION,
    Atom,
    ImproperList,
    TermMap,
    binary_to_term,
    term_to_binary,
    term_to_iovec,
)
from erlbridge.codec.lazy import LazyTerm
from erlbridge.codec.scan import Scan, skip
from erlbridge.codec.stream import StreamDecoder
from erlbridge.errors import BridgeError

CALLS = 4_000 if IMPLEMENTATION == "compiled" else 500
SHARED = (None, True, False, Atom("ok"), Atom("nil"), 0, 1, 255, b"", ())


def stays(call: Callable[[], object], calls: int = CALLS) -> None:
    """Neither memory blocks nor references to what is shared grow with the number of calls."""

    def repeat(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(BridgeError, ValueError, TypeError, ZeroDivisionError):
                call()

    repeat(100)
    gc.collect()
    references = [sys.getrefcount(value) for value in SHARED]
    blocks = sys.getallocatedblocks()
    repeat(calls)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < calls // 20 + 20
    for value, before in zip(SHARED, references, strict=True):
        assert abs(sys.getrefcount(value) - before) < calls // 20 + 20, repr(value)


@pytest.mark.parametrize("name", GOLDENS)
def test_decoding_and_encoding_a_golden_leaves_nothing_behind(name: str) -> None:
    data = golden(name)
    term = binary_to_term(data)
    stays(lambda: binary_to_term(data), CALLS // 5)
    stays(lambda: term_to_binary(term), CALLS // 5)


@pytest.mark.parametrize("name", GOLDENS)
def test_a_refused_golden_leaves_nothing_behind(name: str) -> None:
    data = golden(name)
    cuts = [data[:end] for end in range(1, len(data))] + [data + b"\0"]

    def call() -> None:
        for cut in cuts:
            with contextlib.suppress(BridgeError):
                binary_to_term(cut)

    stays(call, max(60, CALLS // 10 // len(cuts)))


def test_maps_of_known_shapes_leave_nothing_behind() -> None:
    row = b"t\0\0\0\3w\2ida\1w\4nameh\2a\1jw\5innert\0\0\0\1w\1xw\2ok"
    other = b"t\0\0\0\3w\2ida\1w\4namew\3nilw\5otherj"
    for data in (row * 5, (row + other) * 3, row * 4 + row[:20], row * 4 + other[:-2] + b"\xff"):
        stays(lambda data=data: binary_to_term(b"\x83h\x06" + data))  # type: ignore[misc]
        stays(lambda data=data: binary_to_term(b"\x83h\x05" + data))  # type: ignore[misc]


def test_values_that_are_refused_leave_nothing_behind() -> None:
    deep: object = set()
    for _ in range(300):
        deep = [(deep,)]
    cyclic: list[object] = []
    cyclic.append(cyclic)
    for term in (
        [1, float("nan")],
        {Atom("a"): [b"x", set()]},
        {"a": 1, b"a": 2},
        {(1, 2): (1j,)},
        "\ud800",
        [1 << 70_000, object()],
        deep,
        cyclic,
        ImproperList([1], {1j: 2}),
        TermMap([(1, set()), (1.0, 2)]),
    ):
        stays(lambda term=term: term_to_binary(term), CALLS // 20)  # type: ignore[misc]
        stays(lambda term=term: term_to_iovec(term, deterministic=True), CALLS // 20)  # type: ignore[misc]


def test_a_default_leaves_nothing_behind_whatever_it_does() -> None:
    term = {Atom("a"): [object(), (object(),)], (object(), 1): 2}
    stays(lambda: term_to_binary(term, default=lambda value: [Atom("made"), b"x"]), CALLS // 5)
    stays(lambda: term_to_binary(term, default=lambda value: 1 / 0), CALLS // 5)
    stays(lambda: term_to_binary(term, default=lambda value: value), CALLS // 100)


def test_large_parts_leave_nothing_behind() -> None:
    large = bytes(100_000)
    term = [large, {Atom("k"): large}, [0.5] * 1000, "é" * 70_000]
    stays(lambda: term_to_iovec(term), CALLS // 20)
    stays(lambda: term_to_binary(term), CALLS // 20)
    data = term_to_binary(term)
    stays(lambda: binary_to_term(bytearray(data)), CALLS // 20)
    stays(lambda: binary_to_term(memoryview(data)[:-1]), CALLS // 20)


def test_calls_with_wrong_arguments_leave_nothing_behind() -> None:
    for options in ({"depth": 1}, {"max_depth": "x"}, {"data": b""}):
        stays(lambda options=options: binary_to_term(b"\x83a\1", **options), CALLS // 5)  # type: ignore[misc]
    stays(lambda: term_to_binary(1, compressed=10), CALLS // 5)
    stays(lambda: binary_to_term("text"), CALLS // 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", GOLDENS)
def test_stepping_over_a_golden_leaves_nothing_behind_whole_or_cut(name: str) -> None:
    data = golden(name)

    def call() -> None:
        scan, offsets = Scan(1), array("Q")
        for end in {len(data) // 3, len(data) - 1, len(data)}:
            with contextlib.suppress(BridgeError):
                skip(data[:end])
            with contextlib.suppress(BridgeError):
                scan.advance(data[:end])
        scan.restart(1)
        scan.starts(data, 4, offsets)

    stays(call, CALLS // 10)


def test_finding_where_terms_begin_leaves_nothing_in_the_interpreters_cache_of_methods() -> None:
    """Which keeps each name that it has not seen, were it made anew for every call."""
    scan, offsets = Scan(1), array("Q")
    grown = []
    for _ in range(20):
        sys._clear_type_cache()
        blocks = sys.getallocatedblocks()
        for _ in range(5):
            scan.restart(1)
            scan.starts(b"\x83a\1", 1, offsets)
        grown.append(sys.getallocatedblocks() - blocks)
        del offsets[:]
    assert min(grown) == 0


def test_refused_scans_leave_nothing_behind() -> None:
    for data in (b"\xff", b"h\2a\1\xff", b"h\1" * 40 + b"r\0\7", b"p" + b"\xff" * 40, b"q" + b"j" * 9):
        stays(lambda data=data: Scan(0).advance(data), CALLS // 5)  # type: ignore[misc]
        stays(lambda data=data: Scan(0, max_depth=3).starts(data, 9, array("Q")), CALLS // 5)  # type: ignore[misc]
    stays(lambda: Scan(-1), CALLS // 5)
    stays(lambda: Scan("0"), CALLS // 5)  # type: ignore[arg-type]
    stays(lambda: Scan(0).advance("text"), CALLS // 5)  # type: ignore[arg-type]
    stays(lambda: Scan(0).starts(b"j", 1, None), CALLS // 5)  # type: ignore[arg-type]


def test_streams_and_lazy_terms_leave_nothing_behind() -> None:
    data = term_to_binary([{Atom("k"): [index, b"x" * 50]} for index in range(40)])

    def stream() -> None:
        decoder = StreamDecoder()
        decoder.feed(data + data[:50])
        assert len(list(decoder)) == 1
        decoder.feed(b"\xff" * 60)
        list(decoder)

    stays(stream, CALLS // 50)
    for whole in (data, data[:-300]):
        stays(lambda whole=whole: LazyTerm(whole)[39]["k"][1].value(), CALLS // 50)  # type: ignore[misc]
