"""The two scans of the codec: one end, one refusal and one place to go on from, for every input and every cut of it."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import tracemalloc
from array import array
from collections.abc import Iterator
from struct import pack

import pytest
from codec_mutations import TAGS, mutations
from hypothesis import given
from hypothesis import strategies as st
from test_codec_hostile import GOLDENS, golden, wrapped
from test_codec_properties import SETTINGS, terms

from erlbridge.codec import DecodeError, _pure, term_to_binary
from erlbridge.limits import MAX_DEPTH, MAX_INTEGER_BYTES

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

from codec_twins import outcome, records, scanned_alike  # noqa: E402 - needs the compiled twin


@pytest.fixture(autouse=True)
def no_disagreement() -> Iterator[None]:
    yield
    assert compiled._disagreements() == 0


def test_both_have_the_same_signature_and_the_same_calls() -> None:
    def shape(scan: type) -> tuple[list[tuple[str, object, object]], set[str]]:
        found = inspect.signature(scan).parameters.values()
        names = {name for name in vars(scan) if not name.startswith("_")}
        return [(parameter.name, parameter.kind, parameter.default) for parameter in found], names

    assert shape(compiled.Scan) == shape(_pure.Scan)


@pytest.mark.parametrize("name", GOLDENS)
def test_every_prefix_of_a_golden_is_scanned_alike_also_byte_by_byte(name: str) -> None:
    data = golden(name)
    for end in range(len(data) + 1):
        scanned_alike(data[:end])
    scanned_alike(data, range(len(data)))
    scanned_alike(data * 2, start=0)


@pytest.mark.parametrize("name", GOLDENS)
def test_every_change_of_one_byte_is_scanned_alike(name: str) -> None:
    data = bytearray(golden(name))
    for index, byte in enumerate(bytes(data)):
        for change in range(256):
            data[index] = change
            scanned_alike(bytes(data), (index, index + 1) if change % 8 == byte % 8 else ())
        data[index] = byte


def test_every_vector_is_scanned_alike(valid: list[dict[str, str]], hostile: list[dict[str, str]]) -> None:
    for vector in valid + hostile:
        if "20M" not in vector["name"]:
            scanned_alike(bytes.fromhex(vector["hex"]))


@SETTINGS
@given(terms, st.lists(st.integers(0, 3000)))
def test_any_term_is_scanned_alike_wherever_it_is_cut(term: object, cuts: list[int]) -> None:
    data = term_to_binary(term)
    scanned_alike(data, sorted(min(cut, len(data)) for cut in cuts))


@SETTINGS
@given(st.binary(max_size=40), st.integers(0, 3))
def test_any_bytes_are_scanned_alike(data: bytes, depth: int) -> None:
    scanned_alike(data, range(len(data)), start=0, max_depth=2, depth=depth)


@SETTINGS
@given(st.lists(st.sampled_from([*TAGS, 0, 1, 2, 3, 5, 255]), max_size=60).map(bytes))
def test_any_row_of_tags_is_scanned_alike(data: bytes) -> None:
    scanned_alike(data, range(0, len(data), 3), start=0)


def test_damaged_terms_are_scanned_alike() -> None:
    rng = random.Random(20260704)
    seeds = [golden(name) for name in GOLDENS] + [term_to_binary(records(rng)) for _ in range(30)]
    for _, data in zip(range(6_000), mutations(rng, [seed for seed in seeds if len(seed) < 5000]), strict=False):
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 2, 9))))
        scanned_alike(data, cuts, max_depth=rng.choice((MAX_DEPTH, MAX_DEPTH, 0, 2, 70)), depth=rng.choice((0, 0, 1)))


@pytest.mark.parametrize(
    "data",
    [
        b"o" + pack(">I", MAX_INTEGER_BYTES) + b"\0",
        b"o" + pack(">I", MAX_INTEGER_BYTES + 1) + b"\0",
        b"p" + b"\0" * 25 + pack(">I", 255) + b"j" * 300,
        b"p" + b"\0" * 25 + pack(">I", 256) + b"j" * 300,
        b"p" + b"\0" * 25 + pack(">I", 2**32 - 1) + b"j" * 300,
        *(b"r" + pack(">H", words) + b"w\1a" + b"\0" * 30 for words in range(7)),
        *(b"q" + b"w\1a" + name + arity for name in (b"w\1b", b"v\0\1b", b"j") for arity in (b"a\1", b"n\1\0\1", b"j")),
        b"q" + b"w\1a" * 2 + b"o" + pack(">I", MAX_INTEGER_BYTES + 1),
        *(bytes((tag,)) + name + b"\0" * 12 for tag in b"gXfYxerZ" for name in (b"w\1a", b"d\0\1a", b"j", b"w\xff")),
        b"m\xff\xff\xff\xffa\1",
        b"t\xff\xff\xff\xff" * 40,
        b"l\xff\xff\xff\xff" * 40,
    ],
    ids=lambda data: data[:12].hex(),
)  # fmt: skip
def test_odd_sizes_are_scanned_alike_at_every_cut(data: bytes) -> None:
    for body in (data, b"h\4" + b"a\1" * 3 + data + b"a\7"):
        for end in range(min(len(body), 400)):
            scanned_alike(body[:end], start=0)
        scanned_alike(body, range(0, len(body), 7), start=0)


@pytest.mark.parametrize("opening", [b"l\0\0\0\1", b"h\1", b"t\0\0\0\1a\1", b"i\0\0\0\1"])
def test_nesting_is_refused_alike(opening: bytes) -> None:
    for depth in (-1, 0, 1, 31, 32, 33, 300):
        for nested in (depth, depth + 1):
            scanned_alike(
                wrapped(b"h\0", max(nested, 0), opening, b"j" if opening[:1] == b"l" else b""), max_depth=depth
            )


def test_a_scan_far_beyond_the_data_waits_for_more() -> None:
    for module in (compiled, _pure):
        for pos in (3, 2**31, 2**62, 2**63, 2**70):
            scan = module.Scan(pos)
            assert not scan.advance(b"\x83j")
            assert scan.left == 1
    assert compiled.Scan(1, max_depth=2**70, depth=-(2**70)).advance(b"\x83h\1h\0")


def test_a_row_of_long_sizes_does_not_lead_around() -> None:
    data = b"h\3" + b"m\xff\xff\xff\xff"
    for module in (compiled, _pure):
        scan = module.Scan(0)
        assert not scan.advance(data)
        assert (scan.pos, scan.left) == (2 + 5 + 2**32 - 1, 2)


def test_the_stack_is_as_deep_as_the_data_and_freed_with_the_scan() -> None:
    depth = 1_000_000
    data = wrapped(b"h\0", depth, b"h\1")
    tracemalloc.start()
    scan = compiled.Scan(1, max_depth=2 * depth)
    assert scan.advance(data)
    size, peak = tracemalloc.get_traced_memory()
    del scan
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 8 * depth <= size <= peak <= 8 * 2**20 * 3
    assert left < 10_000


def test_all_starts_are_found_however_many_there_are() -> None:
    for count in (0, 1, 511, 512, 513, 1024, 5000):
        data = b"j" * count
        for most in (count, count + 1):
            for module in (compiled, _pure):
                scan, offsets = module.Scan(0), array("Q")
                scan.restart(0)
                assert scan.starts(data, most, offsets) is (most == count)
                assert offsets.tolist() == list(range(count))


def test_starts_that_cannot_be_told_are_found_again() -> None:
    class Full:
        def frombytes(self, data: bytes) -> None:
            raise MemoryError

    scan = compiled.Scan(0)
    scan.restart(0)
    with pytest.raises(MemoryError):
        scan.starts(b"a\1" * 2000, 1000, Full())
    offsets = array("Q")
    assert scan.starts(b"a\1" * 2000, 2000, offsets)
    assert offsets.tolist() == list(range(0, 4000, 2))


def test_a_scan_used_by_what_it_calls_stays_whole() -> None:
    scan = compiled.Scan(0)
    data = b"h\2" * 5000

    class Meddler:
        def frombytes(self, found: bytes) -> None:
            assert not scan.advance(data)
            scan.restart(2)

    assert scan.starts(b"a\1" * 2000, 2000, Meddler())
    assert (scan.pos, scan.left) == (2, 0)


def test_the_data_are_held_during_a_call_alone() -> None:
    data = bytearray(b"a\1")
    scan = compiled.Scan(0)
    assert scan.advance(data)
    data.append(255)
    with pytest.raises(DecodeError, match="unknown tag 255"):
        compiled.Scan(2).advance(data)
    data.clear()


@pytest.mark.parametrize("args", [(), ("0",), (0, 1), (None,), (1.0,)])
def test_calls_that_no_signature_has_are_type_errors(args: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        compiled.Scan(*args)
    scan = compiled.Scan(0)
    for call in (
        lambda: compiled.Scan(0, max_depth="x"),
        lambda: compiled.Scan(0, room=1),
        lambda: scan.advance("text"),
        lambda: scan.advance(memoryview(b"abcd")[::2]),
        lambda: scan.starts(b"j", 1),
        lambda: scan.starts(b"j", "1", array("Q")),
        lambda: copy.copy(scan),
        lambda: pickle.dumps(scan),
        lambda: type("Sub", (compiled.Scan,), {}),
    ):
        error = outcome(call)[0]
        assert error in (TypeError, BufferError), error


def test_no_scan_begins_before_its_data() -> None:
    scan = compiled.Scan(3)
    for use in (lambda: compiled.Scan(-1), lambda: scan.restart(-1), lambda: setattr(scan, "pos", -1)):
        with pytest.raises(ValueError, match="offset -1, expected 0 or more"):
            use()
    with pytest.raises(AttributeError):
        del scan.pos
    assert scan.pos == 3
