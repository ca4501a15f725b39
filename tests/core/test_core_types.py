"""Types, schemas and bounds as hosts write them: what they become, and how values are held to them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom
from erlbridge.core.bounds import check_patterns
from erlbridge.core.examples import read_value
from erlbridge.core.field_types import ANY, Bounds, FieldType, Property, Reading, fits, optional
from erlbridge.core.schemas import parse_schema
from erlbridge.core.signatures import Field, check_signature, parse_signature
from erlbridge.core.type_text import parse_type
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

STRING, INTEGER, NUMBER = FieldType("string"), FieldType("integer"), FieldType("number")

SPELLINGS = [
    ("String", STRING),
    ("List[str]", FieldType("list", STRING)),
    ("array[integer]", FieldType("list", INTEGER)),
    ("typing.Dict[str, float]", FieldType("map", NUMBER)),
    ("dict[string, any]", FieldType("map", ANY)),
    ("Optional[int]", optional(INTEGER)),
    ("int | None", optional(INTEGER)),
    ("None | list[int | None]", optional(FieldType("list", optional(INTEGER)))),
    ("Union[str, None]", optional(STRING)),
    ("Literal['a', \"it's\", 3]", FieldType("enum", values=("a", "it's", 3))),
    (r"Literal['it\'s, [x] -> y']", FieldType("enum", values=("it's, [x] -> y",))),
    ("typing.Any", ANY),
]


@pytest.mark.parametrize(("text", "kind"), SPELLINGS)
def test_a_type_is_read_as_python_and_json_schema_spell_it(text: str, kind: FieldType) -> None:
    assert parse_type(text, "t") == kind
    read = parse_signature(Place(f"a: {text}, b -> c: {text}".encode(), "s"))
    assert read.input_fields == (Field("a", kind), Field("b"))
    assert read.output_fields == (Field("c", kind),)


@pytest.mark.parametrize(
    "text",
    [
        "int | str", "Union[int, str]", "None", "Literal[]", "Literal[1.5]", "Literal[__import__('os')]",
        "Literal['a', 'a']", r"Literal['\x41']", "list[int]]", "[int]", "int int", "dict[str int]", "lambda: 0",
        "Literal[f'{x}']", "str()",
    ],
)  # fmt: skip
def test_what_is_no_single_known_type_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_type(text, "t", Reading())


def test_a_custom_name_is_a_map_and_the_host_is_told() -> None:
    read = parse_signature(Place(b"customer: CustomerRecord -> answer", "payload.signature"))
    assert read.input_fields[0].type == FieldType("map")
    assert read.warnings == ("payload.signature: the type `CustomerRecord` is not known here; it is read as a map",)
    with pytest.raises(ValidationError, match=r"unknown type `evil\.CustomerRecord`"):
        parse_signature(Place(b"customer: evil.CustomerRecord -> answer", "payload.signature"))


def schema(**entries: object) -> Place:
    return Place({Atom(key.replace("_", "$") if key == "_ref" else key): value for key, value in entries.items()}, "s")


ADDRESS = {
    b"type": b"object",
    b"properties": {b"street": {b"type": b"string", b"minLength": 1, b"description": b"with number"}, b"zip": {}},
    b"required": [b"street"],
    b"additionalProperties": False,
}
ADDRESS_TYPE = FieldType(
    "object",
    None,
    properties=(
        Property("street", FieldType("string", bounds=Bounds(min_length=1)), True, "with number"),
        Property("zip", ANY, False),
    ),
)
SCHEMAS = [
    (schema(type=b"array", items=ADDRESS), FieldType("list", ADDRESS_TYPE)),
    (schema(type=[b"string", b"null"], maxLength=3), optional(FieldType("string", bounds=Bounds(max_length=3)))),
    (schema(anyOf=[{b"type": b"integer"}, {b"type": b"null"}]), optional(INTEGER)),
    (schema(type=b"integer", nullable=True), optional(INTEGER)),
    (schema(enum=[b"a", 2, None]), optional(FieldType("enum", values=("a", 2)))),
    (schema(const=Atom("yes")), FieldType("enum", values=("yes",))),
    (schema(type=b"object"), FieldType("map")),
    (schema(type=b"object", additionalProperties={b"type": b"number"}), FieldType("map", NUMBER)),
    (schema(type=b"object", properties={}, additionalProperties=False), FieldType("object")),
    (schema(title=b"T", default=1, format=b"email", type=b"string"), STRING),
]


@pytest.mark.parametrize(("place", "kind"), SCHEMAS, ids=range(len(SCHEMAS)))
def test_a_json_schema_becomes_a_type(place: Place, kind: FieldType) -> None:
    assert parse_schema(place, Reading()) == kind


def deep(levels: int) -> object:
    term: object = {b"type": b"string"}
    for _ in range(levels):
        term = {b"type": b"object", b"properties": {b"x": term}}
    return term


WIDE = {b"type": b"object", b"properties": {b"p%d" % i: {} for i in range(1001)}}
HOSTILE = [
    (Place({b"$ref": b"#"}, "s"), "`$ref` is not followed"),
    (Place({b"type": b"object", b"properties": {b"next": {b"$ref": b"#"}}}, "s"), "s.properties.next: `$ref`"),
    (Place({b"$defs": {}}, "s"), "`$defs` is not followed"),
    (Place(deep(16), "s"), "nested at most 16 deep"),
    (Place(WIDE, "s"), "more than 1000 parts"),
    (schema(oneOf=[]), "unknown key `oneOf`"),
    (schema(anyOf=[{b"type": b"string"}, {b"type": b"integer"}]), "one schema, or one schema and null"),
    (schema(type=[b"string", b"integer"]), "one type, or one type and null"),
    (schema(type=b"string", minimum=1), "`minimum` is no bound of the type string"),
    (schema(type=b"string", minLength=3, maxLength=2), "the least, 3, is above the most, 2"),
    (schema(type=b"string", minLength=-1), "at least 0"),
    (schema(type=b"string", pattern=b"a" * 501), "at most 500 characters"),
    (schema(type=b"object", properties={b"a": {}}, required=[b"b"]), "`b` is none"),
    (schema(type=b"object", properties={b"a" * 129: {}}), "a name of 1 to 128 characters"),
    (schema(type=b"os.system"), "unknown type"),
]


@pytest.mark.parametrize(("place", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_schema_that_cannot_be_held_to_is_refused(place: Place, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_schema(place, Reading())
    assert message in str(caught.value)


def test_the_types_of_one_signature_are_bounded_together() -> None:
    fields = [{b"name": b"f%d" % i, b"schema": {b"type": b"string", b"pattern": b"x"}} for i in range(33)]
    with pytest.raises(ValidationError, match=r"input_fields\[32\]\.schema\.pattern: expected at most 32 patterns"):
        parse_signature(Place({b"input_fields": fields, b"output_fields": [b"a"]}, "payload.signature"))


VALUES = [
    ({b"street": b"High 1"}, {"street": "High 1"}),
    ({b"street": b"High 1", b"zip": None}, {"street": "High 1", "zip": None}),
    ({Atom("street"): Atom("High"), b"zip": [1, (2,)]}, {"street": "High", "zip": [1, [2]]}),
]


@pytest.mark.parametrize(("term", "value"), VALUES)
def test_an_object_is_read_as_its_schema_says(term: object, value: object) -> None:
    assert read_value(Place(term, "v"), ADDRESS_TYPE) == value


def test_nil_stands_for_an_entry_that_is_left_out() -> None:
    kind = FieldType("object", ANY, properties=(Property("n", INTEGER, False), Property("m", optional(INTEGER))))
    assert read_value(Place({b"n": None, b"m": None, b"more": 1}, "v"), kind) == {"m": None, "more": 1}


WRONG = [
    ({}, ADDRESS_TYPE, "v", "expected the key `street`, got no key"),
    ({b"street": b""}, ADDRESS_TYPE, "v.street", "text of at least 1 characters, got 0"),
    ({b"street": b"x", b"lm": b"evil"}, ADDRESS_TYPE, "v", "expected only `street`, `zip`, got `lm`"),
    ([[b"x"]], FieldType("list", FieldType("list", INTEGER)), "v[0][0]", "an integer"),
    (11, FieldType("integer", bounds=Bounds(maximum=10)), "v", "expected at most 10, got 11"),
    (0.1, FieldType("number", bounds=Bounds(minimum=0.5)), "v", "expected at least 0.5, got 0.1"),
    ([1, 2, 3], FieldType("list", INTEGER, bounds=Bounds(max_items=2)), "v", "at most 2 elements, got 3"),
    (b"B1", optional(FieldType("string", bounds=Bounds(pattern="^[a-z]+$"))), "v", "matches the pattern `^[a-z]+$`"),
    (3, FieldType("enum", values=(1, "a")), "v", "one of 1, a, got 3"),
    (True, FieldType("enum", values=(1, "a")), "v", "an atom or a binary"),
]


@pytest.mark.parametrize(("term", "kind", "path", "message"), WRONG, ids=range(len(WRONG)))
def test_a_value_out_of_bounds_is_refused_with_its_place(
    term: object, kind: FieldType, path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        read_value(Place(term, "v"), kind)
    assert message in str(caught.value)
    assert caught.value.path == path


def constrained(**entry: object) -> FieldType:
    field = {Atom("name"): b"q", **{Atom(key): value for key, value in entry.items()}}
    return parse_signature(Place({b"input_fields": [field], b"output_fields": [b"a"]}, "s")).input_fields[0].type


def test_validation_and_constraints_bound_a_field() -> None:
    assert constrained(type=b"string", validation={b"minLength": 1}, constraints={b"length": {b"max": 9}}) == FieldType(
        "string", bounds=Bounds(min_length=1, max_length=9)
    )
    assert constrained(type=b"list[int]", constraints={b"length": {b"min": 1}}).bounds == Bounds(min_items=1)
    assert constrained(type=b"enum", constraints={b"enum": [b"x"]}) == FieldType("enum", values=("x",))
    assert constrained(type=b"integer", required=False, validation={b"minimum": 0}) == optional(
        FieldType("integer", bounds=Bounds(minimum=0))
    )
    with pytest.raises(ValidationError, match=r"s\.input_fields\[0\]\.validation: unknown key `minlength`"):
        constrained(validation={b"minlength": 1})


def test_a_pattern_takes_no_time_out_of_proportion() -> None:
    kind = FieldType("string", bounds=Bounds(pattern="^(a+)+$"))
    started = time.monotonic()
    with pytest.raises(ValidationError):
        read_value(Place(b"a" * 100_000 + b"b", "v"), kind)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)", "((a{100}){100}){100}"])
def test_a_pattern_that_cannot_be_used_is_refused_in_the_worker_with_its_field(pattern: str) -> None:
    kind = FieldType("list", FieldType("string", bounds=Bounds(pattern=pattern)))
    with pytest.raises(ValidationError, match="patterns are those of Rust's regex") as caught:
        check_patterns(kind, "payload.signature.q")
    assert caught.value.path == "payload.signature.q"
    check_signature(parse_signature(Place(b"q -> a", "s")), "s")


FIELD_NAMES = [
    ([b"q", {b"name": b"config"}], "payload.signature.input_fields[1].name", "taken by DSPy"),
    ([b"q", b"demos"], "payload.signature.input_fields[1]", "taken by DSPy"),
    ([b"q", {b"name": b"q"}], "payload.signature.input_fields[1].name", "first at payload.signature.input_fields[0]"),
    ([b"answer"], "payload.signature.output_fields[0]", "first at payload.signature.input_fields[0]"),
    ([b"__class__"], "payload.signature.input_fields[0]", "expected a letter"),
]


@pytest.mark.parametrize(("inputs", "path", "message"), FIELD_NAMES, ids=range(len(FIELD_NAMES)))
def test_a_name_that_cannot_be_a_fields_is_refused_where_it_stands(
    inputs: list[object], path: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_signature(Place({b"input_fields": inputs, b"output_fields": [b"answer"]}, "payload.signature"))
    assert caught.value.path == path
    assert message in str(caught.value)


def entry(name: str, kind: FieldType, *, required: bool = True) -> FieldType:
    return FieldType("object", None, properties=(Property(name, kind, required),))


FITTING = [
    (INTEGER, NUMBER, True),
    (NUMBER, INTEGER, False),
    (STRING, ANY, True),
    (optional(STRING), STRING, False),
    (STRING, optional(STRING), True),
    (FieldType("enum", values=("a",)), FieldType("enum", values=("a", "b")), True),
    (FieldType("enum", values=("a", 1)), STRING, False),
    (STRING, FieldType("enum", values=("a",)), False),
    (FieldType("list", INTEGER), FieldType("list", NUMBER), True),
    (FieldType("list", STRING), FieldType("list", NUMBER), False),
    (entry("a", INTEGER), entry("a", NUMBER), True),
    (entry("a", INTEGER, required=False), entry("a", INTEGER), False),
    (entry("a", INTEGER), entry("b", INTEGER), False),
    (entry("a", INTEGER), FieldType("map", NUMBER), True),
    (entry("a", STRING), FieldType("map", NUMBER), False),
]


@pytest.mark.parametrize(("found", "wanted", "expected"), FITTING, ids=range(len(FITTING)))
def test_a_type_fits_where_all_its_values_do(found: FieldType, wanted: FieldType, expected: bool) -> None:
    assert fits(found, wanted) is expected


KEYS = st.sampled_from(["type", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf",
                        "minLength", "pattern", "minimum", "$ref", "__class__", "nullable", "description"])  # fmt: skip
TERMS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([b"string", b"object", b"array", b"null", b"x("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS.map(str.encode), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(KEYS.map(str.encode), TERMS, max_size=5))
def test_any_schema_is_read_or_refused(term: dict[bytes, object]) -> None:
    try:
        found = parse_schema(Place(term, "s"), Reading())
    except ValidationError:
        return
    assert isinstance(found, FieldType)


def test_the_node_reads_a_pattern_without_loading_its_engine() -> None:
    code = (
        "import sys; from erlbridge.core.jobs import parse_job\n"
        "field = {b'name': b'q', b'validation': {b'pattern': b'^(x+)+$'}}\n"
        "signature = {b'input_fields': [field], b'output_fields': [b'a']}\n"
        "parse_job('predict', {b'signature': signature, b'input': {}, b'config': {b'lm': b'offline'}})\n"
        "print([name for name in ('pydantic', 'pydantic_core', 'dspy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
