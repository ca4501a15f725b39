"""What the encoder takes and refuses, and its options."""

from __future__ import annotations

import collections
import enum
import sys
import types
from typing import NamedTuple

import pytest

from erlbridge.codec import Atom, EncodeError, ImproperList, TermMap, binary_to_term, term_to_binary
from erlbridge.errors import BridgeError
from erlbridge.limits import MAX_DEPTH, MAX_INTEGER_BYTES


def back(term: object, **options: object) -> object:
    return binary_to_term(term_to_binary(term, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("term", "data"),
    [
        (0, "6100"),
        (255, "61ff"),
        (256, "6200000100"),
        (-1, "62ffffffff"),
        (2**31 - 1, "627fffffff"),
        (-(2**31), "6280000000"),
        (2**31, "6e040000000080"),
        (-(2**31) - 1, "6e040101000080"),
        (-0.0, "468000000000000000"),
        (True, "770474727565"),
        (None, "77036e696c"),
        ("é", "6d00000002c3a9"),
        (b"", "6d00000000"),
        ([], "6a"),
        ((), "6800"),
        ({}, "7400000000"),
        ([1, 2, 255], "6b00030102ff"),
        ([1, 256], "6c00000002610162000001006a"),
        ([True, 1], "6c0000000277047472756561016a"),
        ([1, True], "6c000000026101770474727565 6a"),
        ([1.5], "6c00000001463ff80000000000006a"),
        (ImproperList([1], 2), "6c0000000161016102"),
    ],
)
def test_values_are_written_as_the_beam_writes_them(term: object, data: str) -> None:
    assert term_to_binary(term) == b"\x83" + bytes.fromhex(data)


def test_integers_of_every_length_come_back() -> None:
    for bits in [*range(1, 140), 2032, 2039, 2040, 2041, 2048, 10_000, MAX_INTEGER_BYTES * 8]:
        for value in ((1 << bits) - 1, -(1 << bits) + 1, 1 << (bits - 1)):
            assert back(value) == value
    with pytest.raises(EncodeError, match="integer of 4194297 bytes, limit 4194296"):
        term_to_binary(1 << MAX_INTEGER_BYTES * 8)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 255, 256, 65535, 65536, 70_000])
def test_lists_of_numbers_of_every_length_come_back(count: int) -> None:
    for term in (
        [7] * count,
        [300] * count,
        [0.5] * count,
        [7] * (count - 1) + [True],
        [0.5] * (count - 1) + [1],
        [2**40] * count,
        [index * 7919 - 100_000 for index in range(count)],
    ):
        again = back(term)
        assert again == term
        assert [type(value) for value in again] == [type(value) for value in term]  # type: ignore[attr-defined]
        assert back(tuple(term)) == tuple(term)


def test_lists_of_4_byte_and_1_byte_integers_from_a_peer_are_read_as_runs() -> None:
    data = b"\x83l\0\0\0\5" + b"b\xff\xff\xff\xfe" * 5 + b"j"
    assert binary_to_term(data) == [-2] * 5
    assert binary_to_term(b"\x83l\0\0\0\5" + b"a\7" * 5 + b"a\1") == ImproperList([7] * 5, 1)
    assert binary_to_term(b"\x83l\0\0\0\5" + b"j" * 6) == [[]] * 5
    lists = binary_to_term(b"\x83l\0\0\0\5" + b"j" * 6)
    assert len({id(value) for value in lists}) == 5  # type: ignore[attr-defined]
    assert binary_to_term(b"\x83t\0\0\0\2a\1a\2a\3a\4") == {1: 2, 3: 4}
    assert binary_to_term(b"\x83h\4" + b"a\7" * 3 + b"j") == (7, 7, 7, [])


class Colour(enum.IntEnum):
    RED = 3


class Point(NamedTuple):
    x: int
    y: float


class Loud(str):
    __slots__ = ()

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        raise AssertionError("a subclass's own methods are not asked")

    def __str__(self) -> str:
        return "something else"


class Text(list):  # type: ignore[type-arg]
    def __iter__(self) -> object:  # type: ignore[override]
        return iter(())


