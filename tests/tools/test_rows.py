"""Rows of files: what is taken, and what each kind of file may hold that is no example."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from erlbridge.codec import term_to_binary
from erlbridge.tools.importing import json_lines, tables
from erlbridge.tools.importing.lines import lines
from erlbridge.tools.importing.rows import BadRow, Input, Row, Unreadable, ordered
from erlbridge.tools.importing.shape import Shape

JSON = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def of(data: bytes) -> Input:
    return Input(io.BufferedReader(io.BytesIO(data)), len(data))


def deep_ordered(value: object) -> object:
    match value:
        case dict():
            return ordered([(name, deep_ordered(item)) for name, item in value.items()])
        case list():
            return [deep_ordered(item) for item in value]
        case _:
            return value


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
@example({chr(number): number for number in range(200, 0, -1)})
def test_a_map_in_the_order_of_its_names_is_the_deterministic_term(value: dict[str, object]) -> None:
    assert term_to_binary(deep_ordered(value)) == term_to_binary(value, deterministic=True)


@pytest.mark.parametrize(
    ("line", "column", "problem"),
    [
        (b'{"a": }', 7, "no JSON: expected value, got '}'"),
        (b'{"a": 1', 8, "got the end of the line"),
        (b'{"a": 1} x', 10, "extra data, got 'x'"),
        (b'{"a": 1, "a": 2}', None, "the key 'a' stands twice"),
        (b'{"b": {"a": 1, "c": 0, "a": 2}}', None, "the key 'a' stands twice"),
        (b'{"a": -Infinity}', None, "got -Infinity, which JSON does not know"),
        (b'["a"]', None, "expected a JSON object, got an array"),
        (b'"text"', None, "expected a JSON object, got a text"),
        (b"null", None, "expected a JSON object, got null"),
        (b'{"a": "\x00"}', 8, "NUL byte"),
        ('{"ä": "'.encode() + b"\xe4" + b'"}', 8, "expected UTF-8, got the byte 0xe4"),
        (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", None, "nested at most 64 deep"),
        (b'{"a": ' + b"[" * 100_000, None, "nested at most 64 deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", None, "an integer of at most 1000 digits"),
    ],
)
def test_a_line_that_is_no_object_is_bad_and_the_next_one_is_read(
    line: bytes, column: int | None, problem: str
) -> None:
    first, bad, last = json_lines.read_rows(of(b'{"n": 1}\n' + line + b'\r\n\n{"n": 2}'))
    assert (first, last) == (Row(1, {"n": 1}), Row(4, {"n": 2}))
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.column) == (2, column)
    assert problem in bad.problem


def test_brackets_in_texts_do_not_nest() -> None:
    text = "[{" * 100 + '\\"' + "[" * 100
    (row,) = json_lines.read_rows(of(f'{{"a": "{text}"}}'.encode()))
    assert isinstance(row, Row)


def test_a_long_integer_keeps_its_digits() -> None:
    (row,) = json_lines.read_rows(of(b'{"a": 123456789012345678901234567890}'))
    assert row == Row(1, {"a": 123456789012345678901234567890})


def test_a_line_without_an_end_is_passed_over_in_pieces() -> None:
    found = list(lines(io.BufferedReader(io.BytesIO(b"x" * 1000 + b"\nnext\n" + b"y" * 64)), limit_bytes=64))
    assert found == [
        (1, BadRow(1, "a line of more than 64 bytes")),
        (2, "next\n"),
        (3, BadRow(3, "a line of more than 64 bytes")),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('{"a": 1}\n'.encode("utf-16"), "got UTF-16"),
        ('{"a": 1}\n'.encode("utf-32"), "got UTF-16 or UTF-32"),
        (b"\x1f\x8b\x08\x00", "got gzip (.gz)"),
        (b"PAR1\x15\x04", "got Parquet"),
        (b'[\n{"a": 1}\n]\n', "JSON over several lines"),
    ],
)
def test_a_file_of_another_kind_is_told_as_what_it_is(data: bytes, problem: str) -> None:
    with pytest.raises(Unreadable, match=problem.replace("(", r"\(").replace(")", r"\)")):
        list(json_lines.read_rows(of(data)))


def test_a_table_has_its_names_from_the_header_and_texts_as_values() -> None:
    data = b'\xef\xbb\xbfquestion , answer\r\n"1 + 1, or ""so""\nin two lines",2\r\n\r\nx,\r\n'
    assert list(tables.read_rows(of(data), ",")) == [
        Row(2, {"answer": "2", "question": '1 + 1, or "so"\nin two lines'}),
        Row(5, {"answer": "", "question": "x"}),
    ]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (b"1,2,3\n", "expected 2 cells, as the header has, got 3"),
        (b"1\n", "expected 2 cells, as the header has, got 1"),
        (b'"1"x,2\n', "no CSV"),
        (b"1,\xff\n", "expected UTF-8"),
        (b'"1,2\nx\xff,\n', "expected UTF-8"),
    ],
)
def test_a_row_that_does_not_fit_its_header_is_bad_and_the_next_one_is_read(rows: bytes, problem: str) -> None:
    bad, last = tables.read_rows(of(b"a,b\n" + rows + b"3,4\n"), ",")
    assert isinstance(bad, BadRow)
    assert problem in bad.problem
    assert isinstance(last, Row)
    assert last.values == {"a": "3", "b": "4"}


def test_a_quote_that_is_never_closed_is_bad_where_it_opens() -> None:
    assert list(tables.read_rows(of(b'a\n1\n"2\n3\n'), ",")) == [
        Row(2, {"a": "1"}),
        BadRow(3, "a quote is opened and never closed"),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"", "empty file"), (b"a,,b\n", "column 2 has no name"), (b"a,b,a\n", "two columns have the name 'a'")],
)
def test_a_table_without_names_is_not_read(data: bytes, problem: str) -> None:
    with pytest.raises(Unreadable, match=problem):
        list(tables.read_rows(of(data), ","))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", "12", 12),
        ("integer", 12.0, 12),
        ("integer", "1.5", None),
        ("integer", "1_000", None),
        ("integer", True, None),
        ("integer", "9" * 1001, None),
        ("number", "1.5", 1.5),
        ("number", "3", 3),
        ("number", "nan", None),
        ("number", "1e999", None),
        ("number", [1], None),
        ("boolean", "TRUE", True),
        ("boolean", "yes", None),
        ("boolean", 1, None),
        ("text", 5, "5"),
        ("text", True, "true"),
        ("text", {"a": [1]}, '{"a": [1]}'),
        ("json", '[1, {"b": 2, "a": 1}]', [1, {"a": 1, "b": 2}]),
        ("json", "[1", None),
        ("json", "[" * 70, None),
        ("json", [1], [1]),
    ],
)
def test_a_value_becomes_the_type_that_is_asked_for_or_is_refused(kind: str, value: object, expected: object) -> None:
    shape = Shape(types={"field": kind})
    if expected is None:
        with pytest.raises(ValueError, match="field 'field': expected"):
            shape.example({"field": value})
    else:
        assert shape.example({"field": value}) == term_to_binary({"field": expected})


@pytest.mark.parametrize(
    ("value", "problem"), [("\ud800", "surrogate"), (float("inf"), "no float"), ("x" * 2**24, "at most")]
)
def test_a_value_that_erlang_or_a_dataset_has_no_room_for_is_refused(value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Shape().example({"a": value})


def test_an_empty_cell_of_a_type_is_nil_and_an_empty_text_stays() -> None:
    shape = Shape(types={"n": "integer", "t": "text"}, empty_is_nil=True)
    assert shape.example({"n": "", "t": ""}) == term_to_binary({"n": None, "t": ""})


def test_names_that_become_one_field_are_refused() -> None:
    with pytest.raises(ValueError, match="the key 'question' stands twice"):
        Shape(names={"q": "question"}).example({"q": "a", "question": "b"})
