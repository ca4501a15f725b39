"""The two twins of the codec: one result for every input, the same value or the same error.

Everything here asks both by name, whichever is in use. The inputs: the vectors that a BEAM wrote and judged, every
prefix and every one-byte change of the goldens, generated terms, and lists of maps that make the cache of map shapes
work.
"""

from __future__ import annotations

import copy
import gc
import inspect
import random
import time
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from codec_mutations import mutations
from hypothesis import given, settings
from hypothesis import strategies as st
from measures import LONG
from test_codec_hostile import GOLDENS, golden
from test_codec_properties import terms

from erlbridge.codec import Atom, _pure

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

from codec_twins import decoded_alike, encoded_alike, records  # noqa: E402 - needs the compiled twin

SETTINGS = settings(max_examples=300 if LONG else 120, deadline=None)


@pytest.fixture(autouse=True)
def no_disagreement() -> Iterator[None]:
    """An input that the compiled twin refuses is one that the pure twin refuses."""
    yield
    assert compiled._disagreements() == 0


def test_both_are_importable_by_name_and_say_who_they_are() -> None:
    assert (_pure.IMPLEMENTATION, compiled.IMPLEMENTATION) == ("pure", "compiled")


@pytest.mark.parametrize("name", ["binary_to_term", "term_to_binary", "term_to_iovec"])
def test_both_have_the_same_signatures(name: str) -> None:
    def parameters(module: ModuleType) -> list[tuple[str, object, object]]:
        found = inspect.signature(getattr(module, name)).parameters.values()
        return [(parameter.name, parameter.kind, parameter.default) for parameter in found]

    assert parameters(_pure) == parameters(compiled)


def test_every_vector_is_decoded_alike(valid: list[dict[str, str]], hostile: list[dict[str, str]]) -> None:
    for vector in valid + hostile:
        data = bytes.fromhex(vector["hex"])
        if "20M cons" not in vector["name"]:
            for text in (False, True):
                decoded_alike(data, text=text)


@pytest.mark.parametrize("name", GOLDENS)
def test_every_prefix_and_every_change_of_one_byte_is_decoded_alike(name: str) -> None:
    data = golden(name)
    for end in range(len(data)):
        decoded_alike(data[:end])
    changed = bytearray(data)
    for index, byte in enumerate(data):
        for change in range(256):
            changed[index] = change
            decoded_alike(bytes(changed))
        changed[index] = byte


@pytest.mark.parametrize("name", GOLDENS)
def test_every_byte_removed_or_doubled_is_decoded_alike(name: str) -> None:
    data = golden(name)
    for index in range(len(data)):
        decoded_alike(data[:index] + data[index + 1 :])
        decoded_alike(data[: index + 1] + data[index:])
    decoded_alike(data + b"\0")


@SETTINGS
@given(terms, st.booleans(), st.integers(0, 9))
def test_generated_terms_are_written_and_read_alike(term: object, deterministic: bool, level: int) -> None:
    encoded_alike(term, deterministic=deterministic, compressed=level)
    data = _pure.term_to_binary(term, deterministic=deterministic, compressed=level)
    decoded_alike(data)
    decoded_alike(data, text=True)


@SETTINGS
@given(terms, st.data())
def test_damaged_terms_are_read_alike(term: object, data: st.DataObject) -> None:
    broken = bytearray(_pure.term_to_binary(term))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    decoded_alike(bytes(broken))


@SETTINGS
@given(terms, st.integers(0, 4))
def test_the_depth_limit_is_the_same(term: object, max_depth: int) -> None:
    decoded_alike(_pure.term_to_binary(term), max_depth=max_depth)


# -- maps whose shapes repeat ------------------------------------------------------------------------------------------


def with_old_atoms(data: bytes) -> bytes:
    """The same term with its ASCII atoms as ATOM_EXT, as OTP 25 writes them."""
    for name in (b"id", b"question", b"answer", b"score", b"a_rather_longer_name_of_a_field"):
        data = data.replace(b"w%c" % len(name) + name, b"d\0%c" % len(name) + name)
    return data


