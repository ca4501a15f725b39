"""Terms out of a byte stream: the same ones, however it is cut, and the same refusals as of whole terms."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from struct import pack

import pytest
from codec_verdicts import verdict
from hypothesis import given
from hypothesis import strategies as st
from test_codec_hostile import GOLDENS, golden, wrapped
from test_codec_properties import SETTINGS, same, terms

from erlbridge.codec import DecodeError, Local, binary_to_term, scan, term_to_binary
from erlbridge.codec.scan import Scan
from erlbridge.codec.stream import StreamDecoder

Vectors = list[dict[str, str]]


def decoded(pieces: Iterable[bytes]) -> list[object]:
    stream = StreamDecoder()
    found: list[object] = []
    for piece in pieces:
        stream.feed(piece)
        found += stream
    stream.close()
    return found


def in_bytes(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def agrees(data: bytes, *, cut: bool = False) -> None:
    """A stream of these bytes is one term exactly if the decoder takes them for one, and the same."""
    found = verdict(lambda: decoded(in_bytes(data) if cut else [data]))
    term = verdict(lambda: binary_to_term(data))
    if isinstance(found, DecodeError):
        assert 0 <= found.offset <= len(data)
        assert isinstance(term, DecodeError | Local), data.hex()
    else:
        assert isinstance(found, list)
        if isinstance(term, DecodeError):
            assert len(found) != 1, data.hex()
        else:
            assert len(found) == 1, data.hex()
            assert same(found[0], term), data.hex()


@pytest.mark.parametrize("name", GOLDENS)
def test_every_prefix_and_every_cut_of_a_golden_is_judged_as_the_decoder_does(name: str) -> None:
    data = golden(name)
    (term,) = decoded(in_bytes(data))
    assert same(term, binary_to_term(data))
    for end in range(1, len(data)):
        with pytest.raises(DecodeError, match="input ends inside a term") as refused:
            decoded([data[:end]])
        assert refused.value.offset == end
        assert len(decoded([data[:end], data[end:]])) == 1


@pytest.mark.parametrize("name", GOLDENS)
def test_every_change_of_one_byte_is_judged_as_the_decoder_does(name: str) -> None:
    data = bytearray(golden(name))
    for index, byte in enumerate(bytes(data)):
        for changed in range(256):
            data[index] = changed
            agrees(bytes(data), cut=changed % 16 == byte % 16)
        data[index] = byte


def test_every_vector_is_judged_as_the_decoder_does(valid: Vectors, hostile: Vectors) -> None:
    for vector in valid + hostile:
        if len(vector["hex"]) < 1_000_000 and "20M" not in vector["name"]:
            agrees(bytes.fromhex(vector["hex"]))


def test_all_goldens_come_out_of_one_stream_fed_byte_by_byte() -> None:
    data = b"".join(map(golden, GOLDENS))
    found = decoded(in_bytes(data))
    assert len(found) == len(GOLDENS)
    assert all(same(term, binary_to_term(golden(name))) for term, name in zip(found, GOLDENS, strict=True))


@SETTINGS
@given(st.lists(st.tuples(terms, st.booleans()), max_size=4), st.lists(st.integers(0, 5000), max_size=6))
def test_any_stream_cut_anywhere_gives_its_terms(written: list[tuple[object, bool]], cuts: list[int]) -> None:
    data = b"".join(term_to_binary(term, compressed=compressed) for term, compressed in written)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = decoded(data[start:end] for start, end in zip(edges, edges[1:]))  # noqa: B905, RUF007 - neighbours
    assert len(found) == len(written)
    assert all(same(one, two) for one, (two, _) in zip(found, written, strict=True))


def test_a_term_is_given_with_its_last_byte_and_not_before() -> None:
    data = term_to_binary([1, {b"key": (2.5, b"x" * 300)}])
    stream = StreamDecoder()
    for byte in in_bytes(data)[:-1]:
        stream.feed(byte)
        assert list(stream) == []
    assert stream.offset == 0
    stream.feed(data[-1:])
    assert len(list(stream)) == 1
    assert stream.offset == len(data)


def test_an_error_counts_from_the_beginning_of_the_stream_and_ends_it() -> None:
    first, bad = term_to_binary([b"fine"] * 5), b"\x83h\2a\1\xff"
    stream = StreamDecoder()
    stream.feed(first)
    assert len(list(stream)) == 1
    stream.feed(first + bad)
    taken = iter(stream)
    assert next(taken) == [b"fine"] * 5
    with pytest.raises(DecodeError, match="unknown tag 255") as refused:
        next(taken)
    assert refused.value.offset == 2 * len(first) + 5
    for again in (lambda: stream.feed(b"\x83j"), lambda: list(stream), stream.close):
        with pytest.raises(DecodeError, match="unknown tag 255") as repeated:
            again()
        assert repeated.value.offset == refused.value.offset


def test_what_the_decoder_alone_sees_has_its_offset_in_the_stream_too() -> None:
    data = b"\x83j" * 3 + b"\x83h\1F\x7f\xf8" + b"\0" * 6
    with pytest.raises(DecodeError, match=r"^float is nan at offset 9$") as refused:
        decoded(in_bytes(data))
    assert refused.value.offset == 9


def test_trouble_inside_of_a_compressed_term_is_at_that_term() -> None:
    plain = b"h\2" + b"m\0\0\0\x40" + b"x" * 64 + b"\xff"
    data = b"\x83j\x83P" + pack(">I", len(plain)) + zlib.compress(plain)
    with pytest.raises(DecodeError, match=r"unpacks to none \(unknown tag 255 at offset 71\) at offset 2$") as refused:
        decoded([data])
    assert refused.value.offset == 2


def test_bytes_between_terms_are_refused() -> None:
    with pytest.raises(DecodeError, match="no version byte 131") as refused:
        decoded([b"\x83j", b"\n\x83j"])
    assert refused.value.offset == 2


def test_a_term_of_a_private_format_has_no_end_in_a_stream() -> None:
    with pytest.raises(DecodeError, match="LOCAL_EXT"):
        decoded([b"\x83y1234"])


def test_a_stream_that_ends_inside_a_term_says_so_when_closed() -> None:
    stream = StreamDecoder()
    stream.feed(b"\x83j\x83a")
    with pytest.raises(DecodeError, match="input ends inside a term") as refused:
        stream.close()
    assert refused.value.offset == 4
    assert list(stream) == [[]]
    with pytest.raises(ValueError, match="closed"):
        stream.feed(b"\1")


def test_whole_terms_can_be_taken_after_the_close() -> None:
    stream = StreamDecoder()
    stream.feed(b"\x83j\x83a\1")
    stream.close()
    assert list(stream) == [[], 1]


@pytest.mark.parametrize(
    "data",
    [
        b"\x83m\0\0\0\x60" + b"x" * 96,
        b"\x83l\xff\xff\xff\xff",
        b"\x83t\x7f\xff\xff\xff",
        b"\x83m\xff\xff\xff\xff",
        b"\x83P\0\0\0\x65",
        wrapped(b"j", 60, b"h\1"),
    ],
    ids=["binary", "list", "map", "long binary", "compressed", "nested"],
)
def test_a_term_beyond_the_limit_is_refused_before_it_is_held(data: bytes) -> None:
    stream = StreamDecoder(max_term_bytes=100)

    def feed(byte: bytes) -> bool:
        stream.feed(byte)
        return not list(stream)

    verdicts = [verdict(lambda byte=byte: feed(byte)) for byte in in_bytes(data * 2)]
    refused = [index for index, error in enumerate(verdicts) if isinstance(error, DecodeError)]
    assert "limit 100" in str(verdicts[refused[0]])
    assert refused[0] <= 100


def test_a_term_of_exactly_the_limit_is_taken() -> None:
    data = b"\x83m\0\0\0\x5e" + b"x" * 94
    stream = StreamDecoder(max_term_bytes=100)
    for byte in in_bytes(data * 3):
        stream.feed(byte)
        list(stream)
    assert stream.offset == 300


def test_feeding_byte_by_byte_never_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a scan begins where the last one stopped: what it read before is not read again."""
    begun: list[int] = []

    class Watched:
        def __init__(self, pos: int, *, max_depth: int) -> None:
            self.scan = Scan(pos, max_depth=max_depth)

        def __getattr__(self, name: str) -> object:
            return getattr(self.scan, name)

        def advance(self, data: bytes) -> bool:
            begun.append(self.scan.pos)
            return self.scan.advance(data)

    monkeypatch.setattr(scan, "Scan", Watched)
    data = term_to_binary([[b"key", 1.5, index] for index in range(200)])
    assert len(decoded(in_bytes(data))) == 1
    assert begun == sorted(begun)
    assert max(len(data[:fed]) - start for fed, start in enumerate(begun, start=2)) < 20


def test_the_options_of_the_decoder_are_those_of_the_stream() -> None:
    stream = StreamDecoder(text=True, max_depth=1)
    stream.feed(term_to_binary([b"text"]) + term_to_binary([[b"text", b"text"]]))
    taken = iter(stream)
    assert next(taken) == ["text"]
    with pytest.raises(DecodeError, match="nested deeper than 1"):
        next(taken)
