"""Words searched for in bytes: one result from both twins, which is the one of plain `find`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.codec import _pure

compiled = pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

TWINS = pytest.mark.parametrize("holds_any", [_pure.holds_any, compiled.holds_any], ids=["pure", "compiled"])
WORDS = (b"key", b"passw", b"passphrase", b"token")
BUT = (b"tokens",)

texts = st.lists(
    st.sampled_from([*WORDS, *BUT, b"tok", b"en", b"s", b"pass", b"w", b"KE", b"y", b"\x00", b"\xeb\xe5\xf9", b"K"])
    | st.binary(max_size=300)
).map(b"".join)


@given(texts)
def test_both_twins_find_the_same(data: bytes) -> None:
    low = data.lower()
    expected = any(low.startswith(word, at) and not low.startswith(BUT, at) for word in WORDS for at in range(len(low)))
    assert compiled.holds_any(data, WORDS, BUT) == _pure.holds_any(bytearray(data), WORDS, BUT) == expected


@TWINS
def test_a_word_is_found_at_every_place_of_data_of_every_length(holds_any: object) -> None:
    for size in (*range(10, 20), *range(250, 270), 511, 512, 513):
        for at in {0, 1, size // 2, 240, 252, 253, 254, 255, 256, size - 10} & set(range(size - 9)):
            data = bytearray(b"." * size)
            data[at : at + 10] = b"PassPhrase"
            assert holds_any(data, WORDS, BUT)  # type: ignore[operator]
            data[at + 9] = ord(".")
            assert not holds_any(data, WORDS, BUT)  # type: ignore[operator]


@TWINS
@pytest.mark.parametrize(
    ("words", "error"),
    [((b"ke",), ValueError), (("key",), TypeError), ([b"key"], TypeError), ((b"key",) * 33, TypeError)],
)
def test_words_that_are_none_are_refused(holds_any: object, words: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="word"):
        holds_any(b"data", words, ())  # type: ignore[operator]
    with pytest.raises(error, match="word"):
        holds_any(b"data", (b"key",), words)  # type: ignore[operator]
    assert not holds_any(b"", (b"key",), ())  # type: ignore[operator]
    assert not holds_any(b"data", (), ())  # type: ignore[operator]
