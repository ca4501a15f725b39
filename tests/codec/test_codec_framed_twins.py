"""The two counts of framed maps: the same number and the same place, for every input, place and limit."""

from __future__ import annotations

import random

import pytest

from erlbridge.codec import _pure, term_to_binary

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

MAPS = [term_to_binary({b"key": b"x" * size}) for size in (0, 1, 50, 255, 256, 70_000)] + [term_to_binary({})]
STREAM = b"".join(len(term).to_bytes(4) + term for term in MAPS)


def counted_alike(data: bytes | bytearray | memoryview, at: int, most_bytes: int) -> tuple[int, int]:
    found = compiled.count_maps(data, at, most_bytes)
    assert found == _pure.count_maps(data, at, most_bytes)
    return found


def test_all_of_a_stream_are_counted() -> None:
    assert counted_alike(STREAM, 0, 100_000) == (len(MAPS), len(STREAM))
    assert counted_alike(memoryview(bytearray(STREAM)), 0, 100_000) == (len(MAPS), len(STREAM))


def test_every_prefix_is_counted_alike_and_the_last_map_may_reach_beyond_it() -> None:
    for end in [*range(1200), *range(len(STREAM) - 40, len(STREAM))]:
        count, at = counted_alike(STREAM[:end], 0, 100_000)
        assert 0 <= count <= len(MAPS)
        assert at > end - 6


def test_a_length_above_the_limit_is_where_both_stop() -> None:
    lengths = [len(term) for term in MAPS]
    for most_bytes in (0, 5, 6, *lengths, *(length - 1 for length in lengths), 2**32, 2**62):
        counted_alike(STREAM, 0, most_bytes)
    assert counted_alike(bytes.fromhex("ffffffff8374"), 0, 2**32) == (1, 2**32 + 3)
    assert counted_alike(bytes.fromhex("ffffffff8374"), 0, 2**32 - 2) == (0, 0)


def test_every_change_of_a_head_and_every_place_to_begin_are_counted_alike() -> None:
    short = bytearray(STREAM[:400])
    for index in range(12):
        before = short[index]
        for value in range(256):
            short[index] = value
            counted_alike(short, 0, 1000)
        short[index] = before
    for at in [*range(410), len(STREAM), 2**40]:
        counted_alike(STREAM, at, 100_000)


def test_noise_is_counted_alike() -> None:
    chance = random.Random(7)
    heads = [bytes.fromhex(f"000000{length:02x}8374") for length in (5, 6, 7, 20)]
    for _ in range(2000):
        data = b"".join(chance.choice(heads) + chance.randbytes(chance.choice((0, 1, 14))) for _ in range(8))
        counted_alike(data, chance.randrange(10), chance.choice((6, 7, 100)))


@pytest.mark.parametrize("arguments", [(b"", -1, 1), (b"", 0, -1)])
def test_what_is_negative_is_refused_by_both(arguments: tuple[bytes, int, int]) -> None:
    for twin in (compiled, _pure):
        with pytest.raises(ValueError, match="negative"):
            twin.count_maps(*arguments)
