"""Lazy terms: every part is what the whole decode has there, and nothing is built that was not asked for."""

from __future__ import annotations

import mmap
import struct
import sys
import tracemalloc
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from codec_verdicts import verdict
from hypothesis import given
from hypothesis import strategies as st
from test_codec_hostile import GOLDENS, golden, wrapped
from test_codec_properties import SETTINGS, same, terms

from erlbridge.codec import Atom, DecodeError, ImproperList, Local, TermMap, binary_to_term, places, term_to_binary
from erlbridge.codec.lazy import LazyTerm
from erlbridge.codec.scan import Scan
from erlbridge.limits import MAX_DEPTH

Vectors = list[dict[str, str]]


def rebuilt(part: LazyTerm) -> object:
    """The term put together from all of its parts, each reached on its own."""
    if part.kind == "map":
        pairs = [(key, rebuilt(part[key])) for key in part]
        assert len(pairs) == len(part)
        assert [key for key, _ in part.items()] == [key for key, _ in pairs]
        odd = TermMap(pairs)
        try:
            plain = dict(pairs)
        except TypeError:
            return odd
        return plain if len(plain) == len(odd) else odd
    if part.kind in ("list", "tuple"):
        size = len(part)
        found = [rebuilt(part[index - size if index % 2 else index]) for index in range(size)]
        assert len(list(part)) == size
        if part.kind == "tuple":
            return tuple(found)
        if part.tail is None:
            return found
        tail = rebuilt(part.tail)
        return ImproperList(found, tail) if found else tail
    return part.value()


