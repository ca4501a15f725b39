"""Python's own objects as terms: dataclasses, pydantic models, msgspec structs, enums, and NumPy's arrays both ways."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, IntEnum, StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr
from test_codec_properties import SETTINGS, same, terms

from erlbridge.codec import Atom, EncodeError, binary_to_term, term_to_binary
from erlbridge.codec.structs import to_python, to_term
from erlbridge.errors import MissingPackage


class Colour(Enum):
    RED = "red"
    MIXED = (1, 2.5)


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


@dataclass
class Point:
    x: int
    y: float = field(repr=False)


@dataclass(frozen=True, slots=True)
class Line:
    ends: list[Point]
    day: date
    colour: Colour


class Ticket(BaseModel):
    model_config = ConfigDict(extra="allow")
    title: str = Field(alias="Title")
    points: list[Point]
    secret: str = Field(default="hidden", exclude=True)


class Names(RootModel[list[str]]):
    pass


def written(value: object) -> object:
    return binary_to_term(term_to_binary(value, default=to_term))


def atoms(**fields: object) -> dict[Atom, object]:
    return {Atom(name): value for name, value in fields.items()}


def array_term(kind: str, bits: int, shape: tuple[object, ...], data: object) -> tuple[object, ...]:
    return Atom("ndarray"), (Atom(kind), bits), shape, data


def test_dataclasses_are_maps_of_their_fields_all_the_way_down() -> None:
    line = Line([Point(1, 2.0)], date(2024, 2, 29), Colour.MIXED)
    term = written([line])
    assert isinstance(term, list)
    assert term[0][Atom("ends")] == [atoms(x=1, y=2.0)]
    assert to_python(term[0][Atom("day")]) == date(2024, 2, 29)
    assert term[0][Atom("colour")] == (1, 2.5)


def test_enums_are_their_values() -> None:
    assert written([Colour.RED, Level.HIGH, Word.YES]) == [b"red", 3, b"yes"]


def test_models_of_pydantic_are_maps_of_their_fields_but_for_the_excluded_ones() -> None:
    ticket = Ticket(Title="t", points=[Point(1, 2.0)], more=7)  # type: ignore[call-arg]
    assert written(ticket) == {Atom("title"): b"t", Atom("points"): [atoms(x=1, y=2.0)], b"more": 7}
    assert written(Names(["a", "b"])) == [b"a", b"b"]
    with pytest.raises(EncodeError, match="no Erlang term stands for SecretStr"):
        term_to_binary(SecretStr("s"), default=to_term)


def test_structs_of_msgspec_are_maps_of_their_fields_but_for_the_unset_ones() -> None:
    msgspec = pytest.importorskip("msgspec")
    struct = msgspec.defstruct("Example", [("a", int), ("b", Any, msgspec.UNSET), ("c", Any, None)])
    assert written(struct(1, c=struct(2, b=3))) == {
        Atom("a"): 1,
        Atom("c"): {Atom("a"): 2, Atom("b"): 3, Atom("c"): None},
    }


@pytest.mark.parametrize(
    "value", [Point, Colour, Ticket, object(), len, np, 1j], ids=lambda value: type(value).__name__
)
def test_what_is_none_of_these_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(EncodeError, match=f"no Erlang term stands for {type(value).__name__}"):
        term_to_binary(value, default=to_term)


def test_the_hook_can_be_put_behind_another_one() -> None:
    def mine(value: object) -> object:
        return [value.real, value.imag] if isinstance(value, complex) else to_term(value)

    assert binary_to_term(term_to_binary({b"k": (1j, Colour.RED)}, default=mine)) == {b"k": ([0.0, 1.0], b"red")}


# -- arrays ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "bits"),
    [("f2", "f", 16), ("f4", "f", 32), ("f8", "f", 64), ("c8", "c", 64), ("c16", "c", 128), ("i1", "s", 8),
     ("i2", "s", 16), ("i4", "s", 32), ("i8", "s", 64), ("u1", "u", 8), ("u2", "u", 16), ("u4", "u", 32),
     ("u8", "u", 64)],
)  # fmt: skip
def test_every_type_of_nx_is_that_of_numpy_both_ways(code: str, kind: str, bits: int) -> None:
    array = np.arange(6).reshape(2, 3).astype(code)
    term = written(array)
    assert term == array_term(kind, bits, (2, 3), array.astype(f"<{code}").tobytes())
    back = to_python(term, arrays=True)
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@pytest.mark.parametrize(
    "array",
    [np.array(1.5), np.zeros((0, 3)), np.zeros((2, 0, 4), "i2"), np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
     np.arange(10)[::-2], np.arange(5, dtype=">i4"), np.asfortranarray(np.ones((2, 3), "f4")),
     np.array([-0.0, np.nan])],
    ids=lambda array: f"{array.shape} {array.strides} {array.dtype.str}",
)  # fmt: skip
def test_arrays_of_any_layout_come_back_equal(array: np.ndarray[Any, Any]) -> None:
    back = to_python(written(array), arrays=True)
    assert isinstance(back, np.ndarray)
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.astype(back.dtype).tobytes() == array.astype(back.dtype).tobytes()


def test_a_contiguous_array_is_handed_to_the_encoder_as_it_lies_in_memory() -> None:
    array = np.arange(12.0).reshape(3, 4)
    data = to_term(array)[3]  # type: ignore[index]
    assert isinstance(data, memoryview)
    assert np.shares_memory(np.frombuffer(data, np.uint8), array)
    assert not np.shares_memory(np.frombuffer(to_term(array.T)[3], np.uint8), array)  # type: ignore[index]


def test_an_array_read_lies_in_the_binary_and_is_read_only() -> None:
    data = np.arange(4.0).tobytes()
    array = to_python([array_term("f", 64, (2, 2), data)], arrays=True)[0]  # type: ignore[index]
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_arrays_stay_terms_unless_asked_for() -> None:
    term = written(np.arange(3))
    assert to_python(term) == term
    assert isinstance(to_python(term, arrays=True), np.ndarray)


def test_an_array_read_as_text_is_the_same_array() -> None:
    frame = term_to_binary(np.frombuffer(b"text", np.uint8), default=to_term)
    array = to_python(binary_to_term(frame, text=True), arrays=True)
    assert isinstance(array, np.ndarray)
    assert array.tobytes() == b"text"


@pytest.mark.parametrize(
    "term",
    [
        array_term("f", 64, (2,), b"\0" * 15),
        array_term("f", 64, (-1,), b""),
        array_term("f", 64, (1.0,), b"\0" * 8),
        array_term("f", 64, (True,), b"\0" * 8),
        array_term("f", 64, [1], b"\0" * 8),
        array_term("f", 65, (1,), b"\0" * 8),
        array_term("f", 128, (1,), b"\0" * 16),
        array_term("bf", 16, (1,), b"\0" * 2),
        array_term("f", 64, (0, 2**62, 2**62), b""),
        array_term("f", 64, (0, 2**80), b""),
        array_term("f", 64, (1,) * 65, b"\0" * 8),
        array_term("u", 8, (1,), [0]),
        (Atom("ndarray"), Atom("f"), (1,), b"\0"),
        (Atom("ndarray"), ([1], 8), (1,), b"\0"),
        (Atom("ndarray"), (Atom("u"), 8.0), (1,), b"\0"),
        (b"ndarray", (Atom("u"), 8), (1,), b"\0"),
        (Atom("ndarray"), (Atom("u"), 8), (1,)),
    ],
    ids=lambda term: repr(term)[:70],
)
def test_what_only_looks_like_an_array_stays_a_term(term: tuple[object, ...]) -> None:
    assert same(to_python(term, arrays=True), term)


@SETTINGS
@given(
    st.tuples(
        st.just(Atom("ndarray")), st.tuples(st.sampled_from([Atom("f"), Atom("u"), Atom("bf")]), terms), terms, terms
    )
)
def test_anything_named_an_array_never_raises(term: tuple[object, ...]) -> None:
    back = to_python(term, arrays=True)
    assert isinstance(back, np.ndarray) or same(back, term)


def test_scalars_of_numpy_are_numbers() -> None:
    scalars = [np.float32(0.5), np.float64(0.25), np.int64(-3), np.uint8(7), np.bool_(True), np.float16(2)]
    assert same(written(scalars), [0.5, 0.25, -3, 7, True, 2.0])


def test_truth_values_are_bytes_as_nx_has_them() -> None:
    assert written(np.array([True, False])) == array_term("u", 8, (2,), b"\1\0")


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([None]), np.array(["2024-01-01"], "M8[D]"), np.zeros(1, "i4,f4"), np.zeros(1, "g"),
     np.ma.masked_array([1, 2], [True, False])],
    ids=lambda array: str(array.dtype),
)  # fmt: skip
def test_arrays_that_nx_has_no_type_for_are_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(EncodeError, match=r"has no type in Nx|has no term"):
        term_to_binary(array, default=to_term)


def test_none_of_the_packages_is_imported_before_there_is_a_value_of_it() -> None:
    code = (
        "import sys\n"
        "from dataclasses import dataclass\n"
        "from erlbridge.codec import Atom, term_to_binary\n"
        "from erlbridge.codec.structs import to_python, to_term\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "term_to_binary([Point(1), {2}], default=to_term)\n"
        "term = (Atom('ndarray'), (Atom('u'), 8), (1,), b'a')\n"
        "assert to_python(term) == term and to_python([1], arrays=True) == [1]\n"
        "print([name for name in ('numpy', 'pydantic', 'msgspec') if name in sys.modules])\n"
        "to_python(term, arrays=True)\n"
        "print('numpy' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "True"]


def test_where_numpy_is_missing_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingPackage, match="pip install numpy"):
        to_python(array_term("u", 8, (1,), b"a"), arrays=True)
    assert written({1}) == {Atom("__struct__"): Atom("Elixir.MapSet"), Atom("map"): {1: []}, Atom("version"): 2}
