"""Examples: the host's maps become values of their fields' types, or are refused with their place."""

from __future__ import annotations

import pytest

from erlbridge.codec import Atom, BitString, ImproperList, Pid, TermMap
from erlbridge.core.examples import Examples, read_inputs, read_value
from erlbridge.core.signatures import Field, FieldType, Signature
from erlbridge.core.type_text import parse_type
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

SIGNATURE = Signature((Field("q"),), (Field("n", FieldType("integer")), Field("o", FieldType("optional", FieldType()))))


def read(*rows: object, signature: Signature = SIGNATURE) -> list[dict[str, object]]:
    return Examples.at(Place(list(rows), "payload.data")).read(signature)


def test_a_row_is_flat_or_split() -> None:
    expected = {"q": "x", "n": 1, "o": None}
    flat = {Atom("q"): b"x", b"n": 1, b"stray": (1, 2)}
    split = {Atom("input"): {Atom("q"): b"x"}, Atom("output"): {b"n": 1, b"o": None}}
    assert read(flat, split) == [expected, expected]


def test_fields_that_are_called_input_and_output_are_fields() -> None:
    signature = Signature((Field("input"),), (Field("output"),))
    assert read({b"input": b"x", b"output": b"y"}, signature=signature) == [{"input": "x", "output": "y"}]


def test_inputs_need_no_outputs() -> None:
    assert read_inputs(Place({b"q": b"x"}, "payload.input"), SIGNATURE) == {"q": "x"}


VALUES = [
    ("string", b"x", "x"),
    ("string", Atom("x"), "x"),
    ("string", "häufig".encode(), "häufig"),
    ("integer", 10**30, 10**30),
    ("integer", 1 - 10**1000, 1 - 10**1000),
    ("any", [10**1000 - 1], [10**1000 - 1]),
    ("number", 3, 3.0),
    ("boolean", False, False),
    ("optional[integer]", None, None),
    ("list[integer]", [1, 2], [1, 2]),
    ("list", (b"".join([]) and []) or [], []),
    ("dict[string, number]", {Atom("k"): 1}, {"k": 1.0}),
    ("any", {b"k": [(1, Atom("a")), None, True, 1.5]}, {"k": [[1, "a"], None, True, 1.5]}),
    ("map", TermMap([(b"k", b"v")]), {"k": "v"}),
]


@pytest.mark.parametrize(("kind", "term", "value"), VALUES)
def test_a_term_becomes_the_value_of_its_type(kind: str, term: object, value: object) -> None:
    found = read_value(Place(term, "v"), parse_type(kind, "t"))
    assert found == value
    assert type(found) is type(value)


def nested(depth: int) -> object:
    term: object = 1
    for _ in range(depth):
        term = [term]
    return term


TOO_LONG = 10**5000
"""Python refuses to write it as text."""

REFUSALS = [
    ("string", 1, "v", "an atom or a binary, got 1"),
    ("string", None, "v", "an atom or a binary, got nil"),
    ("string", [104, 105], "v", "got a list of 2 elements"),
    ("string", b"\xff", "v", "UTF-8"),
    ("integer", 1.0, "v", "an integer, got 1.0"),
    ("integer", True, "v", "an integer, got true"),
    ("number", b"1", "v", "a number"),
    ("integer", 10**1000, "v", "an integer of at most 1000 digits, got an integer of 3322 bits"),
    ("integer", -TOO_LONG, "v", "an integer of at most 1000 digits"),
    ("any", {b"k": [1, TOO_LONG]}, "v.k[1]", "an integer of at most 1000 digits"),
    ("optional[list[integer]]", [TOO_LONG], "v[0]", "an integer of at most 1000 digits"),
    ("number", 10**400, "v", "a number within a float's range, got an integer of 1329 bits"),
    ("optional[number]", -(10**400), "v", "a number within a float's range"),
    ("dict[string, number]", {b"k": 10**400}, "v.k", "a number within a float's range"),
    ("boolean", Atom("yes"), "v", "true or false, got :yes"),
    ("list[integer]", [1, b"2"], "v[1]", "an integer"),
    ("list", ImproperList((1,), 2), "v", "an improper list"),
    ("dict[string, integer]", {b"k": b"v"}, "v.k", "an integer"),
    ("dict[string, integer]", {1: 2}, "a key of v", "an atom or a binary"),
    ("map", {b"k": 1, Atom("k"): 2}, "v", "there twice"),
    ("any", [BitString(b"\x80", 1)], "v[0]", "got a bitstring"),
    ("any", {b"k": (Pid(Atom("n@h"), 1, 2, 3),)}, "v.k[0]", "got a pid"),
    ("any", nested(64), "v" + "[0]" * 64, "nested at most 64 deep"),
    ("any", nested(5000), "v" + "[0]" * 64, "nested at most 64 deep"),
]


@pytest.mark.parametrize(("kind", "term", "path", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_value_of_another_type_is_refused_with_its_place(kind: str, term: object, path: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read_value(Place(term, "v"), parse_type(kind, "t"))
    assert message in str(caught.value)
    assert caught.value.path == path


def test_an_enum_takes_its_values_only() -> None:
    kind = FieldType("enum", values=("yes", "no"))
    assert read_value(Place(Atom("yes"), "v"), kind) == "yes"
    with pytest.raises(ValidationError, match="expected one of no, yes"):
        read_value(Place(Atom("Yes"), "v"), kind)


ROWS = [
    ([{b"q": b"x", b"n": 1}, {b"q": b"x"}], "payload.data[1]", "expected the field `n`, got `q`"),
    ([{b"q": b"x", b"n": b"1"}], "payload.data[0].n", "an integer"),
    ([b"x"], "payload.data[0]", "expected a map"),
    ([{b"input": b"x", b"output": {}}], "payload.data[0].input", "expected a map"),
    ([{b"input": {b"q": b"x"}, b"output": {b"n": None}}], "payload.data[0].output.n", "an integer, got nil"),
]


@pytest.mark.parametrize(("rows", "path", "message"), ROWS)
def test_a_row_that_does_not_fit_is_refused_with_its_place(rows: list[object], path: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(*rows)
    assert message in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("term", [[], None, {}, b"", (Atom("dataset"), b"sha256:x")])
def test_examples_are_a_list_that_is_not_empty(term: object) -> None:
    with pytest.raises(ValidationError, match="a list of at least one example") as caught:
        Examples.at(Place(term, "payload.data"))
    assert caught.value.path == "payload.data"
