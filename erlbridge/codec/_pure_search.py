"""Whether one of some words stands in bytes: the pure twin's search, a pass for each word."""

from __future__ import annotations

MOST_WORDS = 32
SHORTEST_WORD_BYTES = 3


def holds_any(data: bytes | bytearray, words: tuple[bytes, ...], but: tuple[bytes, ...], /) -> bool:
    """Whether a word stands somewhere in the data, in letters of any case, where none of `but` stands.

    Args:
        data: What is searched.
        words: At most 32, of at least three bytes each, in small letters.
        but: Longer words, under the same rule, that make a place none: `tokens` where `token` is looked for.

    Raises:
        TypeError: A word is not bytes, or these are no tuples or too long ones.
        ValueError: A word is too short.

    >>> holds_any(b"Its API-Key and 12 tokens", (b"key", b"token"), (b"tokens",))
    True
    >>> holds_any(b"12 tokens", (b"key", b"token"), (b"tokens",))
    False
    """
    _check(words)
    _check(but)
    low = data.lower()
    for word in words:
        at = low.find(word)
        while at >= 0:
            if not low.startswith(but, at):
                return True
            at = low.find(word, at + 1)
    return False


def _check(words: tuple[bytes, ...]) -> None:
    if not isinstance(words, tuple) or len(words) > MOST_WORDS:
        raise TypeError(f"expected a tuple of at most {MOST_WORDS} words")
    for word in words:
        if not isinstance(word, bytes):
            raise TypeError("a word is bytes")
        if len(word) < SHORTEST_WORD_BYTES:
            raise ValueError(f"a word has at least {SHORTEST_WORD_BYTES} bytes")