@pytest.mark.parametrize("seed", range(25))
def test_maps_whose_shapes_repeat_are_read_alike(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5):
        compiled._shape_cache(True)
        data = _pure.term_to_binary(records(rng))
        for candidate in (data, data, with_old_atoms(data)):
            for text in (False, True):
                decoded_alike(candidate, text=text)
        broken = bytearray(data)
        for _ in range(20):
            index = rng.randrange(1, len(data))
            broken[index] = rng.choice([broken[index] ^ 1, rng.randrange(256), broken[index - 1]])
            decoded_alike(bytes(broken))
            if rng.random() < 0.5:
                broken = bytearray(data)


def test_maps_whose_shapes_repeat_come_back_identical_for_the_beam(
    beam_verdicts: Callable[..., list[str]],
) -> None:
    rng = random.Random(7)
    originals = [_pure.term_to_binary(records(rng)) for _ in range(400)]
    originals += [with_old_atoms(data) for data in originals]
    compiled._shape_cache(True)
    ours = [compiled.term_to_binary(compiled.binary_to_term(data)) for data in originals]
    assert set(beam_verdicts(originals, ours)) == {"same"}


def test_mutated_encodings_are_read_and_written_alike_for_some_seconds() -> None:
    rng = random.Random(20240229)
    seeds = [golden(name) for name in GOLDENS] + [_pure.term_to_binary(records(rng)) for _ in range(20)]
    end = time.monotonic() + (4 if LONG else 2)
    for count, data in enumerate(mutations(rng, [data for data in seeds if len(data) < 5000])):
        decoded_alike(data, **rng.choice(({}, {"text": True}, {"max_depth": rng.randrange(6)}, {"max_bytes": 100})))
        if count % 256 == 0 and time.monotonic() > end:
            break
    assert count > 1000


def test_the_cache_of_shapes_works_where_it_can() -> None:
    enabled, hits, _, _ = compiled._shape_cache(True)
    if not enabled:
        pytest.skip("this interpreter's dict is none that the extension knows")
    rows = [{Atom("id"): index, Atom("name"): b"x"} for index in range(100)]
    data = _pure.term_to_binary(rows)
    assert compiled.binary_to_term(data) == rows
    assert compiled._shape_cache()[1] - hits >= 80  # another test's shape may have stood in its place


def test_a_dict_from_the_cache_is_a_dict_like_any_other() -> None:
    rows = [{Atom("id"): index, Atom("name"): [index]} for index in range(10)]
    again = compiled.binary_to_term(_pure.term_to_binary(rows))
    for index, row in enumerate(again):
        row[Atom("new")] = index
        del row[Atom("id")]
        row["name"] = 1
        assert row == {Atom("name"): [index], Atom("new"): index, "name": 1}
        assert list(row) == [Atom("name"), Atom("new"), "name"]
        row.clear()
    fresh = compiled.binary_to_term(_pure.term_to_binary(rows))
    assert fresh == rows
    assert copy.deepcopy(fresh) == rows


def test_a_decoded_dict_of_leaves_is_collected_once_it_is_part_of_a_cycle() -> None:
    """The decoder leaves such dicts untracked, as the interpreter does; what is put into one later must undo that."""
    data = _pure.term_to_binary([{Atom("id"): index, Atom("name"): b"x"} for index in range(6)])

    class Watched:
        held: object = None

    ways: list[Callable[[dict[object, object], Watched], object]] = [
        lambda row, watched: row.__setitem__(Atom("id"), watched),
        lambda row, watched: row.setdefault("new", watched),
        lambda row, watched: row.update({1: watched}),
        lambda row, watched: row.__ior__([(2, watched)]),
        lambda row, watched: row.update(new=(watched,)),
        lambda row, watched: row.update(id=[watched]),
    ]
    rows: list[dict[object, object]] = compiled.binary_to_term(data)
    watches = []
    for row, way in zip(rows, ways, strict=True):
        watched = Watched()
        watched.held = row
        way(row, watched)
        watches.append(weakref.ref(watched))
    del rows, row, watched
    gc.collect()
    assert [watch() for watch in watches] == [None] * len(ways)


def test_duplicate_keys_in_a_known_shape_are_refused() -> None:
    row = b"t\0\0\0\2w\2ida\1w\4namea\2"
    double = b"t\0\0\0\2w\2ida\1w\2ida\2"
    for _ in range(3):
        decoded_alike(b"\x83l\0\0\0\5" + row * 4 + double + b"j")
        decoded_alike(b"\x83l\0\0\0\5" + double * 4 + row + b"j")
