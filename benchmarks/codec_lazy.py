"""Reaching one element against building the whole term.

    python benchmarks/codec_lazy.py [--write] [ROUNDS]

A request with 10,000 training examples (2.2 MB) and one with 2,000 vectors of 768 floats (13.8 MB). Each is built
whole, reached into from nothing (first, middle, last element), reached into again with its index made, stepped over,
and taken from a stream in pieces of 64 KiB. The time is the median of the rounds, which take turns; the ratio is the
median of the time to build the whole over it, round by round. Then what the whole and the index keep in memory. Last,
the examples as single terms that follow each other, decoded by themselves and from a stream.
"""

from __future__ import annotations

import random
import statistics
import tracemalloc
from collections.abc import Callable

import report
from instruments.turns import rounds_of

from erlbridge.codec import (
    Atom,
    LazyTerm,
    StreamDecoder,
    binary_to_term,
    skip,
    term_to_binary,
)

PIECE = 65_536


def examples() -> object:
    """10,000 training examples of five keys, 2.2 MB."""
    rng = random.Random(7)
    words = [b"alpha", b"river", b"storm", b"quiet", b"copper", b"lantern", b"winter", b"orchard"]
    return [
        {
            Atom("id"): index,
            Atom("question"): b" ".join(rng.choices(words, k=14)),
            Atom("answer"): b" ".join(rng.choices(words, k=7)),
            Atom("score"): rng.random(),
            Atom("category"): rng.choice(words),
        }
        for index in range(10_000)
    ]


def vectors() -> object:
    rng = random.Random(7)
    return [[rng.random() for _ in range(768)] for _ in range(2_000)]


def request(training_data: object) -> bytes:
    payload = {Atom("signature"): b"question -> answer", Atom("training_data"): training_data}
    return term_to_binary((Atom("request"), 4242, Atom("optimize_signature"), payload))


def reach(term: LazyTerm, index: int) -> object:
    return term[3][Atom("training_data")][index].value()


def kept_bytes(make: Callable[[], object]) -> int:
    tracemalloc.start()
    kept = make()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def indexed(data: bytes) -> LazyTerm:
    term = LazyTerm(data)
    reach(term, -1)
    return term


def streamed(data: bytes) -> list[object]:
    found: list[object] = []
    stream = StreamDecoder()
    for start in range(0, len(data), PIECE):
        stream.feed(data[start : start + PIECE])
        found += stream
    stream.close()
    return found


def lines(runs: dict[str, Callable[[], object]], rounds: int) -> list[tuple[str, str, str]]:
    """Each run's time, and how often it goes into that of the first."""
    taken = rounds_of(runs, rounds)
    first = next(iter(taken.values()))
    found = []
    for run, times in taken.items():
        ratio = statistics.median(one / other for one, other in zip(first, times, strict=True))
        found.append((run, report.span(statistics.median(times) / 1e6), report.ratio(ratio)))
    return found


def main() -> None:
    given = report.options(__doc__, full=15, short=2)
    tables = []
    for name, training_data in (("10,000 examples, 5 keys", examples()), ("2,000 vectors of 768 floats", vectors())):
        data = request(training_data)
        middle = len(training_data) // 2  # type: ignore[arg-type]
        known = indexed(data)
        runs: dict[str, Callable[[], object]] = {
            "whole decode": lambda data=data: binary_to_term(data),
            "first element": lambda data=data: reach(LazyTerm(data), 0),
            "middle element": lambda data=data, middle=middle: reach(LazyTerm(data), middle),
            "last element": lambda data=data: reach(LazyTerm(data), -1),
            "an element again, the index made": lambda known=known, middle=middle: reach(known, middle),
            "`skip` over all of it": lambda data=data: skip(data),
            "from a stream, in pieces of 64 KiB": lambda data=data: streamed(data),
        }
        rows = lines(runs, given.rounds)
        whole, index = kept_bytes(lambda data=data: binary_to_term(data)), kept_bytes(lambda data=data: indexed(data))
        rows.append(("kept in memory, the whole or the indexes", f"{whole / 1e6:.1f} MB", f"{index / 1e3:.0f} KB"))
        tables.append(report.markdown((f"{name}, {len(data) / 1e6:.1f} MB", "", ""), rows))
    frames = [term_to_binary(example) for example in examples()]  # type: ignore[attr-defined]
    data = b"".join(frames)
    rows = lines(
        {"each by itself": lambda: [binary_to_term(frame) for frame in frames], "streamed": lambda: streamed(data)},
        given.rounds,
    )
    name = f"{len(frames):,} terms that follow each other, {len(data) / 1e6:.1f} MB"
    report.publish("codec_lazy", *tables, report.markdown((name, "", ""), rows), write=given.write)


if __name__ == "__main__":
    main()
