"""The codec against its peers, both ways, in one run.

    python benchmarks/codec.py [--write | --short] [--gate] [--workloads abc] [ROUNDS]

Each workload is decoded and encoded by every codec in turn, round after round, so that a slow moment of the machine
meets all of them; a figure is the median of the rounds, a ratio the median of each round's peer over ours (above 1:
ours is the faster). The garbage collector stays on, with the interpreter's own thresholds, for all; what stands before
the rounds begin is frozen, so that a full collection walks over the codec's own results alone. Ours shows a term to
the collector when it is whole, which leaves the walk over it to later; `h kept` counts that walk, for all. Each codec
gets the same data in the types and the format that are natural for it: for MessagePack, atoms as `str` and tuples as
lists.

`no shapes` is ours without its cache of map shapes. `floor` builds the objects of the decoded term from ready parts, in
C (peers/floor.c, compiled on the spot). `BEAM` is a BEAM's binary_to_term and term_to_binary on the same bytes,
timed by peers/beam.exs before and after the others. These and every peer that is not installed may be missing.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType

import report
from instruments.turns import Run, rounds_of

from erlbridge.codec import IMPLEMENTATION, Atom, _pure, binary_to_term, term_to_binary

COMPANIONS = Path(__file__).resolve().parent / "peers"
ROUNDS = {"full": 9, "short": 3}


def module(name: str) -> ModuleType | None:
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


erlang = module("erlang")
erlpack = module("erlpack")
ormsgpack = module("ormsgpack")
msgspec = module("msgspec")
msgpack = module("msgpack")

# -- the workloads -----------------------------------------------------------------------------------------------------

WORDS = [b"alpha", b"river", b"storm", b"quiet", b"copper", b"lantern", b"winter", b"orchard"]


def rpc() -> object:
    """A request as the bridge gets it."""
    payload = {
        Atom("signature"): b"question -> answer",
        Atom("inputs"): {b"question": b"Which rivers flow through the town of Ulm, and where do they rise?"},
        Atom("options"): [(Atom("temperature"), 0.7), (Atom("max_tokens"), 1024), (Atom("cache"), True)],
        Atom("trace_id"): b"3f0c2a7e-55d1-4a5e-9f5b-0d6f6b1c9a11",
    }
    return (Atom("request"), 4242, Atom("predict"), payload, 1700000000000)


def examples() -> object:
    """1,000 examples of three keys."""
    rng = random.Random(7)
    return [
        {
            Atom("question"): b" ".join(rng.choices(WORDS, k=6)),
            Atom("answer"): b" ".join(rng.choices(WORDS, k=2)),
            Atom("category"): rng.choice(WORDS),
        }
        for _ in range(1000)
    ]


def vectors() -> object:
    """10,000 examples of five keys, one of them a vector of 64 floats."""
    rng = random.Random(7)
    return [
        {
            Atom("id"): index,
            Atom("question"): b" ".join(rng.choices(WORDS, k=14)),
            Atom("answer"): b" ".join(rng.choices(WORDS, k=7)),
            Atom("category"): rng.choice(WORDS),
            Atom("vector"): [rng.random() for _ in range(64)],
        }
        for index in range(10_000)
    ]


def large() -> object:
    """One binary of 16 MB."""
    return bytes(range(256)) * 65536


def integers() -> object:
    """100,000 integers of 7 to 63 bits, which all peers can hold."""
    rng = random.Random(7)
    return [rng.choice((1, -1)) * rng.getrandbits(rng.choice((7, 16, 31, 40, 62))) for _ in range(100_000)]


def bignums() -> object:
    """100,000 integers of 7 to 128 bits."""
    rng = random.Random(7)
    return [rng.choice((1, -1)) * rng.getrandbits(rng.choice((7, 16, 31, 40, 62, 80, 128))) for _ in range(100_000)]


def shapeless() -> object:
    """1,000 examples no two of which have the same keys."""
    rng = random.Random(7)
    names = [Atom(f"field_{index}") for index in range(200)]
    return [{name: rng.choice(WORDS) for name in rng.sample(names, 5)} for _ in range(1000)]


WORKLOADS: dict[str, Callable[[], object]] = {
    "a rpc": rpc,
    "b examples": examples,
    "c vectors": vectors,
    "d 16 MB": large,
    "e integers": integers,
    "f bignums": bignums,
    "g no shapes": shapeless,
    "h kept": vectors,
}

# -- the same terms in the peers' types --------------------------------------------------------------------------------


def for_erlang_py(term: object) -> object:
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


def for_erlpack(term: object) -> object:
    match term:
        case Atom():
            return erlpack.Atom(str(term))
        case dict():
            return {for_erlpack(key): for_erlpack(value) for key, value in term.items()}
        case list():
            return [for_erlpack(value) for value in term]
        case tuple():
            return tuple(for_erlpack(value) for value in term)
    return term


def for_msgpack(term: object, key: bool = False) -> object:
    match term:
        case Atom():
            return str(term)
        case bytes():
            return term.decode() if key else term
        case dict():
            return {for_msgpack(key, True): for_msgpack(value) for key, value in term.items()}
        case list() | tuple():
            return [for_msgpack(value) for value in term]
    return term


def runs(term: object, floor: ModuleType | None, name: str) -> tuple[dict[str, Run], dict[str, Run]]:
    """What decodes and what encodes the term, ours first."""
    data = term_to_binary(term)
    decode: dict[str, Run] = {"ours": lambda: binary_to_term(data)}
    encode: dict[str, Run] = {"ours": lambda: term_to_binary(term)}
    if IMPLEMENTATION == "compiled":
        switch = importlib.import_module("erlbridge.codec._compiled")._shape_cache

        def key_by_key() -> object:
            switch(False)
            try:
                return binary_to_term(data)
            finally:
                switch(True)

        decode["no shapes"] = key_by_key
    if floor is not None:
        build = floor.build
        decode["floor"] = lambda: build(term)
    if "bignums" not in name:
        theirs = for_msgpack(term)
        for peer, pack, unpack in (
            ("ormsgpack", ormsgpack and ormsgpack.packb, ormsgpack and ormsgpack.unpackb),
            ("msgspec", msgspec and msgspec.msgpack.encode, msgspec and msgspec.msgpack.decode),
            ("msgpack", msgpack and msgpack.packb, msgpack and msgpack.unpackb),
        ):
            if pack:
                packed = pack(theirs)
                decode[peer] = lambda unpack=unpack, packed=packed: unpack(packed)
                encode[peer] = lambda pack=pack, theirs=theirs: pack(theirs)
    if "16 MB" not in name:
        slow = "vectors" not in name and "kept" not in name
        if IMPLEMENTATION != "pure" and slow:
            decode["pure"] = lambda: _pure.binary_to_term(data)
            encode["pure"] = lambda: _pure.term_to_binary(term)
        if erlang:
            wrapped = for_erlang_py(term)
            decode["erlang_py"] = lambda: erlang.binary_to_term(data)
            encode["erlang_py"] = lambda: erlang.term_to_binary(wrapped)
        if erlpack and "bignums" not in name and "integers" not in name:
            bare = for_erlpack(term)
            encode["erlpack"] = lambda: erlpack.pack(bare)
    if "kept" in name:
        decode = {peer: walked(run) for peer, run in decode.items()}
    return decode, encode


def walked(run: Run) -> Run:
    """The run, and the collector's walk over the young objects that it leaves."""

    def both() -> object:
        result = run()
        gc.collect(1)
        return result

    return both


