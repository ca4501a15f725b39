"""Streams of examples in chunks: whatever the cuts, the same dataset; whatever is wrong, one typed refusal."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom, term_to_binary
from erlbridge.errors import TransferError
from erlbridge.limits import MAX_CHUNK_BYTES
from erlbridge.wire.transfer import Framing, Incoming, Outgoing

EXAMPLES = st.lists(
    st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=40)), min_size=1, max_size=9
)


def framed(examples: list[object]) -> bytes:
    terms = [term_to_binary(example) for example in examples]
    return b"".join(len(term).to_bytes(4) + term for term in terms)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def taken(chunks: list[bytes], compression: str, stream: bytes) -> tuple[bytes, int]:
    incoming = Incoming(compression)
    plain = b"".join(piece for chunk in chunks for piece in incoming.take(chunk))
    return plain, incoming.finish(hashlib.sha256(stream).hexdigest())


@settings(deadline=None)  # of how busy the machine is
@given(EXAMPLES, st.lists(st.integers(min_value=0), max_size=8), st.sampled_from(["zlib", "none"]))
def test_any_cuts_of_a_stream_give_the_same_dataset(examples: list[object], cuts: list[int], compression: str) -> None:
    stream = framed(examples)
    packed = zlib.compress(stream) if compression == "zlib" else stream
    assert taken(pieces_of(packed, cuts), compression, stream) == (stream, len(examples))


@settings(deadline=None)  # of how busy the machine is
@given(EXAMPLES, st.data())
def test_a_stream_that_was_changed_or_cut_off_is_never_taken(examples: list[object], data: st.DataObject) -> None:
    stream = framed(examples)
    packed = zlib.compress(stream)
    at = data.draw(st.integers(min_value=0, max_value=len(packed) - 1))
    changed = data.draw(
        st.sampled_from(
            [packed[:at], packed[:at] + bytes((packed[at] ^ 1,)) + packed[at + 1 :], packed + b"more", b"", b"no zlib"]
        )
    )
    with pytest.raises(TransferError) as refusal:
        taken([changed], "zlib", stream)
    assert str(refusal.value.context["reason"]) in ("corrupt", "checksum", "empty")


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"\x00\x00\x00\x00\x00\x00", "0 bytes"),
        ((2**24 + 1).to_bytes(4) + b"\x83t", "limit 16777216"),
        (b"\xff\xff\xff\xff\x83t", "limit 16777216"),
        (framed([[]]), "begin with 131, 106"),
        (framed([{}]) + b"\x00\x00\x00\x06\x83P\x00\x00\x00\x00", "example 1 "),
        (framed([{}])[:-1], "ends inside example 1"),
        (framed([{}]) + b"\x00\x00", "ends inside"),
        (b"", "at least one example"),
    ],
    ids=["empty term", "too long", "longest", "no map", "compressed", "cut", "cut header", "nothing"],
)
def test_what_is_no_stream_of_examples_is_refused_where_it_is_wrong(stream: bytes, text: str) -> None:
    with pytest.raises(TransferError, match=text):
        taken([stream], "none", stream)


def test_a_wrong_sum_is_refused_with_both() -> None:
    stream = framed([{b"a": 1}])
    with pytest.raises(TransferError, match=hashlib.sha256(stream).hexdigest()):
        taken([stream], "none", b"another")


def test_chunks_behind_the_end_of_a_zlib_stream_are_refused() -> None:
    stream = framed([{}])
    with pytest.raises(TransferError, match="earlier chunk"):
        taken([zlib.compress(stream), b"more"], "zlib", stream)
    assert taken([zlib.compress(stream), b""], "zlib", stream) == (stream, 1)


@pytest.mark.parametrize("plain", [bytes(100_000_000), framed([{}]) * 1_000_000], ids=["zeros", "empty maps"])
def test_a_bomb_is_refused_or_given_out_in_small_pieces(plain: bytes) -> None:
    bomb = zlib.compress(plain, 1)[:MAX_CHUNK_BYTES]
    del plain
    incoming = Incoming("zlib")
    tracemalloc.start()
    try:
        for number, piece in enumerate(incoming.take(bomb)):
            assert len(piece) <= MAX_CHUNK_BYTES
            if number == 8:
                break
    except TransferError:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 8 * MAX_CHUNK_BYTES


@settings(deadline=None)  # of how busy the machine is
@given(st.lists(st.integers(min_value=0, max_value=300), min_size=1), st.lists(st.integers(min_value=0), max_size=6))
def test_framing_counts_the_same_however_it_is_fed(sizes: list[int], cuts: list[int]) -> None:
    stream = framed([{Atom("x"): bytes(size)} for size in sizes])
    framing = Framing()
    for piece in pieces_of(stream, cuts):
        framing.feed(piece)
    assert framing.finish() == len(sizes)


@settings(deadline=None)  # of how busy the machine is
@given(st.binary(max_size=100), st.integers(min_value=4, max_value=50))
def test_what_goes_out_is_one_framed_term_in_chunks(term: bytes, chunk_bytes: int) -> None:
    outgoing = Outgoing(term, chunk_bytes)
    chunks = [outgoing.next() for _ in range(outgoing.chunks)]
    assert outgoing.is_over
    assert [(index, is_final) for index, _, is_final in chunks] == [
        (index, index == outgoing.chunks - 1) for index in range(outgoing.chunks)
    ]
    stream = b"".join(data for _, data, _ in chunks)
    assert stream == len(term).to_bytes(4) + term
    assert all(len(data) == chunk_bytes for _, data, _ in chunks[:-1])
    assert (outgoing.sha256, outgoing.total_bytes) == (hashlib.sha256(stream).hexdigest(), len(stream))


def test_a_stream_that_is_not_as_long_as_it_said_is_refused_as_soon_as_that_shows() -> None:
    stream = framed([{b"a": b"1"}, {b"a": b"2"}])
    incoming = Incoming("none", total_bytes=len(stream) - 1)
    with pytest.raises(TransferError, match="its first chunk said") as refusal:
        list(incoming.take(stream))
    assert str(refusal.value.context["reason"]) == "size"
    short = Incoming("zlib", total_bytes=len(stream) + 1)
    list(short.take(zlib.compress(stream)))
    with pytest.raises(TransferError) as refusal:
        short.finish(hashlib.sha256(stream).hexdigest())
    assert str(refusal.value.context["reason"]) == "size"


def test_a_bomb_ends_at_what_its_first_chunk_said() -> None:
    bomb = zlib.compress(framed([{}]) * 2_000_000)
    incoming = Incoming("zlib", total_bytes=3_000_000)
    taken_bytes = 0
    with pytest.raises(TransferError):  # noqa: PT012 - how far it came counts
        for piece in incoming.take(bomb):
            taken_bytes += len(piece)
    assert taken_bytes <= 3_000_000


def test_a_zstandard_stream_is_the_same_dataset_and_a_damaged_one_is_none() -> None:
    zstd = pytest.importorskip("backports.zstd")
    stream = framed([{b"a": b"%d" % number} for number in range(500)])
    packed = zstd.compress(stream)
    assert taken([packed[:9], packed[9:]], "zstd", stream) == (stream, 500)
    assert taken([packed, b""], "zstd", stream) == (stream, 500), "the last chunk may be empty"
    for wrong in (packed[:-1], packed + b"more", packed + packed, b"no zstd at all", packed[:20] + b"x" + packed[21:]):
        with pytest.raises(TransferError):
            taken([wrong], "zstd", stream)
    window = {zstd.CompressionParameter.window_log: 27}
    with pytest.raises(TransferError, match="no zstd stream"):
        taken([zstd.ZstdCompressor(options=window).compress(b"x" * 2**28)], "zstd", stream)
