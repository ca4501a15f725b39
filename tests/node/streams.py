"""Datasets as a host makes them: examples framed, summed and cut into the payloads of `data_chunk`."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from erlbridge.codec import Atom, term_to_binary
from erlbridge.limits import MAX_CHUNK_BYTES


def framed(examples: Iterable[object]) -> bytes:
    """The plain stream: each example a 4-byte length and a term."""
    terms = [term_to_binary(example) for example in examples]
    return b"".join(len(term).to_bytes(4) + term for term in terms)


def name_of(stream: bytes) -> str:
    return f"sha256:{hashlib.sha256(stream).hexdigest()}"


def chunks(
    transfer: str, stream: bytes, *, compression: str = "zlib", chunk_bytes: int = MAX_CHUNK_BYTES
) -> list[dict[Any, Any]]:
    """The payloads that send a plain stream."""
    packed = zlib.compress(stream) if compression == "zlib" else stream
    pieces = [packed[at : at + chunk_bytes] for at in range(0, len(packed), chunk_bytes)] or [b""]
    return [
        {
            Atom("transfer"): transfer.encode(),
            Atom("chunk_index"): index,
            Atom("data"): piece,
            Atom("is_final"): index == len(pieces) - 1,
            Atom("compression"): Atom(compression),
            **({Atom("sha256"): name_of(stream)[7:].encode()} if index == len(pieces) - 1 else {}),
        }
        for index, piece in enumerate(pieces)
    ]


def rows(count: int, size: int = 40) -> Iterator[dict[Any, Any]]:
    """Examples that compress badly, each its own."""
    for number in range(count):
        noise = hashlib.sha256(b"%d" % number).hexdigest() * (size // 64 + 1)
        yield {Atom("question"): noise[:size].encode(), Atom("answer"): b"%d" % number}