# -- measuring ---------------------------------------------------------------------------------------------------------


def compiled_floor(folder: Path) -> ModuleType | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    built = folder / f"floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_paths()["include"]
    subprocess.run(
        [compiler, "-O3", "-shared", "-fPIC", f"-I{include}", COMPANIONS / "floor.c", "-o", built],
        check=True,
        timeout=60,
    )
    spec = importlib.util.spec_from_file_location("floor", built)
    assert spec
    assert spec.loader
    floor = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(floor)
    return floor


def beam(folder: Path, terms: dict[str, object]) -> dict[str, tuple[float, float]]:
    elixir = shutil.which("elixir")
    if elixir is None:
        return {}
    files = []
    for name, term in terms.items():
        path = folder / name.replace(" ", "_")
        path.write_bytes(term_to_binary(term))
        files.append(path)
    done = subprocess.run(
        [elixir, COMPANIONS / "beam.exs", *files], capture_output=True, text=True, check=True, timeout=300
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name.replace("_", " "): (float(decode), float(encode)) for name, decode, encode in lines}


PEERS = ("floor", "no shapes", "ormsgpack", "msgspec", "msgpack", "BEAM", "pure", "erlpack", "erlang_py")
Ratios = dict[tuple[str, str], dict[str, float]]
"""By way and workload: microseconds of ours under its name, and of each peer its time divided by ours."""


