"""The codec against its peers, both ways, in one run: `python benchmarks/codec.py [rounds]`.

Each workload is decoded and encoded by every codec in turn, round after round, so that a slow moment of the machine
meets all of them; the figure is the median of the rounds, and the ratio is the peer's time over ours. The garbage
collector stays on for all. Every codec gets the same bytes to decode, and to encode the same term in the types it
wants for it (erlang_py: atoms and binaries wrapped, lists bare).

erlastic has neither maps nor UTF-8 atoms, so it takes part only where a workload has none.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

import erlang
import erlastic

from erlbridge.codec import IMPLEMENTATION, Atom, binary_to_term, term_to_binary


def rpc() -> object:
    """A request as the bridge gets it, about 300 bytes."""
    payload = {
        Atom("signature"): b"question -> answer",
        Atom("inputs"): {b"question": b"Which rivers flow through the town of Ulm, and where do they rise?"},
        Atom("options"): [(Atom("temperature"), 0.7), (Atom("max_tokens"), 1024), (Atom("cache"), True)],
        Atom("trace_id"): b"3f0c2a7e-55d1-4a5e-9f5b-0d6f6b1c9a11",
    }
    return (Atom("request"), 4242, Atom("predict"), payload, 1700000000000)


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


def integers() -> object:
    """100,000 integers of all sizes: one byte, four bytes, and bignums."""
    rng = random.Random(7)
    return [rng.choice((1, -1)) * rng.getrandbits(rng.choice((7, 16, 31, 40, 62, 80, 128))) for _ in range(100_000)]


def for_erlang_py(term: object) -> object:
    """The same term in erlang_py's types."""
    match term:
        case Atom():
            return erlang.OtpErlangAtom(str(term).encode())
        case bytes():
            return erlang.OtpErlangBinary(term)
        case dict():
            return {for_erlang_py(key): for_erlang_py(value) for key, value in term.items()}
        case list():
            return [for_erlang_py(value) for value in term]
        case tuple():
            return tuple(for_erlang_py(value) for value in term)
    return term


def median_ms(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each run in milliseconds, the runs taking turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    repeat = {}
    for name, run in runs.items():  # one round to warm up, and to see how often a short one must repeat
        start = time.perf_counter()
        run()
        repeat[name] = max(1, int(0.01 / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeat[name]):
                run()
            times[name].append((time.perf_counter() - start) / repeat[name] * 1000)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    python = sys.version.split()[0]
    print(f"erlbridge ({IMPLEMENTATION}), Python {python}, medians of {rounds} rounds, ratio = peer / ours")
    print(f"{'workload':<38}{'':8}{'ours ms':>10}{'erlang_py':>12}{'ratio':>8}{'erlastic':>12}{'ratio':>8}")
    workloads: list[tuple[str, object, bool]] = [
        ("RPC tuple", rpc(), False),
        ("10,000 examples, 5 keys", examples(), False),
        ("100,000 integers", integers(), True),
    ]
    for name, term, erlastic_can in workloads:
        data = term_to_binary(term)
        theirs = for_erlang_py(term)
        decode: dict[str, Callable[[], object]] = {
            "ours": lambda data=data: binary_to_term(data),
            "erlang_py": lambda data=data: erlang.binary_to_term(data),
        }
        encode: dict[str, Callable[[], object]] = {
            "ours": lambda term=term: term_to_binary(term),
            "erlang_py": lambda theirs=theirs: erlang.term_to_binary(theirs),
        }
        if erlastic_can:
            decode["erlastic"] = lambda data=data: erlastic.decode(data)
            encode["erlastic"] = lambda term=term: erlastic.encode(term)
        for way, runs in (("decode", decode), ("encode", encode)):
            ms = median_ms(runs, rounds)
            line = f"{f'{name}, {len(data):,} B':<38}{way:>8}{ms['ours']:>10.3f}"
            for peer in ("erlang_py", "erlastic"):
                line += f"{ms[peer]:>12.3f}{ms[peer] / ms['ours']:>7.1f}x" if peer in ms else f"{'-':>12}{'-':>8}"
            print(line)


if __name__ == "__main__":
    main()
