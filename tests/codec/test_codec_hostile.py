"""Broken, huge and deep input: a value or a DecodeError, quickly, and nothing else."""

from __future__ import annotations

import struct
import sys
import threading
import time
import tracemalloc
import zlib

import pytest

from erlbridge.codec import DecodeError, ImproperList, TermMap, _pure_decode, binary_to_term, term_to_binary
from erlbridge.limits import MAX_DEPTH, MAX_INFLATION, MAX_INTEGER_BYTES, MAX_KEY_NESTING

GOLDENS = {
    "small integer": "83617f",
    "integer": "8362fffffffe",
    "small big": "836e0801000000000000ff08",
    "large big": "836f0000000300010203",
    "float": "83463fd3333333333334",
    "old float": "8363312e3530303030303030303030303030303030303030652b30300000000000",
    "latin atom": "83640002e961",
    "utf-8 atom": "837703e697a5",
    "long utf-8 atom": "83760002c3a9",
    "binary": "836d00000003616263",
    "bits": "834d0000000205ff08",
    "charlist": "836b0003616263",
    "list": "836c000000026101770161 6a",
    "improper list": "836c0000000261016102 6103",
    "list of floats": "836c00000004463ff0000000000000464000000000000000464008000000000000464010000000000000 6a",
    "list of integers": "836c00000004620000010062000001016200000102 6200000103 6a",
    "tuple": "8368036a6800 7400000000",
    "large tuple": "836900000002 6101 6102",
    "map": "837400000002 770161 6101 770162 6c000000016d00000001786a",
    "odd map": "837400000003 6101 6101 463ff0000000000000 6102 6b000101 6103",
    "pid": "8358 7703614062 00000007 00000008 00000005",
    "old pid": "8367 640003614062 00000001 00000002 03",
    "port": "8378 7703614062 0000000000000005 00000005",
    "reference": "835a0003 7703614062 00000005 00000009 00000008 00000007",
    "old reference": "83720001 640003614062 01 00000009",
    "export": "8371 7705 6c69737473 7703 6d6170 6102",
    "fun": "8370 0000003e 01" + "00" * 16 + "00000000 00000001"
    " 7701 7a 6100 6100 58 7703614062 00000007 00000008 00000005 6a",
    "compressed": (b"\x83P" + struct.pack(">I", 24) + zlib.compress(b"l\0\0\0\x06" + b"w\1a" * 6 + b"j")).hex(),
    "negative integer": "8362 ffffffff",
    "negative big": "836e0901 000000000000000001",
    "integers of all sizes": "836c00000007 6100 61ff 6200000100 6280000000 627fffffff"
    " 6e040000000080 6e0800ffffffffffffff7f 6a",
    "negative zero": "8346 8000000000000000",
    "least float": "8346 0000000000000001",
    "latin atom of two bytes": "8364 0001 e9",
    "truth values": "836c00000005 64000474727565 64000566616c7365 6400036e696c 640000 640009756e646566696e6564 6a",
    "empty containers": "836805 6a 6800 7400000000 6d00000000 6a",
    "one bit": "834d00000001 01 80",
    "text": "836d00000008 e697a5e69cac c3a9",
    "list of an atom and integers": "836c00000004 64000161 6101 6102 6103 6a",
    "nested lists": "836c00000001 6c00000001 6c00000001 6c00000001 463ff0000000000000 6a 6a 6a 6a",
    "nested tuples": "836801 6801 6801 6801 64000161",
    "nested maps": "837400000001 64000161 7400000001 64000161 7400000001 64000161 6101",
    "map as key": "837400000001 7400000001 61016102 6103",
    "tuples as keys": "837400000002 68026101 6102 6101 6802463ff0000000000000 6102 6102",
    "records": "836c00000003 7400000002 64000161 6101 64000162 6102 7400000002 64000161 6103 64000162 6104"
    " 7400000002 64000161 6105 64000162 6106 6a",
    "keyword list": "836c00000002 6802 64000161 6101 6802 64000162 6d0000000178 6a",
    "exports": "836c00000002 71 6400066572 6c616e67 64000473656c66 6100 71 6400056c69737473 6400036d6170 6102 6a",
    "compressed tuple": "8350 00000043 78dacb60cc656060b0494c221f0200febe17ed",
    "old port": "8366 640003614062 00000005 02",
    "oldest reference": "8365 640003614062 00000007 02",
}


def golden(name: str) -> bytes:
    return bytes.fromhex(GOLDENS[name].replace(" ", ""))


