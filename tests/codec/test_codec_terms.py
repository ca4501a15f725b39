"""The types that Python lacks: what they hold, when they are equal, how they copy."""

from __future__ import annotations

import copy
import pickle

import pytest

from erlbridge.codec import (
    Atom,
    BitString,
    DecodeError,
    EncodeError,
    Export,
    Fun,
    ImproperList,
    Local,
    Pid,
    Port,
    Reference,
    TermMap,
    binary_to_term,
    term_to_binary,
)

NODE = Atom("a@b")
PID = Pid(NODE, 7, 8, 5)
FUN = Fun(1, b"u" * 16, 3, Atom("m"), 4, -5, PID, [1, Atom("free"), [2.0]])
VALUES = [
    BitString(b"\xa0", 3),
    ImproperList([1, [2]], Atom("tail")),
    PID,
    Port(NODE, 1 << 40, 5),
    Port(NODE, 5, 5),
    Reference(NODE, 5, (9, 8, 7)),
    Export(Atom("lists"), Atom("map"), 2),
    FUN,
    TermMap([(1, "integer"), (1.0, b"float"), ([1], True)]),
    Local(b"opaque"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_copies_pickles_and_encodings_are_equal_to_the_value(value: object) -> None:
    assert copy.deepcopy(value) == value
    assert copy.copy(value) == value
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(value, protocol)) == value
    again = binary_to_term(term_to_binary(value))
    assert type(again) is type(value)
    assert term_to_binary(again) == term_to_binary(value)
    assert value != Atom("other")
    assert repr(value).startswith(type(value).__name__)


@pytest.mark.parametrize("value", VALUES[:8], ids=lambda value: type(value).__name__)
def test_fields_cannot_be_changed(value: object) -> None:
    field = type(value).__slots__[0]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, field, 1)
    with pytest.raises(AttributeError, match="immutable"):
        delattr(value, field)


@pytest.mark.parametrize("value", VALUES[2:8] + VALUES[:1], ids=lambda value: type(value).__name__)
def test_values_without_lists_can_be_keys_and_members(value: object) -> None:
    assert {value: 1}[copy.deepcopy(value)] == 1
    data = term_to_binary({value: 1, Atom("k"): 2})
    assert type(binary_to_term(data)) is dict


def test_old_and_new_forms_of_an_identifier_are_one_value() -> None:
    node = b"w\3a@b"
    old = binary_to_term(b"\x83g" + node + b"\0\0\0\1\0\0\0\2\3")
    assert old == Pid(NODE, 1, 2, 3)
    assert hash(old) == hash(Pid(NODE, 1, 2, 3))
    assert binary_to_term(b"\x83f" + node + b"\0\0\0\1\3") == Port(NODE, 1, 3)
    assert binary_to_term(b"\x83Y" + node + b"\0\0\0\1\0\0\0\3") == Port(NODE, 1, 3)
    assert binary_to_term(b"\x83e" + node + b"\0\0\0\1\3") == Reference(NODE, 3, (1,))
    assert binary_to_term(b"\x83r\0\1" + node + b"\3\0\0\0\1") == Reference(NODE, 3, (1,))


def test_words_of_zero_at_the_end_do_not_tell_references_apart() -> None:
    short, long = Reference(NODE, 5, (9,)), Reference(NODE, 5, (9, 0, 0))
    assert short == long
    assert hash(short) == hash(long)
    assert term_to_binary(short) != term_to_binary(long)
    with pytest.raises(DecodeError, match="duplicate keys"):
        binary_to_term(b"\x83t\0\0\0\2" + term_to_binary(short)[1:] + b"a\1" + term_to_binary(long)[1:] + b"a\2")


def test_what_a_fun_was_made_by_does_not_tell_it_apart() -> None:
    other = Fun(2, b"v" * 16, 3, Atom("m"), 9, -5, Pid(NODE, 1, 1, 1), [1, Atom("free"), [2.0]])
    assert other == FUN
    assert hash(other) == hash(FUN)
    assert Fun(1, b"u" * 16, 4, Atom("m"), 4, -5, PID, FUN.free) != FUN


@pytest.mark.parametrize(
    "make",
    [
        lambda: BitString(b"", 3),
        lambda: BitString(b"a", 0),
        lambda: BitString(b"a", 8),
        lambda: ImproperList([], 1),
        lambda: ImproperList([1], [2]),
        lambda: ImproperList([1], ImproperList([2], 3)),
        lambda: Pid(NODE, 1 << 32, 0, 0),
        lambda: Pid(NODE, -1, 0, 0),
        lambda: Port(NODE, 1 << 64, 0),
        lambda: Reference(NODE, 1, range(6)),
        lambda: Reference(NODE, 1, ()),
        lambda: Reference(NODE, 1, (1 << 32,)),
        lambda: Export(Atom("m"), Atom("f"), 256),
        lambda: Fun(1, b"short", 0, NODE, 0, 0, PID, ()),
        lambda: Fun(1, b"u" * 16, 0, NODE, 1 << 59, 0, PID, ()),
        lambda: Fun(1, b"u" * 16, 0, NODE, 0, 0, PID, range(256)),
    ],
)
def test_values_that_no_term_can_have_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"expected|limit|at least"):
        make()  # type: ignore[operator]


