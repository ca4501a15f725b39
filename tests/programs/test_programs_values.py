"""Values and signatures between terms and DSPy."""

from __future__ import annotations

import inspect
import typing
import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.signatures import Field, FieldType, Signature, parse_signature
from erlbridge.errors import ValidationError
from erlbridge.programs.artifacts import capture
from erlbridge.programs.failures import Secrets
from erlbridge.programs.modules import Recipe
from erlbridge.programs.offline import offline_lm
from erlbridge.programs.predictions import outputs, plain
from erlbridge.programs.signatures import annotation, build_signature, signature_term, type_text
from erlbridge.wire.place import Place


class Color(Enum):
    RED = "red"


class Model(BaseModel):
    at: date
    tags: tuple[str, ...] = ()


@dataclass
class Point:
    x: float


VALUES = [
    ((1, 2), [1, 2]),
    ({3, 1}, [1, 3]),
    (datetime(2024, 5, 17, 8, 30, tzinfo=UTC), "2024-05-17T08:30:00+00:00"),
    (time(8, 30), "08:30:00"),
    (timedelta(minutes=1), 60.0),
    (Decimal("1.50"), "1.50"),
    (Color.RED, "red"),
    (Model(at=date(2024, 5, 17), tags=("a",)), {"at": "2024-05-17", "tags": ["a"]}),
    (Point(float("inf")), {"x": None}),
    (dspy.Prediction(answer="x"), {"answer": "x"}),
    ({1: {"k": float("nan")}}, {"1": {"k": None}}),
    ("\ud800x", "?x"),
    (b"\xff", b"\xff"),
    (True, True),
    (range(2), "range(0, 2)"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_a_value_of_python_becomes_a_plain_one(value: object, expected: object) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert binary_to_term(term_to_binary(found)) is not ...


def test_what_is_nested_without_end_becomes_text() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert term_to_binary(plain(loop))


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.floats() | st.text() | st.integers(), lambda inner: st.tuples(inner) | st.lists(inner))
)
def test_every_plain_value_can_be_encoded(value: object) -> None:
    assert term_to_binary(plain(value))


TYPES = [
    (FieldType(), str, "string"),
    (FieldType("any"), typing.Any, "any"),
    (FieldType("list"), list[typing.Any], "list[any]"),
    (FieldType("map", FieldType("list", FieldType("integer"))), dict[str, list[int]], "dict[string, list[integer]]"),
    (FieldType("optional", FieldType("boolean")), typing.Optional[bool], "optional[boolean]"),  # noqa: UP045
    (FieldType("enum", values=("a", "it's")), typing.Literal["a", "it's"], "enum"),
]


@pytest.mark.parametrize(("kind", "expected", "written"), TYPES)
def test_a_field_type_is_a_python_type_and_a_text(kind: FieldType, expected: object, written: str) -> None:
    assert annotation(kind) == expected
    assert type_text(kind) == written


SCALARS = st.sampled_from(["string", "integer", "number", "boolean", "any"]).map(FieldType)
ENUMS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3, unique=True).map(
    lambda values: FieldType("enum", values=tuple(values))
)
TYPED = st.recursive(
    SCALARS, lambda inner: st.builds(FieldType, st.sampled_from(["list", "map", "optional"]), inner), max_leaves=4
)
LISTED = st.recursive(ENUMS, lambda inner: st.builds(FieldType, st.just("list"), inner), max_leaves=2)


@settings(deadline=None)
@given(TYPED | LISTED, st.none() | st.text(max_size=30), st.none() | st.text(max_size=30))
def test_a_signature_that_is_written_reads_as_it_was(
    kind: FieldType, description: str | None, instructions: str | None
) -> None:
    signature = Signature((Field("q"),), (Field("a", kind, description),), instructions, "N")
    term = binary_to_term(term_to_binary(signature_term(signature)))
    assert parse_signature(Place(term, "signature")) == signature


def test_instructions_and_descriptions_reach_dspy() -> None:
    made = build_signature(
        Signature((Field("q", description="asked"),), (Field("a"),), "Do it.\nWell.", "not a class name")
    )
    assert made.instructions == "Do it.\nWell."  # type: ignore[attr-defined]
    assert made.input_fields["q"].json_schema_extra["desc"] == "asked"  # type: ignore[attr-defined]
    assert list(made.output_fields) == ["a"]  # type: ignore[attr-defined]


def known_names() -> list[str]:
    """Every name that DSPy's and pydantic's classes hold, and the parameters of what an input passes through."""
    classes = (BaseModel, dspy.Signature, type(dspy.Signature), dspy.Example, dspy.Prediction, dspy.Predict, dspy.LM)
    calls = (dspy.Predict.__init__, dspy.Example.__init__, dspy.LM.__init__, dspy.LM.__call__, dspy.Prediction.__init__)
    names = {name for found in classes for name in dir(found)}
    names |= {name for call in calls for name in inspect.signature(call).parameters}
    names |= {"instance", "fn", "args", "kwargs", "new_signature", "completions", "dspy_uuid", "dspy_split", "class"}
    return sorted(names)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_field_name_is_refused_or_works(side: str) -> None:
    worked = 0
    with warnings.catch_warnings(), dspy.context(lm=offline_lm()):
        warnings.simplefilter("ignore")  # pydantic warns about `json` and others, which work
        for name in known_names():
            fields = ([name.encode(), b"zq"], [b"za"]) if side == "input" else ([b"zq"], [name.encode(), b"za"])
            try:
                signature = parse_signature(Place({b"input_fields": fields[0], b"output_fields": fields[1]}, "s"))
            except ValidationError:
                continue
            made = Recipe(signature, "predict")
            program = made.build()
            asked = {field.name: "x y" for field in made.inputs}
            assert set(outputs(program(**asked), [field.name for field in made.outputs])) == {
                field.name for field in made.outputs
            }, name
            labelled = {**asked, **{field.name: "a" for field in made.outputs}}
            trainset = [dspy.Example(labelled).with_inputs(*asked) for _ in range(2)]
            compiled = dspy.BootstrapFewShot(
                metric=lambda example, prediction, trace=None: True, max_bootstrapped_demos=1, max_labeled_demos=2
            ).compile(program, trainset=trainset)
            demos = capture(made, compiled.dump_state()).demos
            assert [set(demo) for demo in demos] == [set(labelled)] * 2, name
            worked += 1
    assert worked > 80


def test_secrets_are_taken_out_of_an_exception_and_its_causes() -> None:
    secrets = Secrets({"X_TOKEN": "abcdef", "Y_KEY": "abcdefgh", "SHORT_KEY": "abc", "HOME": "/somewhere"})
    inner = ValueError("abcdefgh and abcdef", 3)
    outer = RuntimeError("abc /somewhere")
    outer.__cause__ = inner
    secrets.scrub(outer)
    assert inner.args == ("[redacted] and [redacted]", 3)
    assert outer.args == ("abc /somewhere",)