def attempt(data: bytes) -> None:
    """Decodes; what decodes must encode too."""
    try:
        term = binary_to_term(data)
    except DecodeError:
        pass
    else:
        term_to_binary(term)
        term_to_binary(term, deterministic=True)


def wrapped(inner: bytes, depth: int, opening: bytes, closing: bytes = b"") -> bytes:
    return b"\x83" + opening * depth + inner + closing * depth


@pytest.mark.parametrize("name", GOLDENS)
def test_every_golden_decodes_and_comes_back(name: str) -> None:
    term = binary_to_term(golden(name))
    assert binary_to_term(term_to_binary(term)) == term


@pytest.mark.parametrize("name", GOLDENS)
def test_every_prefix_is_refused(name: str) -> None:
    data = golden(name)
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            binary_to_term(data[:end])


@pytest.mark.parametrize("name", GOLDENS)
def test_every_change_of_one_byte_gives_a_value_or_a_decode_error(name: str) -> None:
    data = bytearray(golden(name))
    for index, byte in enumerate(bytes(data)):
        for changed in range(256):
            data[index] = changed
            attempt(bytes(data))
        data[index] = byte


@pytest.mark.parametrize("name", GOLDENS)
def test_every_byte_removed_or_doubled_gives_a_value_or_a_decode_error(name: str) -> None:
    data = golden(name)
    for index in range(len(data)):
        attempt(data[:index] + data[index + 1 :])
        attempt(data[: index + 1] + data[index:])


@pytest.mark.parametrize("name", GOLDENS)
def test_a_trailing_byte_is_refused_with_its_offset(name: str) -> None:
    data = golden(name)
    with pytest.raises(DecodeError, match="1 bytes after the term") as refused:
        binary_to_term(data + b"\0")
    assert refused.value.offset == len(data)


@pytest.mark.parametrize("tag", [0x6C, 0x69, 0x74, 0x6D, 0x4D, 0x6F])
def test_a_count_beyond_the_input_costs_no_memory(tag: int) -> None:
    for body in (b"", b"F" + b"\0" * 40, b"a\0" * 20, b"b\0\0\0\0" * 8, b"j" * 40):
        data = bytes((0x83, tag)) + b"\xff\xff\xff\xff" + body
        tracemalloc.start()
        with pytest.raises(DecodeError):
            binary_to_term(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000


@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"l\0\0\0\1", b"j"), (b"h\1", b""), (b"t\0\0\0\1a\1", b""), (b"i\0\0\0\1", b""), (b"l\0\0\0\1a\1h\1", b"")],
    ids=["list", "tuple", "map", "large tuple", "improper tail"],
)
def test_terms_nest_to_the_limit_both_ways_and_no_deeper(opening: bytes, closing: bytes) -> None:
    assert sys.getrecursionlimit() < MAX_DEPTH
    levels = 2 if opening.endswith(b"a\1h\1") else 1
    depth = MAX_DEPTH // levels
    inner = b"m\0\0\0\0"
    data = wrapped(inner, depth, opening, closing)
    assert term_to_binary(binary_to_term(data)) in (data, data.replace(b"i\0\0\0\1", b"h\1"))
    with pytest.raises(DecodeError, match=f"nested deeper than {MAX_DEPTH}"):
        binary_to_term(wrapped(b"h\1" + inner, depth, opening, closing))
    with pytest.raises(DecodeError, match="nested deeper than 3"):
        binary_to_term(wrapped(inner, 4, opening, closing), max_depth=3)


def test_a_depth_of_nothing_leaves_single_values() -> None:
    assert binary_to_term(b"\x83a\1", max_depth=0) == 1
    with pytest.raises(DecodeError):
        binary_to_term(b"\x83h\0", max_depth=0)


def test_terms_nest_to_the_limit_in_a_thread() -> None:
    data = wrapped(b"a\7", MAX_DEPTH, b"h\1")
    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.append(term_to_binary(binary_to_term(data))))
    thread.start()
    thread.join()
    assert results == [data]


def test_a_map_key_nests_to_the_limit() -> None:
    data = b"\x83t\0\0\0\1" + b"h\1" * (MAX_DEPTH - 1) + b"a\7" + b"a\1"
    assert term_to_binary(binary_to_term(data)) == data
    data = b"\x83t\0\0\0\1" + b"l\0\0\0\1" * (MAX_DEPTH - 1) + b"m\0\0\0\0" + b"j" * (MAX_DEPTH - 1) + b"a\1"
    assert term_to_binary(binary_to_term(data)) == data


