"""YAML text: plain data with lines, by the core schema; nothing constructed, nothing beyond its limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erlbridge.core.yaml_text import lines, read_yaml, write_yaml
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NAMES = st.text("abcdef_ -:#'\"é😀\n", min_size=1, max_size=8)
TEXTS = st.text(max_size=40) | st.text("a \n\t#:-'\"|>\r\x85", max_size=30)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
ODD_TEXTS = ("yes", "1e5", "0o17", "0x1F", "~", "null", "1_000", "12:30", ".inf", "<<", "=", "- a", "2024-01-01", "+1.")
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("", None),
        ("012", 12),
        ("0o17", 15),
        ("0x1f", 31),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_a_plain_scalar_is_what_the_core_schema_of_yaml_1_2_says(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}\n", "yaml").data()["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "no tags are taken"),
        ("a: !!str 1\n", 1, "no tags are taken"),
        ("!!map {a: 1}", 1, "no tags are taken"),
        ("a: 1\nb: 2\na: 3\n", 3, "`a` is there twice, first in line 1"),
        ("a: {b: 1, b: 2}", 1, "`b` is there twice"),
        ("? [a, b]\n: 1\n", 1, "expected text as a key"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", 3, "merge keys"),
        ("a: &a [*a]", 1, "names nothing before it"),
        ("a: *nowhere", 1, "nowhere"),
        ("a: 1\n---\nb: 2\n", 2, "expected one document"),
        ("a: .inf", 1, "stands for no Erlang term"),
        ("a: 1e999", 1, "beyond a float's range"),
        (f"a: {'9' * 2000}", 1, "an integer of 2000 digits"),
        (BOMB, None, "aliases counted as what they stand for"),
        ("[" * (MAX_DOCUMENT_DEPTH + 1), None, "nested deeper than"),
        ("- " * 5000, None, "nested deeper than"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40, 2, "nested deeper than"),
        ("a: [1, 2", None, "no YAML"),
        ("a: 'never closed", None, "no YAML"),
        ("a:\n\t- tab", None, "no YAML"),
        ("a: \x07", None, "no YAML"),
        ("# nothing but words", None, "expected a document"),
        ("a: " + "[0, " * 60_000, None, "nested deeper than"),
        ("[" + "0," * 200_000 + "]", None, "more than 100000 values"),
        ("{" + ",".join(f"k{i}: 0" for i in range(10_001)) + "}", None, "more than 10000 keys"),
        (f"{'k' * 1001}: 1", 1, "a key of 1001 characters"),
        ("x" * (MAX_DOCUMENT_BYTES + 1), None, f"limit {MAX_DOCUMENT_BYTES}"),
        ("a: \ud800", None, "expected Unicode text"),
    ],
)
def test_hostile_yaml_is_refused_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read_yaml(text, "payload.yaml")
    assert message in refused.value.message
    assert refused.value.path == "payload.yaml"
    if line is not None:
        assert refused.value.context["line"] == line


def test_an_alias_stands_for_a_copy_of_its_anchor() -> None:
    data = read_yaml("a: &a {x: [1]}\nb: *a\n", "yaml").data()
    assert data == {"a": {"x": [1]}, "b": {"x": [1]}}
    data["a"]["x"].append(2)
    assert data["b"] == {"x": [1]}


def test_every_path_has_its_line() -> None:
    found = lines(read_yaml("# c\nsteps:\n  - name: a\n\n    type: b\n  - {name: c}\n", "yaml"))
    assert found["steps"] == 2
    assert found["steps[0]"] == found["steps[0].name"] == 3
    assert found["steps[0].type"] == 5
    assert found["steps[1].name"] == 6


@given(st.text(max_size=200) | st.text("&*!|>-:?{}[],#'\" \nab<%@`\t", max_size=60))
@example("--- %\n")
def test_no_text_raises_anything_but_a_validation_error(text: str) -> None:
    try:
        node = read_yaml(text, "yaml")
    except ValidationError:
        return
    node.data()
    lines(node)


@given(DATA)
@example({name: name for name in ODD_TEXTS})
@example([*ODD_TEXTS, "a\n b\n", " a\nb", "\n", "a\n\n", "é\n😀", "x\u2028y\nz", math.pi, 10**30])
def test_what_is_written_is_read_back_as_it_was(data: object) -> None:
    assert read_yaml(write_yaml(data), "yaml").data() == data
