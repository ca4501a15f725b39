"""Signatures as hosts write them: what they become, and which are refused, with their place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom
from erlbridge.core.signatures import Field, FieldType, Signature, parse_signature
from erlbridge.core.type_text import parse_type
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

STRING, ANY = FieldType("string"), FieldType("any")

TYPES = [
    ("string", STRING),
    ("str", STRING),
    ("int", FieldType("integer")),
    ("float", FieldType("number")),
    ("bool", FieldType("boolean")),
    ("array", FieldType("list")),
    ("object", FieldType("map")),
    (" list[ string ] ", FieldType("list", STRING)),
    ("dict[str, list[int]]", FieldType("map", FieldType("list", FieldType("integer")))),
    ("optional[any]", FieldType("optional", ANY)),
]

REFUSED_TYPES = [
    ("os.system", "unknown type `os.system`"),
    ("evil.T", "unknown type"),
    ("__import__('os')", "unknown type"),
    ("strin", "did you mean `string`?"),
    ("list[", "unknown type"),
    ("list[]", "unknown type"),
    ("list[string", "unknown type"),
    ("dict[int, string]", "expected `dict[string, TYPE]`"),
    ("dict[string]", "expected `dict[string, TYPE]`"),
    ("", "unknown type"),
    ("list[" * 17 + "string" + "]" * 17, "nested at most 16 deep"),
    ("list[" * 100_000, "unknown type"),
]


@pytest.mark.parametrize(("text", "kind"), TYPES)
def test_a_type_is_read(text: str, kind: FieldType) -> None:
    assert parse_type(text, "p") == kind


@pytest.mark.parametrize(("text", "message"), REFUSED_TYPES)
def test_a_type_that_is_not_in_the_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_type(text, "payload.signature.input_fields[0].type")
    assert message in str(caught.value)
    assert caught.value.path == "payload.signature.input_fields[0].type"
    assert len(str(caught.value)) < 500


def read(term: object) -> Signature:
    return parse_signature(Place(term, "payload.signature"))


def given_fields(*inputs: object, outputs: object = None, **more: object) -> dict[object, object]:
    term = {"input_fields": list(inputs), "output_fields": [b"answer"] if outputs is None else outputs, **more}
    return {Atom(key): value for key, value in term.items()}


def test_text_with_an_arrow_is_a_signature() -> None:
    assert read(b"question, context: list[string], w: dict[str, int] -> answer: float") == Signature(
        (
            Field("question"),
            Field("context", FieldType("list", STRING)),
            Field("w", FieldType("map", FieldType("integer"))),
        ),
        (Field("answer", FieldType("number")),),
    )


def test_a_map_is_a_signature_in_atoms_or_binaries() -> None:
    field = {Atom("name"): Atom("q"), b"type": b"integer", Atom("description"): "häufig".encode()}
    enum = {b"name": b"label", b"enum": [Atom("yes"), b"no"]}
    found = read(
        {b"name": Atom("Task"), Atom("instructions"): b"Do.", b"input_fields": [field], b"output_fields": [enum]}
    )
    assert found == Signature(
        (Field("q", FieldType("integer"), "häufig"),),
        (Field("label", FieldType("enum", values=("yes", "no"))),),
        "Do.",
        "Task",
    )


SCHEMAS = [
    ({b"type": b"integer"}, FieldType("integer")),
    ({b"type": b"array", b"items": {b"type": b"string"}}, FieldType("list", STRING)),
    ({b"type": b"array", b"items": {b"enum": [b"a"]}}, FieldType("list", FieldType("enum", values=("a",)))),
    ({b"enum": [b"a", b"b"]}, FieldType("enum", values=("a", "b"))),
    ({b"properties": {}}, FieldType("map")),
    ({}, ANY),
]


@pytest.mark.parametrize(("schema", "kind"), SCHEMAS)
def test_a_json_schema_gives_a_type(schema: dict[bytes, object], kind: FieldType) -> None:
    assert read(given_fields({b"name": b"q", b"schema": schema})).input_fields[0].type == kind


def nested_schema() -> object:
    schema: object = {b"type": b"string"}
    for _ in range(40):
        schema = {b"type": b"array", b"items": schema}
    return schema


HERE = "payload.signature"
FIRST = f"{HERE}.input_fields[0]"
REFUSALS = [
    (b"question answer", HERE, 'expected "inputs -> outputs" with one arrow'),
    (b"a -> b -> c", HERE, "with one arrow"),
    (b"a, -> b", HERE, "a name between the commas"),
    (b" -> b", HERE, "a name between the commas"),
    (b"a -> a", HERE, "field name `a` is there twice"),
    (b"a: os.system -> b", HERE, "unknown type `os.system`"),
    (b"a: evilmod.T -> y", HERE, "unknown type `evilmod.T`"),
    (b"a -> __class__", HERE, "expected a letter, then"),
    (b"1a -> b", HERE, "expected a letter, then"),
    (b"a b -> c", HERE, "expected a letter, then"),
    ("naïve -> b".encode(), HERE, "expected a letter, then"),
    (b"a\xff -> b", HERE, "UTF-8"),
    (b"x" * 100_000, HERE, "at most 65536 characters"),
    (b", ".join(b"f%d" % i for i in range(65)) + b" -> a", HERE, "at most 64 fields on each side"),
    *(
        (f"{name} -> b".encode(), HERE, "is taken by DSPy itself")
        for name in ("config", "lm", "demos", "base", "instance")
    ),
    *((f"a -> {name}".encode(), HERE, "is taken by DSPy itself") for name in ("model_dump", "completions", "self")),
    (Atom("triage"), HERE, "expected a map, got :triage"),
    (7, HERE, "expected a map, got 7"),
    (None, HERE, "expected a map, got nil"),
    ({}, HERE, "expected the key `input_fields`"),
    (given_fields(), f"{HERE}.input_fields", "at least one field"),
    (given_fields(b"q", outputs=[]), f"{HERE}.output_fields", "at least one field"),
    (given_fields(b"q", outputs={}), f"{HERE}.output_fields", "expected a list"),
    (given_fields(b"q", lm=b"x"), HERE, "unknown key `lm`"),
    (given_fields(b"q", instruction=b"x"), HERE, "did you mean `instructions`?"),
    (given_fields(b"q", instructions=7), f"{HERE}.instructions", "expected a binary, got 7"),
    (given_fields(*[b"f%d" % i for i in range(65)]), f"{HERE}.input_fields", "at most 64 fields"),
    (given_fields(7), FIRST, "an atom or a binary"),
    (given_fields({b"type": b"string"}), FIRST, "expected the key `name`"),
    (given_fields({b"name": b"q", b"typ": b"string"}), FIRST, "did you mean `type`?"),
    (given_fields({b"name": b"q", b"type": 1}), f"{FIRST}.type", "an atom or a binary"),
    (given_fields({b"name": b"q", b"type": b"enum"}), f"{FIRST}.type", "`enum` beside the type"),
    (given_fields({b"name": b"q", b"enum": []}), f"{FIRST}.enum", "a list of distinct values"),
    (given_fields({b"name": b"q", b"enum": [b"a", Atom("a")]}), f"{FIRST}.enum", "a list of distinct values"),
    (given_fields({b"name": b"q", b"enum": [1.5]}), f"{FIRST}.enum[0]", "an atom or a binary"),
    (given_fields({b"name": b"q", b"schema": []}), f"{FIRST}.schema", "expected a map"),
    (given_fields({b"name": b"q", b"schema": nested_schema()}), None, "nested at most 16 deep"),
    (given_fields({b"name": b"q", Atom("name"): b"q"}), FIRST, "there twice, as an atom and as a binary"),
]


@pytest.mark.parametrize(("term", "path", "message"), REFUSALS)
def test_a_signature_that_cannot_be_taken_is_refused_with_its_place(
    term: object, path: str | None, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read(term)
    assert message in str(caught.value)
    assert path is None or caught.value.path == path
    assert len(str(caught.value)) < 2000


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"[a-c:,\[\]> -]{0,30}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text)
    except ValidationError:
        return
    assert found.input_fields
    assert found.output_fields
