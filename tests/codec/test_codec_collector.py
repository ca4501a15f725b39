"""What the collector sees of a decoded term: every container that could be part of a cycle, once the term is whole."""

from __future__ import annotations

import gc
import weakref

import pytest

from erlbridge.codec import Atom, ImproperList, TermMap, binary_to_term, term_to_binary
from erlbridge.errors import DecodeError

MANY = 300
"""More containers than the decoder keeps on its stack."""


def test_every_container_that_holds_a_container_is_tracked() -> None:
    record = {Atom("id"): 1, Atom("inner"): [[1.5], (2, [b"x"]), {Atom("deep"): [3]}]}
    odd_keys = TermMap([([1], [2]), (1, [3]), (1.0, [4])])
    term = binary_to_term(term_to_binary([record, dict(record), odd_keys, ImproperList([[1]], b"t")] * MANY))
    assert isinstance(term, list)
    waiting = [term]
    seen = 0
    while waiting:
        value = waiting.pop()
        inner: list[object] = []
        match value:
            case dict() | TermMap():
                inner = list(value.values())
            case list() | tuple():
                inner = list(value)
            case ImproperList():
                assert gc.is_tracked(value.elements)
                inner = [*value.elements]
        if isinstance(value, list) or any(gc.is_tracked(held) for held in inner):
            assert gc.is_tracked(value), value
            seen += 1
        waiting += inner  # type: ignore[arg-type]
    assert seen > 10 * MANY


def test_a_cycle_made_of_decoded_containers_is_collected() -> None:
    class Witness:
        pass

    term = binary_to_term(term_to_binary([{Atom("a"): [index, (index, [])]} for index in range(MANY)]))
    assert isinstance(term, list)
    witness = Witness()
    gone = weakref.ref(witness)
    for record in term:
        record[Atom("a")][1][1].extend((record, witness))
    del term, record, witness
    gc.collect()
    assert gone() is None


def test_collections_in_the_middle_of_a_term_harm_nothing() -> None:
    records = [{Atom("a"): [index, (index, [index])], index: {1: {}}} for index in range(MANY)]
    data = term_to_binary([*records, TermMap([(1, [[]]), (1.0, [[]])])])
    twice = data.replace(b"F?\xf0\0\0\0\0\0\0", b"a\1")
    expected = binary_to_term(data)
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        assert binary_to_term(data) == expected
        with pytest.raises(DecodeError, match="duplicate keys"):
            binary_to_term(twice)
    finally:
        gc.set_threshold(*thresholds)