@pytest.mark.parametrize(
    ("term", "plain"),
    [
        (Colour.RED, 3),
        (Point(1, 2.0), (1, 2.0)),
        (Loud("text"), b"text"),
        (Text([1, Atom("a")]), [1, Atom("a")]),
        (collections.OrderedDict(a=1), {b"a": 1}),
        (collections.defaultdict(int, a=1), {b"a": 1}),
        (types.MappingProxyType({"a": 1}), {b"a": 1}),
        (collections.UserDict({"a": 1}), {b"a": 1}),
        (type("F", (float,), {})(1.5), 1.5),
        (type("B", (bytes,), {})(b"x"), b"x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xyz")[::2], b"xz"),
        ({Colour.RED: 1, Point(1, 2): 2}, {3: 1, (1, 2): 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_are_written_as_the_value_they_hold(term: object, plain: object) -> None:
    again = back([term, Atom("end")])
    assert again == [plain, Atom("end")]
    assert type(again[0]) is type(plain)  # type: ignore[index]


def test_values_that_are_no_terms_are_refused_with_their_type_and_place() -> None:
    with pytest.raises(EncodeError, match=r"no Erlang term stands for set at \[1\]\[b'k'\]\[0\]"):
        term_to_binary([1, {b"k": (set(),)}])
    with pytest.raises(EncodeError, match=r"no Erlang term stands for complex$"):
        term_to_binary(1j)
    with pytest.raises(EncodeError, match=r"Erlang has no float nan at \[2\]"):
        term_to_binary([1, 2.0, float("nan")])
    for value in (float("nan"), float("inf"), float("-inf")):
        for term in (value, [value], [0.5] * 9 + [value], {Atom("k"): value}, {value: 1}):
            with pytest.raises(EncodeError, match="Erlang has no float"):
                term_to_binary(term)
    for text in ("\ud800", "ok\udfff"):
        for term in (text, {text: 1}, {text: 1, b"x": 2}, [text]):
            with pytest.raises(EncodeError, match="lone surrogate at index"):
                term_to_binary(term)


def test_an_encode_error_is_of_the_bridges_own() -> None:
    with pytest.raises(BridgeError):
        term_to_binary(object())


def test_keys_that_are_one_key_in_erlang_are_refused() -> None:
    for term in ({"a": 1, b"a": 2}, {True: 1, Atom("true"): 2}, {("a",): 1, (b"a",): 2}, {None: 1, Atom("nil"): 1}):
        for options in ({}, {"deterministic": True}):
            with pytest.raises(EncodeError, match="are one key in Erlang"):
                term_to_binary(term, **options)
    assert back({"a": 1, b"b": 2, 3: 4, 4.0: 5}) == {b"a": 1, b"b": 2, 3: 4, 4.0: 5}


def test_default_is_asked_for_unknown_types_anywhere() -> None:
    def default(value: object) -> object:
        return sorted(value) if isinstance(value, set) else (Atom("complex"), value.real, value.imag)  # type: ignore[attr-defined]

    term = {1j: {"b", "a"}, b"k": [{3, 2}]}
    assert back(term, default=default) == {(Atom("complex"), 0.0, 1.0): [b"a", b"b"], b"k": [[2, 3]]}
    assert back(term, default=default, deterministic=True) == back(term, default=default)


def test_errors_of_default_are_its_own() -> None:
    for error in (RuntimeError, IndexError, KeyError, EncodeError, UnicodeDecodeError):
        raised = error("utf-8", b"", 0, 1, "x") if error is UnicodeDecodeError else error("from default")  # type: ignore[call-arg]

        def default(_: object, raised: Exception = raised) -> object:
            raise raised

        for term in ([object()], {object(): 1, 2: 3}):
            with pytest.raises(error) as caught:
                term_to_binary(term, default=default)
            assert caught.value is raised


def test_a_default_that_never_ends_is_refused() -> None:
    with pytest.raises(EncodeError, match=r"nested deeper|holds itself"):
        term_to_binary(object(), default=lambda _: object())
    same = object()
    with pytest.raises(EncodeError, match=r"nested deeper|holds itself"):
        term_to_binary(same, default=lambda value: [value])


def test_containers_that_hold_themselves_are_refused_at_once() -> None:
    wide: list[object] = [Atom("x")] * 100_000
    wide.insert(0, wide)
    nested: dict[object, object] = {}
    nested[1] = [(nested,)]
    improper = ImproperList([1], ())
    improper.elements.append(improper)
    subclass = Text()
    subclass.append(subclass)
    mapped: dict[object, object] = {}
    mapped[2] = TermMap([(1, mapped)])
    for term in (wide, nested, improper, subclass, mapped):
        for options in ({}, {"deterministic": True}):
            with pytest.raises(EncodeError, match="holds itself"):
                term_to_binary(term, **options)


def test_one_value_in_many_places_is_no_cycle() -> None:
    shared: object = [Atom("leaf")]
    for _ in range(200):
        shared = (shared,)
    assert back([shared, shared]) == [shared, shared]


def test_terms_deeper_than_the_limit_are_refused() -> None:
    term: object = b""
    for _ in range(MAX_DEPTH):
        term = [term]
    assert sys.getrecursionlimit() < MAX_DEPTH
    assert term_to_binary(term)[-1:] == b"j"
    with pytest.raises(EncodeError, match=f"nested deeper than {MAX_DEPTH}"):
        term_to_binary((term,))


def test_a_list_or_dict_that_changes_while_it_is_written_is_refused() -> None:
    growing: list[object] = [object(), Atom("end")]
    with pytest.raises(EncodeError, match="list changed while it was written"):
        term_to_binary(growing, default=lambda _: growing.append(1))
    moving: dict[object, object] = {Atom("a"): object(), Atom("b"): 1}
    with pytest.raises(EncodeError, match="dict changed while it was written"):
        term_to_binary(moving, default=lambda _: moving.update({Atom("c"): 1}))


def test_an_improper_list_that_was_emptied_is_refused() -> None:
    emptied = ImproperList([1], 2)
    emptied.elements.clear()
    with pytest.raises(EncodeError, match="emptied"):
        term_to_binary(emptied)


@pytest.mark.parametrize("level", [True, 1, 6, 9])
def test_compressed_terms_are_smaller_and_come_back(level: int) -> None:
    term = [{Atom("key"): b"value" * 10}] * 100
    data = term_to_binary(term, compressed=level)
    assert data[:2] == b"\x83P"
    assert len(data) < len(term_to_binary(term)) / 10
    assert binary_to_term(data) == term


def test_terms_that_do_not_get_smaller_stay_plain() -> None:
    for level in (False, 0):
        assert term_to_binary([b"x"] * 100, compressed=level)[1:2] == b"l"
    assert term_to_binary(Atom("ok"), compressed=9) == b"\x83w\2ok"


@pytest.mark.parametrize("level", [-1, 10])
def test_a_level_that_zlib_does_not_have_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match="level from 0 to 9"):
        term_to_binary(1, compressed=level)


def test_deterministic_writes_keys_in_erlangs_order() -> None:
    term = {b"b": 1, Atom("a"): 2, 2.0: 3, 3: 4, (1,): 5, (): 6, None: 7, "a": 8}
    keys = list(back(term, deterministic=True))  # type: ignore[call-overload]
    assert keys == [3, 2.0, Atom("a"), None, (), (1,), b"a", b"b"]


def test_text_gives_str_for_utf_8_and_bytes_for_the_rest() -> None:
    data = term_to_binary({b"key": ["é", b"\xff", b"", (b"\xed\xa0\x80",)]})
    assert binary_to_term(data, text=True) == {"key": ["é", b"\xff", "", (b"\xed\xa0\x80",)]}
    assert term_to_binary(binary_to_term(data, text=True)) == data


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(data + data)[: len(data)]])
def test_every_kind_of_bytes_is_decoded(make: object) -> None:
    term = {Atom("a"): [b"binary", 1.5, (2,)]}
    assert binary_to_term(make(term_to_binary(term))) == term  # type: ignore[operator]


def test_decoded_binaries_do_not_hold_the_whole_input() -> None:
    value = binary_to_term(bytearray(term_to_binary([b"binary"])))
    assert type(value[0]) is bytes  # type: ignore[index]
