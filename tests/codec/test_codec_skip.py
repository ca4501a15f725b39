"""Stepping over terms: the end that the decoder finds, and no refusal that the decoder does not share."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from codec_verdicts import verdict
from hypothesis import given
from test_codec_hostile import GOLDENS, golden, wrapped
from test_codec_properties import SETTINGS, terms

from erlbridge.codec import DecodeError, Local, _pure, _pure_scan, binary_to_term, term_to_binary
from erlbridge.codec.scan import Scan, skip
from erlbridge.limits import MAX_DEPTH, MAX_INTEGER_BYTES

Vectors = list[dict[str, str]]


def agrees(data: bytes) -> None:
    """What decodes is stepped over whole; what is refused here is refused there, at this offset or before it."""
    term, end = verdict(lambda: binary_to_term(data)), verdict(lambda: skip(data))
    if isinstance(term, Local):
        assert "LOCAL_EXT" in str(end)
    elif not isinstance(term, DecodeError):
        assert end == len(data), data.hex()
    elif isinstance(end, DecodeError):
        assert data[1:2] == b"P" or term.offset <= end.offset, data.hex()
    else:
        assert isinstance(end, int)
        assert end <= len(data)
        # The inside of a compressed term has bytes and offsets of its own.
        followed = "bytes after the term" in str(term) and data[1:2] != b"P"
        assert not followed or end == term.offset, data.hex()


@pytest.mark.parametrize("name", GOLDENS)
def test_every_golden_ends_where_other_bytes_begin(name: str) -> None:
    data = golden(name)
    for tail in (b"", b"\0", data):
        assert skip(data + tail) == len(data)
        assert skip(b"..." + data + tail, 3) == len(data) + 3
        assert skip(memoryview(bytearray(data + tail))) == len(data)
    if data[1:2] != b"P":
        assert skip(data, 1) == len(data)


def test_a_map_with_a_key_twice_that_is_cut_behind_it_is_cut() -> None:
    one = b"d\0\x011"
    data = b"\x83t\0\0\0\2" + one + b"a\4" + one + b"m\0\0\0\4abc"
    for read in (_pure.binary_to_term, binary_to_term, skip):
        with pytest.raises(DecodeError, match="input ends inside a term") as refused:
            read(data)
        assert refused.value.offset == len(data)
    with pytest.raises(DecodeError, match="map with duplicate keys, 1 of 2"):
        binary_to_term(data + b"d")


@pytest.mark.parametrize("name", GOLDENS)
def test_every_prefix_is_cut_at_its_end(name: str) -> None:
    data = golden(name)
    for end in range(len(data)):
        with pytest.raises(DecodeError, match="input ends inside a term") as refused:
            skip(data[:end])
        assert refused.value.offset == end


@pytest.mark.parametrize("name", GOLDENS)
def test_every_change_of_one_byte_is_judged_as_the_decoder_does(name: str) -> None:
    data = bytearray(golden(name))
    for index, byte in enumerate(bytes(data)):
        for changed in range(256):
            data[index] = changed
            agrees(bytes(data))
        data[index] = byte


def test_every_vector_is_judged_as_the_decoder_does(valid: Vectors, hostile: Vectors) -> None:
    for vector in valid + hostile:
        if len(vector["hex"]) < 1_000_000 and "20M" not in vector["name"]:
            agrees(bytes.fromhex(vector["hex"]))


@SETTINGS
@given(terms)
def test_any_term_is_stepped_over_whole_compressed_or_not(term: object) -> None:
    for data in (term_to_binary(term), term_to_binary(term, compressed=True)):
        assert skip(data) == skip(data + b"\x83j") == len(data)


@SETTINGS
@given(terms)
def test_a_scan_fed_byte_by_byte_ends_where_one_of_the_whole_does(term: object) -> None:
    data = term_to_binary(term)
    scan = Scan(1)
    for end in range(1, len(data)):
        assert not scan.advance(data[:end])
    assert scan.advance(data)
    assert scan.pos == len(data)


@pytest.mark.parametrize("opening", [b"l\0\0\0\1", b"h\1", b"t\0\0\0\1a\1", b"i\0\0\0\1"])
def test_nesting_is_bounded_as_in_the_decoder(opening: bytes) -> None:
    closing = b"j" if opening[:1] == b"l" else b""
    data = wrapped(b"j", MAX_DEPTH, opening, closing)
    assert skip(data) == len(data)
    data = wrapped(b"h\0", MAX_DEPTH, opening, closing)
    with pytest.raises(DecodeError, match=f"nested deeper than {MAX_DEPTH}") as refused:
        skip(data)
    with pytest.raises(DecodeError) as decoded:
        binary_to_term(data)
    assert refused.value.offset == decoded.value.offset


def test_a_chain_of_lists_as_tails_is_one_list() -> None:
    data = b"\x83" + b"l\0\0\0\1a\1" * 20_000 + b"k\0\2ab"
    assert skip(data, max_depth=1) == len(data)


@pytest.mark.parametrize("tag", [0x6C, 0x69, 0x74, 0x6D, 0x4D])
def test_a_count_beyond_the_input_costs_no_memory(tag: int) -> None:
    for body in (b"", b"F" + b"\0" * 40, b"a\0" * 20, b"b\0\0\0\0" * 8, b"j" * 40):
        data = bytes((0x83, tag)) + b"\xff\xff\xff\xff" + body
        tracemalloc.start()
        with pytest.raises(DecodeError):
            skip(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000


def test_nothing_is_kept_of_what_a_compressed_term_unpacks_to() -> None:
    plain = b"m" + struct.pack(">I", 8_000_000) + b"\0" * 8_000_000
    data = b"\x83P" + struct.pack(">I", len(plain)) + zlib.compress(plain)
    tracemalloc.start()
    assert skip(data) == len(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    with pytest.raises(DecodeError, match="compressed term of 8000005 bytes, limit 8000004"):
        skip(data, max_bytes=8_000_004)


def test_rows_of_numbers_are_looked_at_no_further_than_they_reach() -> None:
    # Lists in lists that all claim to be rows of floats up to the end of the data: what is looked at must not add up.
    depth, size = 2_000, 1_000_000
    looked_at = 0

    class Counted(bytes):
        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            nonlocal looked_at
            got = super().__getitem__(key)  # type: ignore[index]
            looked_at += len(got) if isinstance(got, bytes) else 1
            return got

    data = b"\x83" + (b"l" + struct.pack(">I", size // 9 - 3 * depth) + (b"F" + b"\0" * 8) * 2) * depth
    data += b"F" * (size - len(data))
    assert not _pure_scan.Scan(1).advance(Counted(data))
    assert 4 * depth < looked_at < size


def test_an_integer_beyond_the_limit_of_the_beam_is_refused() -> None:
    with pytest.raises(DecodeError, match=f"limit {MAX_INTEGER_BYTES}") as refused:
        skip(b"\x83o" + struct.pack(">I", MAX_INTEGER_BYTES + 1) + b"\0")
    assert refused.value.offset == 1


def test_an_offset_before_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="offset -1"):
        skip(b"\x83j", -1)


def test_only_bytes_without_gaps_are_stepped_over() -> None:
    with pytest.raises(TypeError, match="skip takes bytes, not str"):
        skip("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="contiguous"):
        skip(memoryview(b"\x83.a.\1.")[::2])
    assert skip(memoryview(b"\x83a\1\0").cast("H")) == 3


def test_a_term_begins_where_it_is_told_even_beyond_the_data() -> None:
    for offset in (1, 5, 1 << 40, 1 << 70):
        with pytest.raises(DecodeError, match="input ends inside a term") as refused:
            skip(b"\x83", offset)
        assert refused.value.offset == 1