def agrees(data: bytes) -> None:
    """Whatever a lazy term gives is what the decoder gives, and where it refuses the decoder does."""
    term = verdict(lambda: binary_to_term(data))
    whole, parts = verdict(lambda: LazyTerm(data).value()), verdict(lambda: rebuilt(LazyTerm(data)))
    if not isinstance(term, DecodeError):
        assert same(whole, term), data.hex()
        assert same(parts, term), data.hex()
    else:
        assert isinstance(whole, DecodeError)
        # That bytes follow the term is the one thing that its parts do not tell.
        assert isinstance(parts, DecodeError) or "bytes after the term" in str(term), data.hex()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is given to the decoder, in turn."""
    sizes: list[int] = []

    def counted(data: bytes, **options: object) -> object:
        sizes.append(len(data))
        return binary_to_term(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(places, "binary_to_term", counted)
    return sizes


def request(count: int) -> bytes:
    examples = [{Atom("id"): index, Atom("question"): b"why " * 50} for index in range(count)]
    return term_to_binary({Atom("payload"): {Atom("training_data"): examples, Atom("seed"): 7}})


@pytest.mark.parametrize("name", GOLDENS)
def test_every_golden_prefix_and_change_of_one_byte_is_judged_as_the_decoder_does(name: str) -> None:
    data = golden(name)
    agrees(data)
    for end in range(len(data)):
        agrees(data[:end])
    changed = bytearray(data)
    for index, byte in enumerate(data):
        for change in range(0, 256, 1 if index < 12 else 5):
            changed[index] = change
            agrees(bytes(changed))
        changed[index] = byte


def test_every_vector_is_judged_as_the_decoder_does(valid: Vectors, hostile: Vectors) -> None:
    for vector in valid + hostile:
        if len(vector["hex"]) < 200_000 and "20M" not in vector["name"]:
            agrees(bytes.fromhex(vector["hex"]))


@SETTINGS
@given(terms, st.booleans())
def test_any_term_put_together_from_its_parts_is_the_term(term: object, compressed: bool) -> None:
    data = term_to_binary(term, compressed=compressed)
    assert same(rebuilt(LazyTerm(memoryview(data))), binary_to_term(data))


def test_reaching_an_element_builds_that_element_alone(built: list[int]) -> None:
    term = LazyTerm(request(10_000))
    element = term[Atom("payload")]["training_data"][5000]
    assert built == []
    assert element.kind == "map"
    assert len(element) == 2
    assert element["id"].value() == 5000
    assert len(built) == 1
    assert built[0] < 10


def test_only_what_stands_before_an_element_is_stepped_over_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    class Watched:
        def __init__(self, pos: int, **options: int) -> None:
            self.scan = Scan(pos, **options)

        def __getattr__(self, name: str) -> object:
            return getattr(self.scan, name)

        def starts(self, data: bytes, most: int, offsets: array[int]) -> bool:
            found.append(most)
            return self.scan.starts(data, most, offsets)

    monkeypatch.setattr(places, "Scan", Watched)
    examples = LazyTerm(request(1000))["payload"]["training_data"]
    found.clear()
    for index, stepped in ((10, [11]), (3, []), (10, []), (12, [2])):
        assert examples[index].kind == "map"
        assert found == stepped
        found.clear()


def test_an_index_is_made_once_and_found_again_from_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    term = LazyTerm(request(1000))
    assert term["payload"]["training_data"][999]["id"].value() == 999
    made = []
    monkeypatch.setattr(places.Index, "__init__", lambda *_: made.append(1))
    assert term["payload"]["training_data"][500].kind == "map"
    assert made == []


def test_indexes_of_small_containers_are_not_kept() -> None:
    term = LazyTerm(request(1000))
    for example in term["payload"]["training_data"].elements():
        assert example["question"].kind == "binary"
    assert len(term._source.indexes) <= 3


def test_an_index_takes_eight_bytes_an_element() -> None:
    term = LazyTerm(term_to_binary([0.5] * 100_000))
    assert len(term) == 100_000
    (index,) = term._source.indexes.values()
    assert sys.getsizeof(index.offsets) < 8.6 * 100_000


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_a_binary_is_viewed_where_it_stands(wrap: Callable[[bytes], bytes]) -> None:
    large = bytes(range(256)) * 400
    for term, reach in ((large, lambda t: t), ([1, {b"k": large}], lambda t: t[1]["k"])):
        data = wrap(term_to_binary(term))
        tracemalloc.start()
        view = reach(LazyTerm(data)).view()
        spent = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert view == large
        assert view.readonly
        assert spent < len(large) / 4
    with pytest.raises(TypeError, match="integer has no bytes to view"):
        LazyTerm(wrap(term_to_binary([large, 1])))[1].view()
    with pytest.raises(DecodeError, match="ends inside a term"):
        LazyTerm(wrap(term_to_binary(large)[:-1])).view()
    with pytest.raises(DecodeError, match="1 bytes after the term"):
        LazyTerm(wrap(term_to_binary(large) + b"j")).view()


def test_a_memory_map_is_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "term"
    path.write_bytes(request(2000))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        term = LazyTerm(view)
        assert term._source.view.obj is mapped
        assert term["payload"]["training_data"][-1]["id"].value() == 1999
        del term  # frees the map, without waiting for the garbage collector
        view.release()


def test_a_compressed_term_is_unpacked_once_and_under_the_limit() -> None:
    plain = binary_to_term(request(1000))
    data = term_to_binary(plain, compressed=True)
    assert LazyTerm(data)["payload"]["training_data"][7].value() == {Atom("id"): 7, Atom("question"): b"why " * 50}
    assert LazyTerm(data).value() == plain
    with pytest.raises(DecodeError, match="limit 1000"):
        LazyTerm(data, max_bytes=1000)
    with pytest.raises(DecodeError, match="1 bytes after the term"):
        LazyTerm(data + b"\0")
    with pytest.raises(DecodeError, match="input ends inside a term"):
        LazyTerm(data[:-1])


def test_keys_are_looked_up_by_the_equality_of_erlang() -> None:
    keys = [1, 1.0, True, Atom("1"), b"1", [1], (1,), (1.0,), {1: 2}, None, 2**70, ImproperList([1], 2), 0.0]
    term = LazyTerm(term_to_binary(TermMap((key, index) for index, key in enumerate(keys))))
    for index, key in enumerate(keys):
        assert term[key].value() == index
    assert term["1"].value() == 4
    assert term[-0.0].value() == 12
    for key in (2, 2.0, False, Atom("2"), b"2", [1.0], [], object(), float("nan"), "\ud800", "x" * 300):
        assert key not in term
        assert term.get(key) is None
        with pytest.raises(KeyError):
            term[key]


def test_a_key_is_found_in_whatever_form_it_was_written() -> None:
    one_of_each = b"t\0\0\0\5" + b"d\0\1aa\0" + b"s\1ba\1" + b"v\0\1ca\2" + b"b\0\0\0\5a\3" + b"M\0\0\0\1\x08xa\4"
    term = LazyTerm(b"\x83" + one_of_each)
    assert [term[key].value() for key in (Atom("a"), Atom("b"), Atom("c"), 5, b"x")] == [0, 1, 2, 3, 4]


def test_a_text_is_a_binary_and_only_then_an_atom() -> None:
    both = LazyTerm(term_to_binary({Atom("a"): 1, b"a": 2, Atom("é"): 3}))
    assert both["a"].value() == 2
    assert both[Atom("a")].value() == 1
    assert both["é"].value() == 3
    assert "é".encode() not in both


def test_duplicate_keys_are_refused_when_the_map_is_asked_for_one() -> None:
    term = LazyTerm(b"\x83h\2a\1t\0\0\0\3" + b"w\1aa\1" + b"w\1ba\2" + b"d\0\1aa\3")
    assert term[0].value() == 1
    for use in (lambda: term[1]["b"], lambda: "b" in term[1], lambda: list(term[1]), term[1].value):
        with pytest.raises(DecodeError, match="map with duplicate keys, 1 of 3"):
            use()


def test_errors_have_their_offset_in_the_whole() -> None:
    data = b"\x83h\3a\1h\1F\x7f\xf8" + b"\0" * 6 + b"\xff"
    term = LazyTerm(data)
    assert term[0].value() == 1
    with pytest.raises(DecodeError, match="float is nan") as refused:
        term[1].value()
    assert refused.value.offset == 7
    with pytest.raises(DecodeError, match="unknown tag 255") as refused:
        assert term[2].kind
    assert refused.value.offset == 16


@pytest.mark.parametrize("head", [b"l", b"i", b"t"])
def test_a_count_beyond_the_data_is_refused_and_never_told(head: bytes) -> None:
    term = LazyTerm(b"\x83" + head + b"\x7f\xff\xff\xff" + b"a\1" * 50)
    for use in (lambda: len(term), lambda: list(term), lambda: term[0]):
        with pytest.raises(DecodeError, match="input ends inside a term") as refused:
            use()
        assert refused.value.offset == 106


def test_depth_counts_from_the_whole_term() -> None:
    term = LazyTerm(wrapped(b"a\1", MAX_DEPTH, b"h\1"))
    for _ in range(MAX_DEPTH):
        term = term[0]
    assert term.value() == 1
    deep = LazyTerm(wrapped(b"a\1", 4, b"h\1"), max_depth=3)
    assert deep[0][0][0].kind == "tuple"
    for use in (lambda: deep[0][0][0][0], deep[0][0].value, deep.value, deep[0][0][0].value):
        with pytest.raises(DecodeError, match="nested deeper than 3"):
            use()


def test_a_chain_of_lists_as_tails_is_one_list() -> None:
    term = LazyTerm(b"\x83" + b"l\0\0\0\1a\1" * 5000 + b"l\0\0\0\0" * 5000 + b"k\0\2ab")
    assert len(term) == 5002
    assert [term[index].value() for index in (0, 4999, 5000, 5001, -1)] == [1, 1, 97, 98, 98]
    assert term.tail is None
    assert [part.value() for part in term][-3:] == [1, 97, 98]
    with pytest.raises(IndexError):
        term[5002]


def test_the_tail_of_an_improper_list_is_a_part_of_its_own() -> None:
    term = LazyTerm(term_to_binary(ImproperList([1, 2], {Atom("a"): 3})))
    assert len(term) == 2
    assert term.tail is not None
    assert term.tail["a"].value() == 3
    assert LazyTerm(b"\x83j").tail is None
    assert LazyTerm(b"\x83a\1").tail is None


def test_what_is_no_container_says_so() -> None:
    number = LazyTerm(b"\x83a\1")
    for use in (lambda: number[0], lambda: len(number), lambda: list(number)):
        with pytest.raises(TypeError, match="integer has no elements"):
            use()
    with pytest.raises(TypeError, match="index of a tuple is an integer, not str"):
        LazyTerm(b"\x83h\1j")["a"]
    with pytest.raises(TypeError, match="tuple has no keys"):
        assert 1 in LazyTerm(b"\x83h\1j")
    with pytest.raises(TypeError, match="a map has items, not elements"):
        LazyTerm(b"\x83t\0\0\0\0").elements()
    with pytest.raises(TypeError, match="LazyTerm takes bytes, not str"):
        LazyTerm("text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("term", "kind"),
    [(Atom("a"), "atom"), (None, "atom"), (2**80, "integer"), (0.5, "float"), (b"x", "binary"), ([1], "list"),
     ([], "list"), ((), "tuple"), ({}, "map"), (Local(b"123"), "local")],
)  # fmt: skip
def test_the_kind_is_told_by_the_tag(term: object, kind: str) -> None:
    part = LazyTerm(term_to_binary(term))
    assert part.kind == kind
    assert part.value() == term


def test_text_is_given_on_request() -> None:
    term = LazyTerm(term_to_binary({b"k": [b"text", b"\xff"]}), text=True)
    assert list(term) == ["k"]
    assert term["k"].value() == ["text", b"\xff"]


def test_a_large_map_is_asked_by_a_table_of_sixteen_bytes_an_entry() -> None:
    term = LazyTerm(term_to_binary({f"key {index}": index for index in range(20_000)}))
    assert [term[f"key {index}"].value() for index in (0, 1, 9_999, 19_999)] == [0, 1, 9_999, 19_999]
    assert "key 20000" not in term
    (index,) = term._source.indexes.values()
    assert index._hashes is not None
    assert sys.getsizeof(index._hashes) + sys.getsizeof(index._order) < 17 * 20_000


def test_a_cut_element_in_a_row_of_numbers_is_refused_where_it_is_built() -> None:
    whole = term_to_binary([0.5] * 10)
    term = LazyTerm(whole[:-5])
    assert term[8].value() == 0.5
    for use in (term[9].value, lambda: len(term), lambda: term[-1]):
        with pytest.raises(DecodeError, match="input ends inside a term"):
            use()
    assert struct.unpack(">d", whole[-9:-1]) == (0.5,)