def test_two_deep_keys_that_are_equal_are_refused() -> None:
    key = b"h\1" * 5000 + b"a\7"
    with pytest.raises(DecodeError, match="duplicate keys"):
        binary_to_term(b"\x83t\0\0\0\2" + key + b"a\1" + key + b"a\2")


def test_deep_funs_as_keys_are_told_apart() -> None:
    head = b"p\0\0\0\0\1" + b"\0" * 16 + b"\0\0\0\0" + b"\0\0\0\1" + b"w\1za\0a\0j"
    one, two = head * 3000 + b"a\1", head * 3000 + b"a\2"
    term = binary_to_term(b"\x83t\0\0\0\2" + one + b"a\1" + two + b"a\2")
    assert isinstance(term, TermMap)
    with pytest.raises(DecodeError, match="duplicate keys"):
        binary_to_term(b"\x83t\0\0\0\2" + one + b"a\1" + one + b"a\2")


def test_maps_as_keys_of_maps_nest_to_a_limit_of_their_own() -> None:
    def nested(levels: int) -> bytes:
        return b"\x83" + b"t\0\0\0\1" * levels + b"a\1" + b"a\2" * levels

    for levels in (1, 2, MAX_KEY_NESTING):
        for options in ({}, {"deterministic": True}):
            assert term_to_binary(binary_to_term(nested(levels)), **options) == nested(levels)
    for levels in (MAX_KEY_NESTING + 1, 100, MAX_DEPTH):
        with pytest.raises(DecodeError, match=f"maps as keys of maps nested deeper than {MAX_KEY_NESTING}"):
            binary_to_term(nested(levels))


def test_a_large_key_of_keys_costs_no_more_than_its_levels() -> None:
    many = b"l\0\0\x27\x10" + b"m\0\0\0\1x" * 10_000 + b"j"
    data = b"\x83" + b"t\0\0\0\1" * MAX_KEY_NESTING + many + b"a\2" * MAX_KEY_NESTING
    start = time.perf_counter()
    assert term_to_binary(binary_to_term(data)) == data
    assert time.perf_counter() - start < 1


def test_deep_funs_encode_in_linear_time() -> None:
    head = b"p\0\0\0\0\1" + b"\0" * 16 + b"\0\0\0\0" + b"\0\0\0\2" + b"w\1za\0a\0j"
    many = b"l\0\0\x27\x10" + b"m\0\0\0\1x" * 10_000 + b"j"
    term = binary_to_term(b"\x83" + head * 5000 + many + b"a\1" * 5000)
    start = time.perf_counter()
    data = term_to_binary(term)
    assert time.perf_counter() - start < 2
    assert struct.unpack_from(">I", data, 2)[0] == len(data) - 2
    assert term_to_binary(binary_to_term(data)) == data


def test_a_chain_of_list_tails_is_one_list_in_linear_time() -> None:
    count = 200_000
    data = b"\x83" + b"l\0\0\0\1a\1" * count + b"j"
    start = time.perf_counter()
    assert binary_to_term(data) == [1] * count
    assert time.perf_counter() - start < 2
    assert binary_to_term(b"\x83" + b"l\0\0\0\1a\1" * 3 + b"k\0\2\5\6") == [1, 1, 1, 5, 6]
    assert binary_to_term(b"\x83" + b"l\0\0\0\1a\1" * 3 + b"a\2") == ImproperList([1, 1, 1], 2)


