"""Values and signatures between terms and DSPy."""

from __future__ import annotations

import html
import inspect
import json
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from urllib.parse import quote, quote_plus

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.field_types import ANY, Bounds, Property, optional
from erlbridge.core.secrecy import named_secrets
from erlbridge.core.signatures import Field, FieldType, Signature, parse_signature
from erlbridge.core.type_text import type_text
from erlbridge.errors import ValidationError
from erlbridge.programs.artifacts import capture
from erlbridge.programs.failures import Secrets
from erlbridge.programs.modules import Recipe
from erlbridge.programs.offline import offline_lm
from erlbridge.programs.predictions import outputs, plain
from erlbridge.programs.signatures import annotation, build_signature, signature_term
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
    ("\ud800x", "\ufffdx"),
    ("\ud83d\ude00", "\U0001f600"),
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
    (FieldType("list"), list[typing.Any], "list"),
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
BOUNDED = st.sampled_from(
    [
        FieldType("string", bounds=Bounds(min_length=1, max_length=80, pattern="^[a-z]+$")),
        FieldType("integer", bounds=Bounds(minimum=-1, maximum=10**20)),
        FieldType("number", bounds=Bounds(minimum=0.5)),
        FieldType("list", FieldType("list"), bounds=Bounds(min_items=1, max_items=2)),
        FieldType("enum", values=(1, "one")),
        FieldType("map"),
    ]
)
NAMES = st.sampled_from(["a", "model_config", "__class__", "$ref", "zip code", "type", "häufig", "copy"])


def objects(inner: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    entries = st.builds(Property, NAMES, inner, st.booleans(), st.none() | st.just("said"))
    listed = st.lists(entries, min_size=1, max_size=3, unique_by=lambda entry: entry.name)
    return st.builds(
        lambda found, rest: FieldType("object", rest, properties=tuple(found)), listed, st.none() | inner | st.just(ANY)
    )


def larger(inner: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    listed = st.builds(FieldType, st.sampled_from(["list", "map"]), inner)
    return listed | inner.map(optional) | objects(inner)


TYPED = st.recursive(SCALARS | ENUMS | BOUNDED, larger, max_leaves=6)


@settings(deadline=None)
@given(TYPED, st.none() | st.text(max_size=30), st.none() | st.text(max_size=30))
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
            made = Recipe(signature)
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


@pytest.mark.parametrize("text", ["question -> answer", "a, b: list[int], c -> d, e: float"])
def test_a_signature_without_instructions_has_those_that_dspy_gives_it(text: str) -> None:
    ours = build_signature(parse_signature(Place(text, "signature")))
    assert ours.instructions == dspy.Signature(text).instructions


@pytest.mark.parametrize(
    "name",
    [
        *("MY_KEY", "my_token", "Secret", "DB_PASSWORD", "google_credentials", "CREDENTIAL"),
        *("CREDENT\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}ALS", "credent\N{LATIN SMALL LETTER DOTLESS I}al"),
        "MY_\N{KELVIN SIGN}EY",
    ],
)
def test_variables_that_are_named_after_secrets_hold_some(name: str) -> None:
    assert named_secrets({name: " abcdef\n", f"{name}_PATH": "/abcdef"}) == {name: "abcdef"}


def test_secrets_are_taken_out_of_an_exception_and_its_causes() -> None:
    secrets = Secrets({"X_TOKEN": "abcdef", "Y_KEY": "abcdefgh", "SHORT_KEY": "abc", "HOME": "/somewhere"})
    inner = ValueError("abcdefgh and abcdef", 3)
    outer = RuntimeError("abc /somewhere")
    outer.__cause__ = inner
    secrets.scrub(outer)
    assert inner.args == ("[redacted] and [redacted]", 3)
    assert outer.args == ("abc /somewhere",)


def inner(written: str) -> str:
    return written[1:-1]


WRITERS: list[Callable[[str], str]] = [
    str,
    lambda key: inner(repr(key)),
    lambda key: inner(ascii(key)),
    lambda key: repr(key.encode())[2:-1],
    lambda key: repr(key + "\"'")[1:-4],  # how a text with both quotes writes it
    lambda key: inner(json.dumps(key)),
    lambda key: inner(json.dumps(key, ensure_ascii=False)),
    lambda key: inner(json.dumps(key)).replace("/", "\\/"),
    lambda key: inner(json.dumps(inner(json.dumps(key)))),
    lambda key: inner(repr(inner(json.dumps(key, ensure_ascii=False)))),
    quote,
    lambda key: quote(key, safe=""),
    lambda key: quote(key, safe="").lower() if key.islower() else quote(key),
    quote_plus,
    html.escape,
    lambda key: "".join(f"&#{ord(character)};" for character in key),
    lambda key: "".join(f"&#x{ord(character):04X};" for character in key),
    lambda key: key.encode("ascii", "xmlcharrefreplace").decode() if "&" not in key else html.escape(key),
]


@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None)
@given(
    st.text(st.sampled_from("aZ09-_ /+=&%<\"'\\\n\tä\x80\u2028\U0001f600\x7f"), min_size=6, max_size=12)
    | st.text(min_size=6, max_size=12)
)
def test_a_secret_is_taken_out_however_it_is_written(write: Callable[[str], str], key: str) -> None:
    key = f"{key.strip()}-#-##"  # `#` stands in no escape
    secrets = Secrets({"MY_KEY": f" {key}\n"})
    assert secrets.redact(f"Bearer {write(key)} !") == "Bearer [redacted] !"
    assert secrets.show_in(write(f"Bearer {key}"))
    assert not secrets.show_in("Bearer of good news")


def test_a_key_that_a_request_names_is_a_secret_from_four_characters_on() -> None:
    environment = {"A_KEY": "wxyz", "B_KEY": "abc", "PLAIN": "1234", "C_KEY": "56789"}
    assert Secrets(environment, ["A_KEY", "B_KEY", "PLAIN", "NOT_THERE"]).redact("wxyz abc 1234 56789") == (
        "[redacted] abc [redacted] 56789"
    )


def test_the_notes_of_an_exception_hold_no_secret() -> None:
    error = ValueError("x")
    error.add_note("sent with abcdef")
    Secrets({"X_TOKEN": "abcdef"}).scrub(error)
    assert error.__notes__ == ["sent with [redacted]"]