def test_a_node_or_module_that_is_no_atom_is_refused() -> None:
    for make in (lambda: Pid("a@b", 1, 1, 1), lambda: Export("m", Atom("f"), 1)):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is an Atom"):
            make()


def test_bits_beyond_the_last_are_zero() -> None:
    assert BitString(b"\xff\xff", 3) == BitString(b"\xff\xe0", 3)
    assert BitString(b"\xff", 3) != BitString(b"\xff", 4)
    assert binary_to_term(b"\x83M\0\0\0\1\3\xff") == BitString(b"\xe0", 3)
    assert binary_to_term(b"\x83M\0\0\0\1\x08\xff") == b"\xff"


def test_a_local_term_stands_alone() -> None:
    assert binary_to_term(b"\x83yanything") == Local(b"anything")
    assert term_to_binary(Local(b"anything")) == b"\x83yanything"
    with pytest.raises(EncodeError, match="whole term"):
        term_to_binary([Local(b"anything")])
    with pytest.raises(DecodeError, match="unknown tag 121"):
        binary_to_term(b"\x83h\1yanything")


# -- TermMap -----------------------------------------------------------------------------------------------------------


def test_a_map_with_1_and_1_0_keeps_both_keys() -> None:
    term = binary_to_term(b"\x83t\0\0\0\3a\1w\3intF\x3f\xf0" + b"\0" * 6 + b"w\5floatw\4truew\4bool")
    assert isinstance(term, TermMap)
    assert (term[1], term[1.0], term[True]) == (Atom("int"), Atom("float"), Atom("bool"))
    assert term[Atom("true")] is Atom("bool")
    assert list(term) == [1, 1.0, True]
    assert [type(key) for key in term] == [int, float, bool]


def test_a_map_whose_keys_python_keeps_apart_is_a_dict() -> None:
    for term in ({1: 1, 2.5: 2, "a": 3}, {(1, 2): 1}, {None: 1, False: 2}, {2.0: 1}):
        assert type(binary_to_term(term_to_binary(term))) is dict


@pytest.mark.parametrize("key", [[], [1], {}, {Atom("a"): 1}, ImproperList([1], 2), ([1],), TermMap([([], 1)])])
def test_a_key_that_python_cannot_hash_is_a_key(key: object) -> None:
    term = TermMap([(key, b"value"), (b"other", 1)])
    again = binary_to_term(term_to_binary(term))
    assert isinstance(again, TermMap)
    assert again == term
    assert again[key] == b"value"
    assert key in again
    assert [99] not in again


def test_keys_are_apart_inside_other_keys_too() -> None:
    term = TermMap(
        [((1,), "a"), ((1.0,), "b"), ((True,), "c"), ([1], "d"), ([1.0], "e"), ({1: 1}, "f"), ({1.0: 1}, "g")]
    )
    again = binary_to_term(term_to_binary(term), text=True)
    assert isinstance(again, TermMap)
    assert "".join(again[key] for key in term) == "abcdefg"  # type: ignore[misc]


def test_positive_and_negative_zero_are_one_key_as_on_otp_25() -> None:
    zeros = b"F" + b"\0" * 8 + b"a\1" + b"F\x80" + b"\0" * 7 + b"a\2"
    with pytest.raises(DecodeError, match="map with duplicate keys"):
        binary_to_term(b"\x83t\0\0\0\2" + zeros)
    assert len(TermMap([(0.0, 1), (-0.0, 2)])) == 1


def test_a_term_map_is_a_mapping_of_its_pairs() -> None:
    term = TermMap({"a": 1})
    assert dict(term) == {"a": 1}
    assert term == {"a": 1}
    assert term == {b"a": 1}
    assert term != {"a": 2}
    assert term != {"b": 1}
    assert term != {"a": 1, "b": 2}
    assert term != 5
    assert list(term.items()) == [("a", 1)]
    assert list(term.values()) == [1]
    assert list(term.keys()) == ["a"]
    assert ("a", 1) in term.items()
    assert 1 in term.values()
    assert term.get([1]) is None
    assert term.get(object()) is None
    assert TermMap() == {}
    assert repr(term) == "TermMap([('a', 1)])"
    with pytest.raises(TypeError, match="unhashable"):
        hash(term)
    with pytest.raises(KeyError):
        term["missing"]


def test_a_term_map_keeps_the_first_key_and_the_last_value() -> None:
    term = TermMap([("a", 1), (b"a", 2)])
    assert list(term.items()) == [("a", 2)]


def test_a_term_map_refuses_a_key_that_is_no_term() -> None:
    with pytest.raises(EncodeError, match="no Erlang term stands for object"):
        TermMap([(object(), 1)])


def test_duplicate_keys_are_refused_whatever_their_form() -> None:
    for one, two in (
        (b"w\2ok", b"d\0\2ok"),
        (b"a\5", b"b\0\0\0\5"),
        (b"k\0\1a", b"l\0\0\0\1a\x61j"),
        (b"jh\0"[:1], b"k\0\0"),
    ):
        with pytest.raises(DecodeError, match="duplicate keys, 1 of 2"):
            binary_to_term(b"\x83t\0\0\0\2" + one + b"a\1" + two + b"a\2")