def measured(workloads: Collection[str], rounds: int) -> Ratios:
    terms = {name: make() for name, make in WORKLOADS.items() if name[0] in workloads}
    found: Ratios = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        floor = compiled_floor(folder)
        named = {name.replace(" ", "_"): term for name, term in terms.items()}
        before = beam(folder, named)
        for name, term in terms.items():
            for way, some in zip(("decode", "encode"), runs(term, floor, name), strict=True):
                fast = {peer: run for peer, run in some.items() if peer not in ("erlang_py", "pure", "erlpack")}
                times = rounds_of(fast, rounds)
                slow = {"ours": some["ours"]} | {peer: run for peer, run in some.items() if peer not in fast}
                again = rounds_of(slow, min(rounds, 3))
                ratios = {peer: ratio(times[peer], times["ours"]) for peer in fast if peer != "ours"}
                ratios |= {peer: ratio(again[peer], again["ours"]) for peer in slow if peer != "ours"}
                found[way, name] = {"ours": statistics.median(times["ours"])} | ratios
        after = beam(folder, named)
    for (way, name), ratios in found.items():
        if name in before:
            side = way == "encode"
            ratios["BEAM"] = (before[name][side] + after[name][side]) / 2 / ratios["ours"]
    return found


def ratio(theirs: list[float], ours: list[float]) -> float:
    """The median of what each round gave."""
    return statistics.median(one / other for one, other in zip(theirs, ours, strict=True))


def table(found: Ratios, way: str) -> str:
    """A line for each workload; a column for each peer that was there."""
    lines = {name: ratios for (one, name), ratios in found.items() if one == way}
    there = [peer for peer in PEERS if any(peer in ratios for ratios in lines.values())]
    rows = [
        (
            f"({name[0]}) {name[2:]}",
            report.span(ratios["ours"] / 1e6),
            *(f"{ratios[peer]:.{2 if ratios[peer] < 10 else 0}f}" if peer in ratios else "–" for peer in there),
        )
        for name, ratios in lines.items()
    ]
    return report.markdown((way, "ours", *there), rows)


LEAST = {"compiled": {"floor": 0.8, "erlang_py": 40.0}, "pure": {"erlang_py": 4.0}}
FALLS = {
    ("compiled", "decode", "a"): {"floor": 0.2, "erlang_py": 13.0},
    ("compiled", "encode", "a"): {"erlang_py": 23.0},
    ("compiled", "decode", "b"): {"floor": 0.4, "erlang_py": 32.0},
    ("compiled", "encode", "b"): {"erlang_py": 38.0},
    ("pure", "decode", "a"): {"erlang_py": 1.0},
    ("pure", "encode", "a"): {"erlang_py": 1.0},
    ("pure", "decode", "b"): {"erlang_py": 1.2},
    ("pure", "encode", "b"): {"erlang_py": 1.2},
}
"""Where the gate falls: between a fourth and a fifth of what short runs give, which move by a half where much else goes
on."""


def aims(found: Ratios) -> list[report.Aim]:
    """What each twin is to be beside the peers that are there: at least these times by ours."""
    wanted = LEAST[IMPLEMENTATION]
    return [
        report.Aim(
            f"{way} ({name[0]}): {peer}'s time by ours",
            ratios[peer],
            wanted[peer],
            at_least=True,
            margin=wanted[peer] / falls,
        )
        for (way, name), ratios in found.items()
        for peer, falls in FALLS.get((IMPLEMENTATION, way, name[0]), {}).items()
        if peer in ratios
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    report.takes_flags(parser)
    parser.add_argument("--workloads", metavar="LETTERS", help="of abcdefgh; all, or ab where it is short")
    report.takes_rounds(parser, **ROUNDS)
    given = parser.parse_args()
    report.settle_rounds(parser, given, **ROUNDS)
    there = {name[0] for name in WORKLOADS}
    workloads = set(given.workloads or ("ab" if given.short else there))
    if unknown := workloads - there:
        parser.error(f"no workload here: {', '.join(sorted(unknown))}")
    report.refuse_part(
        parser, given, workloads < there and "all workloads", IMPLEMENTATION != "compiled" and "the compiled twin"
    )
    found = measured(workloads, given.rounds)
    wanted = aims(found)
    report.publish("codec", table(found, "decode"), table(found, "encode"), report.aims(wanted), write=given.write)
    return report.gate(wanted) if given.gate else 0


if __name__ == "__main__":
    sys.exit(main())
