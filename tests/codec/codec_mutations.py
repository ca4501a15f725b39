"""Mutated encodings without end: goldens and generated records, changed, cut, spliced and repeated.

Knows nothing of what a decoder should say of them, nor of coverage. `tests/codec/test_codec_twins.py` compares the
twins on them for some seconds, wherever the tests run; `scripts/fuzz` is led by coverage, and needs
an engine that not every platform has.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

TAGS = bytes(
    (70, 77, *range(97, 107), 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 118, 119, 120, 88, 89, 90, 121)
)
COUNTS = (0, 1, 2, 3, 4, 31, 32, 33, 127, 255, 256, 257, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The data after one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        at = rng.randrange(1, len(changed)) if len(changed) > 1 else 0
        match rng.randint(0, 9):
            case 0 | 1:
                changed[at : at + 1] = bytes((rng.randrange(256),))
            case 2:
                changed[at : at + 1] = bytes((rng.choice(TAGS),))
            case 3:
                changed[at : at + 4] = struct.pack(">I", rng.choice(COUNTS))
            case 4:
                del changed[at : at + rng.randint(1, 8)]
            case 5:
                end = at + rng.randint(1, 40)
                changed[at:at] = changed[at:end] * rng.randint(1, 3)
            case 6:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                changed[at : at + rng.randint(0, 20)] = other[start : start + rng.randint(1, 60)]
            case 7:
                del changed[at:]
            case 8:
                changed[at : at + 1] = bytes((changed[at] ^ 1 << rng.randrange(8),)) if at < len(changed) else b""
            case 9:
                depth = rng.choice((1, 3, 70, 300))
                opening = rng.choice((b"h\1", b"l\0\0\0\1", b"t\0\0\0\1a\1", b"l\0\0\0\1a\1", b"h\2a\1"))
                closing = b"j" * depth if opening == b"l\0\0\0\1" else b""
                changed = bytearray(b"\x83" + opening * depth + changed[1:] + closing)
    return bytes(changed)


def mutations(rng: random.Random, seeds: Sequence[bytes]) -> Iterator[bytes]:
    """Encodings for ever; what came out earlier is changed further now and then."""
    pool = list(seeds)
    while True:
        data = mutated(rng, rng.choice(pool), pool)
        if len(data) < 5000:
            yield data
            if rng.random() < 0.02:
                if len(pool) > 2000:
                    pool[rng.randrange(len(seeds), len(pool))] = data or b"\x83"
                elif data:
                    pool.append(data)
