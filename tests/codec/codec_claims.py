"""What must hold of any bytes whatever, terms or not: what the fuzzer tries to break, and the corpus is held to.

The twins are asked by name; what stands above them (`skip`, `stream`, `lazy`) asks the one in use.
"""

from __future__ import annotations

import zlib

from codec_twins import alike, decoded_alike, encoded_alike, scanned_alike
from codec_verdicts import verdict
from test_codec_lazy import agrees as parts_agree
from test_codec_skip import agrees as end_agrees
from test_codec_stream import agrees as stream_agrees

from erlbridge.codec import DecodeError, Local, _compiled, binary_to_term, skip, term_to_binary

_OPTIONS: tuple[dict[str, object], ...] = ({}, {"text": True}, {"max_depth": 3}, {"max_bytes": 100})


def hold(data: bytes) -> None:
    """Asserts all claims of these bytes, and some of them inside of a compressed term: no fuzzer guesses checksums."""
    _compiled._shape_cache(True)  # emptied, so that an input's verdict does not hang on the inputs before it
    for options in _OPTIONS:
        decoded_alike(data, **options)
    term = verdict(lambda: binary_to_term(data))
    if not isinstance(term, DecodeError):
        _comes_back(term)
        if not isinstance(term, Local):  # which ends with its data, wherever that is
            _is_whole(data)
    end_agrees(data)
    scanned_alike(data, [len(data) // 2])
    packed = b"\x83P" + len(data[1:]).to_bytes(4) + zlib.compress(data[1:], 1)
    decoded_alike(packed)
    assert _compiled._disagreements() == 0, data.hex()
    try:
        binary_to_term(data, max_depth=100)
    except DecodeError as refused:
        # The comparisons of parts and streams call themselves, so that Python's own stack would be what is tested.
        if "nested deeper" in refused.message:
            return
    for each in (data, packed):
        parts_agree(each)
        stream_agrees(each, cut=len(each) < 60)


def _comes_back(term: object) -> None:
    """What is written of a term is read as that term, and written alike by both in Erlang's order too."""
    encoded_alike(term, deterministic=True)
    again = binary_to_term(term_to_binary(term))
    assert alike(("value", term), ("value", again)), (term, again)


def _is_whole(data: bytes) -> None:
    """No part of a term is a term, and where one ends another may follow."""
    assert skip(data + data) == len(data), data.hex()
    for end in (len(data) - 1, len(data) // 2):
        for read in (binary_to_term, skip):
            assert isinstance(verdict(lambda read=read, end=end: read(data[:end])), DecodeError), data[:end].hex()