def test_a_list_of_no_elements_is_its_tail() -> None:
    assert binary_to_term(b"\x83l\0\0\0\0a\5") == 5
    assert binary_to_term(b"\x83l\0\0\0\0l\0\0\0\0a\5") == 5
    assert binary_to_term(b"\x83l\0\0\0\0j") == []


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    packed = zlib.compress(b"m\x3f\xff\xff\xfb" + b"\0" * 10_000_000)
    for claim, message in ((0xFFFFFFFF, "limit"), (200_000_000, "deflate gives"), (0, "deflate gives")):
        tracemalloc.start()
        with pytest.raises(DecodeError, match=message):
            binary_to_term(b"\x83P" + struct.pack(">I", claim) + packed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


def test_a_bomb_unpacks_no_further_than_it_claims() -> None:
    packed = zlib.compress(b"m\0\0\0\1" + b"\0" * 50_000_000)
    claim = 1000
    assert claim < len(packed) * MAX_INFLATION
    tracemalloc.start()
    with pytest.raises(DecodeError, match="does not unpack to the 1000 bytes it claims"):
        binary_to_term(b"\x83P" + struct.pack(">I", claim) + packed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_term_as_dense_as_deflate_can_be_is_still_taken() -> None:
    term = b"\0" * 50_000_000
    data = term_to_binary(term, compressed=9)
    assert len(data) < 60_000
    assert binary_to_term(data) == term


def test_a_large_integer_takes_linear_time() -> None:
    data = b"\x83o" + struct.pack(">I", MAX_INTEGER_BYTES) + b"\1" + b"\xff" * MAX_INTEGER_BYTES
    start = time.perf_counter()
    assert term_to_binary(binary_to_term(data)) == data
    assert time.perf_counter() - start < 1
    with pytest.raises(DecodeError, match="integer of 4194297 bytes, limit 4194296"):
        binary_to_term(b"\x83o" + struct.pack(">I", MAX_INTEGER_BYTES + 1) + b"\0" * (MAX_INTEGER_BYTES + 2))


@pytest.mark.parametrize("kind", ["integers", "tuples", "floats"])
def test_map_keys_chosen_to_collide_cost_linear_time(kind: str) -> None:
    modulus = (1 << 61) - 1
    count = 20_000
    if kind == "integers":
        keys = [term_to_binary(index * modulus)[1:] for index in range(1, count)]
    elif kind == "tuples":
        keys = [term_to_binary((index * modulus,))[1:] for index in range(1, count)]
    else:
        floats = [float(2**61 + 2**9 * index) for index in range(1, count)]
        keys = [term_to_binary(value)[1:] for value in floats]
    data = b"\x83t" + struct.pack(">I", len(keys)) + b"".join(key + b"a\1" for key in keys)
    start = time.perf_counter()
    term = binary_to_term(data)
    assert time.perf_counter() - start < 2
    assert len(term) == count - 1  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001])
def test_nan_and_infinities_are_refused_alone_and_among_others(bits: int) -> None:
    value = b"F" + struct.pack(">Q", bits)
    sound = b"F" + struct.pack(">d", 1e308)
    for data in (value, b"l\0\0\0\5" + sound * 4 + value + b"j", b"h\5" + value + sound * 4):
        with pytest.raises(DecodeError, match="float is"):
            binary_to_term(b"\x83" + data)


def test_floats_whose_sum_overflows_are_taken() -> None:
    values = [1.7e308] * 8
    assert binary_to_term(term_to_binary(values)) == values


@pytest.mark.parametrize(
    "name", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe6\x97", b"a" * 255 + b"\xff"]
)
def test_atoms_that_are_not_utf_8_are_refused(name: bytes) -> None:
    with pytest.raises(DecodeError, match="atom is not UTF-8"):
        binary_to_term(b"\x83v" + struct.pack(">H", len(name)) + name)


def test_atoms_over_255_characters_are_refused() -> None:
    for tag in (b"v", b"d"):
        with pytest.raises(DecodeError, match="atom of 256 characters, limit 255"):
            binary_to_term(b"\x83" + tag + b"\1\0" + b"a" * 256)
    assert len(str(binary_to_term(b"\x83v\3\xfc" + "😀".encode() * 255))) == 255


def test_an_export_with_an_arity_that_no_function_has_is_refused() -> None:
    for arity in (b"b\0\0\1\0", b"b\xff\xff\xff\xff", b"n\4\0\xff\xff\xff\xff", b"w\1a", b"F" + b"\0" * 8):
        with pytest.raises(DecodeError, match="arity"):
            binary_to_term(b"\x83qw\1aw\1b" + arity)


@pytest.mark.parametrize("data", ["text", 5, None, [131, 97, 1]])
def test_what_is_not_bytes_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError, match="binary_to_term takes bytes"):
        binary_to_term(data)  # type: ignore[arg-type]


def test_rows_that_are_claimed_and_do_not_come_are_looked_at_no_further_than_they_reach() -> None:
    """Nested lists that each begin with two floats and claim a row to the input's end were once scanned to that end."""
    depth, size, looked_at = 2_000, 1_000_000, 0

    class Counted(bytes):
        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            nonlocal looked_at
            got = super().__getitem__(key)  # type: ignore[index]
            looked_at += len(got) if isinstance(got, bytes) else 1
            return got

    data = b"\x83" + (b"l" + (size // 9 - 3 * depth).to_bytes(4) + (b"F" + bytes(8)) * 2) * depth
    data += b"F" * (size - len(data))
    with pytest.raises(DecodeError, match="input ends inside a term"):
        _pure_decode.decode_plain(Counted(data), 1, MAX_DEPTH, text=False)  # the public call copies to plain bytes
    assert 4 * depth < looked_at < 2 * size
