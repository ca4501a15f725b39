"""Properties of generated terms, and agreement with erlang_py and erlastic on what those can do."""

from __future__ import annotations

import math

import erlang
import erlastic
from hypothesis import given, settings
from hypothesis import strategies as st
from measures import LONG

from erlbridge.codec import (
    Atom,
    BitString,
    DecodeError,
    Export,
    ImproperList,
    Pid,
    Port,
    Reference,
    TermMap,
    binary_to_term,
    term_to_binary,
)
from erlbridge.codec.order import sort_key

SETTINGS = settings(max_examples=200 if LONG else 100, deadline=None)

atoms = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda name: Atom("a" + name))
words = st.integers(0, 2**32 - 1)
integers = st.one_of(st.integers(), st.integers(-300, 300), st.integers(-(2**70), 2**70), st.integers(2**2000, 2**2100))
floats = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.one_of(
    integers,
    floats,
    atoms,
    st.none(),
    st.booleans(),
    st.binary(max_size=300),
    st.builds(BitString, st.binary(min_size=1, max_size=5), st.integers(1, 7)),
    st.builds(Pid, atoms, words, words, words),
    st.builds(Port, atoms, st.integers(0, 2**64 - 1), words),
    st.builds(Reference, atoms, words, st.lists(words, min_size=1, max_size=5)),
    st.builds(Export, atoms, atoms, st.integers(0, 255)),
)


def improper(elements: list[object], tail: object) -> ImproperList:
    return ImproperList(elements, (tail,) if isinstance(tail, list | ImproperList) else tail)


def as_map(pairs: list[tuple[object, object]]) -> object:
    """A dict where one holds these keys, else a TermMap: what the decoder would give."""
    odd = TermMap(pairs)
    try:
        plain = dict(odd.items())
    except TypeError:
        return odd
    return plain if len(plain) == len(odd) else odd


def containers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.lists(st.integers(0, 255)),
        st.lists(floats, min_size=4),
        st.builds(improper, st.lists(inner, min_size=1, max_size=4), inner),
        st.lists(st.tuples(leaves, inner), max_size=6).map(as_map),
        st.lists(st.tuples(inner, inner), max_size=4).map(as_map),
    )


terms = st.recursive(leaves, containers, max_leaves=15)


def same(one: object, two: object) -> bool:
    """Equal in value and in type, all the way down; what Python merges (1, 1.0, True; 0.0, -0.0) is told apart."""
    if isinstance(one, dict | TermMap) and isinstance(two, dict | TermMap):
        left = {sort_key(key): value for key, value in one.items()}
        right = {sort_key(key): value for key, value in two.items()}
        return left.keys() == right.keys() and all(same(left[form], right[form]) for form in left)
    if type(one) is not type(two):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))  # type: ignore[arg-type]
    if isinstance(one, ImproperList) and isinstance(two, ImproperList):
        return same(one.elements, two.elements) and same(one.tail, two.tail)
    if isinstance(one, float) and isinstance(two, float):
        return one == two and math.copysign(1, one) == math.copysign(1, two)
    return one == two


@SETTINGS
@given(terms, st.booleans(), st.integers(0, 9))
def test_what_is_written_is_read_as_the_same_term(term: object, deterministic: bool, level: int) -> None:
    data = term_to_binary(term, deterministic=deterministic, compressed=level)
    assert same(binary_to_term(data), term)


@SETTINGS
@given(terms)
def test_what_is_read_is_written_as_the_same_bytes(term: object) -> None:
    data = term_to_binary(term)
    assert term_to_binary(binary_to_term(data)) == data


@SETTINGS
@given(terms, terms)
def test_sort_keys_are_equal_where_deterministic_bytes_are(one: object, two: object) -> None:
    if term_to_binary(one, deterministic=True) == term_to_binary(two, deterministic=True):
        assert sort_key(one) == sort_key(two)
    assert sort_key(one) == sort_key(binary_to_term(term_to_binary(one)))


@SETTINGS
@given(st.binary(max_size=60))
def test_any_bytes_give_a_term_or_a_decode_error(data: bytes) -> None:
    for candidate in (data, b"\x83" + data):
        try:
            term = binary_to_term(candidate)
        except DecodeError:
            continue
        assert same(binary_to_term(term_to_binary(term)), term)


@SETTINGS
@given(terms, st.data())
def test_a_term_with_bytes_changed_gives_a_term_or_a_decode_error(term: object, data: st.DataObject) -> None:
    broken = bytearray(term_to_binary(term))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = binary_to_term(broken)
    except DecodeError:
        return
    term_to_binary(again)


# What erlang_py can hold without loss: no list that it would take for a charlist, no keys that it would merge.
shared_leaves = st.one_of(integers, floats, atoms, st.binary())
keys = st.one_of(st.binary(max_size=10), atoms)
shared_terms = st.recursive(
    shared_leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1).map(lambda values: [Atom("list"), *values]),
        st.lists(inner).map(tuple),
        st.dictionaries(keys, inner),
    ),
    max_leaves=20,
)


def for_erlang_py(term: object) -> object:
    match term:
        case Atom():
            return erlang.OtpErlangAtom(str(term))
        case bytes():
            return erlang.OtpErlangBinary(term)
        case dict():
            return {for_erlang_py(key): for_erlang_py(value) for key, value in term.items()}
        case list():
            return [for_erlang_py(value) for value in term]
        case tuple():
            return tuple(map(for_erlang_py, term))
    return term


@SETTINGS
@given(shared_terms)
def test_what_erlang_py_writes_is_read_as_the_same_term(term: object) -> None:
    assert same(binary_to_term(erlang.term_to_binary(for_erlang_py(term))), term)


@SETTINGS
@given(shared_terms)
def test_what_we_write_erlang_py_reads_and_writes_back(term: object) -> None:
    theirs = erlang.binary_to_term(term_to_binary(term))
    assert same(binary_to_term(erlang.term_to_binary(theirs)), term)


erlastic_terms = st.recursive(
    st.one_of(st.integers(-(2**60), 2**60), floats, st.booleans(), st.binary(min_size=1)),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple)),
    max_leaves=20,
)


@SETTINGS
@given(erlastic_terms)
def test_what_erlastic_writes_is_read_as_the_same_term(term: object) -> None:
    assert same(binary_to_term(erlastic.encode(term)), term)
