"""What people type and see: both notations read and written, elided, and refused with a place."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom, BitString, EncodeError, Export, ImproperList, Pid, TermMap, term_to_binary
from erlbridge.codec.annotate import annotate
from erlbridge.codec.notation import NotationError, from_elixir, from_erlang, to_elixir, to_erlang

OK = Atom("ok")


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("1_000", 1000),
        ("0xFF", 255),
        ("0b1_01", 5),
        ("-0o17", -15),
        ("?a", 97),
        (r"?\n", 10),
        ("1.5e-3", 0.0015),
        (":ok # a comment", OK),
        (':"a b"', Atom("a b")),
        (":<<>>", Atom("<<>>")),
        ("nil", None),
        ("Foo.Bar", Atom("Elixir.Foo.Bar")),
        (r'"a\tb\x41\u00e9\u{1F600}\#{c}"', "a\tbAé😀#{c}".encode()),
        (r'"\xff"', b"\xff"),
        ("'abc'", [97, 98, 99]),
        ('~c"a\\"b"', [97, 34, 98]),
        ("~S(a\\n)", b"a\\n"),
        ('"""\n  two\n    lines\n  """', b"two\n  lines\n"),
        ("[a: 1, b: [c: 2]]", [(Atom("a"), 1), (Atom("b"), [(Atom("c"), 2)])]),
        ('[1, "x y": 2]', [1, (Atom("x y"), 2)]),
        ("[1, 2 | 3]", ImproperList([1, 2], 3)),
        ("[1 | [2]]", [1, 2]),
        ("{:ok, a: 1}", (OK, [(Atom("a"), 1)])),
        ("%{1 => 2, ok: 3}", {1: 2, OK: 3}),
        ("%{1 => :a, 1.0 => :b}", TermMap([(1, Atom("a")), (1.0, Atom("b"))])),
        ("%Foo{a: 1}", {Atom("__struct__"): Atom("Elixir.Foo"), Atom("a"): 1}),
        ('<<1, 2::16, "ab">>', b"\x01\x00\x02ab"),
        ("<<5::size(3)>>", BitString(b"\xa0", 3)),
        ("&Enum.map/2", Export(Atom("Elixir.Enum"), Atom("map"), 2)),
        ("#PID<0.7.8>", Pid(Atom("nonode@nohost"), 7, 8, 0)),
        ("#PID<a@b/5.7.8>", Pid(Atom("a@b"), 7, 8, 5)),
    ],
)
def test_elixir_is_read(text: str, term: object) -> None:
    assert from_elixir(text) == term
    assert from_elixir(f"[{text}\n]") == [term]


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("16#ff", 255),
        ("$a", 97),
        ("-$\\n", -10),
        ("1_000.", 1000),
        ("ok % a comment", OK),
        ("'a b'", Atom("a b")),
        ("true", True),
        ('"a" "b"', [97, 98]),
        (r'"\x{1F600}\101\^A"', [0x1F600, 65, 1]),
        ('<<"é"/utf8, 1:16>>', "é".encode() + b"\0\1"),
        ('<<"é">>', b"\xe9"),
        ("<<5:3>>", BitString(b"\xa0", 3)),
        ("#{ok => [1|2]}", {OK: ImproperList([1], 2)}),
        ("fun lists:map/2", Export(Atom("lists"), Atom("map"), 2)),
        ("<0.7.8>", Pid(Atom("nonode@nohost"), 7, 8, 0)),
    ],
)
def test_erlang_is_read(text: str, term: object) -> None:
    assert from_erlang(text) == term


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "expected a term, got the end of the text"),
        ("{:ok,\n  1", 2, 4, "expected `,` or `}` behind a value, got the end of the text"),
        ("[1, 2", 1, 6, "or `]`"),
        ("{:ok} x", 1, 7, "expected the end of the term, got `x`"),
        ("System.halt()", 1, 1, "got a call; nothing is evaluated"),
        ("foo", 1, 1, "nothing is evaluated, and an atom is `:foo`"),
        ('"a#{b}"', 1, 3, "nothing is evaluated"),
        ('\n "abc', 2, 2, 'no closing `"`'),
        ("%{1, 2}", 1, 4, "expected `=>` behind a key, got `,`"),
        ("%{a: 1, a: 2}", 1, 1, "map with duplicate keys, 1 of 2"),
        ("[1, ...]", 1, 5, "`...`, which stands for what was left out"),
        ("1.0e999", 1, 1, "beyond the largest"),
        (":" + "a" * 256, 1, 1, "atom of 256 characters, limit 255"),
        ("#Function<0.1/1 in M>", 1, 1, "a function cannot be read back"),
        ('"\\u{D800}"', 1, 2, "U+D800 is no character"),
        ("12ab", 1, 3, "expected the end of the number"),
        ("~D[2024-99-01]", 1, 1, "no date or time"),
    ],
)
def test_what_is_no_elixir_is_refused_with_its_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(NotationError) as caught:
        from_elixir(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "text", ["Var", "if", "{a", "37#1", "2#2", '<<"日">>', "fun m:f", "#{a => 1, a => 2}", "'a", "[|1]"]
)
def test_what_is_no_erlang_is_refused(text: str) -> None:
    with pytest.raises(NotationError):
        from_erlang(text)


def test_either_notation_has_its_own_rule_for_interpolation_whichever_was_read_first() -> None:
    for _ in range(2):
        for text in ('"#{1}"', "'#{1}'", ':"#{1}"'):
            with pytest.raises(NotationError, match="nothing is evaluated"):
                from_elixir(text)
        assert from_erlang('<<"#{1}">>') == b"#{1}"
        assert from_erlang("'#{1}'") == Atom("#{1}")


def test_nesting_is_bounded_and_needs_no_recursion() -> None:
    deep = "[" * 9_999 + "]" * 9_999
    assert to_elixir(from_elixir(deep)) == deep
    assert to_erlang(from_erlang(deep)) == deep
    with pytest.raises(NotationError, match="nested deeper than 10000"):
        from_elixir("{" * 20_000)


def test_integers_of_any_size_are_shown_and_read_at_once() -> None:
    start = time.perf_counter()
    for bits in (20_000, 500_000, 20_000_000):
        value = -(1 << bits) - 12345
        assert from_elixir(to_elixir(value)) == value
        assert from_erlang(to_erlang(value)) == value
        assert len(to_elixir(value, limit=100)) < 200
    assert time.perf_counter() - start < 5
    with pytest.raises(NotationError, match="write it in hexadecimal"):
        from_elixir("1" * 2_000_000)


def test_a_limit_leaves_out_what_is_behind_it_and_closes_all_brackets() -> None:
    assert to_elixir([1, (2, 3), {OK: list(range(200, 300))}], limit=20) == "[1, {2, 3}, %{ok: [200, ...]}]"
    assert to_elixir(b"x" * 100, limit=5) == '"xxxxx" <> ...'
    assert to_erlang([(OK, b"x" * 100)] * 3, limit=10) == '[{ok,<<"xxxxx...">>},...]'
    endless = [list(range(1_000_000))] * 2
    start = time.perf_counter()
    assert len(to_elixir([OK, *endless], limit=1000)) < 1100
    assert time.perf_counter() - start < 0.5


def test_what_is_no_term_is_refused() -> None:
    with pytest.raises(EncodeError):
        to_elixir([object()])


TERMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(codec="utf-8"), max_size=20).map(Atom)
    | st.binary()
    | st.text(alphabet=st.characters(codec="utf-8")).map(str.encode)
    | st.lists(st.integers(0, 0x3000)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.binary() | st.integers(2), inner),
    max_leaves=15,
)


@settings(max_examples=60)
@given(TERMS)
def test_every_term_is_read_back_from_both_notations(term: object) -> None:
    data = term_to_binary(term, deterministic=True)
    assert term_to_binary(from_elixir(to_elixir(term)), deterministic=True) == data
    assert term_to_binary(from_erlang(to_erlang(term)), deterministic=True) == data


@given(st.text(alphabet="[]{}<>%#~\"'\\:,|.&?$ \n_aA19exu", max_size=30))
def test_any_text_is_a_term_or_refused(text: str) -> None:
    for read in (from_elixir, from_erlang):
        try:
            term_to_binary(read(text))
        except NotationError as error:
            error.add_note(text)


@given(st.binary(max_size=40))
def test_any_bytes_are_annotated(data: bytes) -> None:
    found = list(annotate(b"\x83" + data))
    assert found[0].meaning == "version 131"
