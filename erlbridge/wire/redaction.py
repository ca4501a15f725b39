"""Frames without secrets, byte for byte as long as they were: what is one is written over with `*`.

A secret is a value that is known as one (of the settings or of the environment), wherever it stands, and what a term
has under a key such as `api_key` or `password`: every text, number and name in it. A value that was found under such a
key is known from then on. What a text such as JSON, YAML or an error's message assigns to such a name is written over
too. Frames are searched, not decoded; only one that names such a key is looked into, and of that only the way to it.
The bytes stay a term with the same shape. Knows no settings and no environment.

What it cannot see: a secret that is split over two frames, or was compressed or encoded once more inside a binary.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from erlbridge.codec.scan import skip
from erlbridge.codec.search import holds_any
from erlbridge.codec.tags import (
    ATOM_EXT,
    ATOM_UTF8_EXT,
    BINARY_EXT,
    BIT_BINARY_EXT,
    COMPRESSED,
    FLOAT_EXT,
    INTEGER_EXT,
    LARGE_BIG_EXT,
    LARGE_TUPLE_EXT,
    LIST_EXT,
    MAP_EXT,
    NEW_FLOAT_EXT,
    SMALL_ATOM_EXT,
    SMALL_ATOM_UTF8_EXT,
    SMALL_BIG_EXT,
    SMALL_INTEGER_EXT,
    SMALL_TUPLE_EXT,
    STRING_EXT,
    VERSION_MAGIC,
)
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_FRAME_BYTES

_KEYS: Final = tuple(
    kind + gap + b"key"
    for kind in (b"api", b"access", b"private", b"secret", b"subscription")
    for gap in (b"_", b"-", b"")
)
_WORDS: Final = (
    *_KEYS, b"password", b"passwd", b"passphrase", b"secret", b"authorization", b"credential",
)  # fmt: skip
_NAMES: Final = (*_WORDS, *(word + b"s" for word in _WORDS), b"token")
"""How the names of keys end whose values are secrets: `openai_api_key`, `X-Api-Key`, `accessToken`. Of tokens in the
plural every result says how many there were."""

_STEMS: Final = (b"passw", b"passphrase", b"secret", b"token", b"authoriz", b"credential")
"""What stands in all the names that have no `key`."""
_HINTS: Final = (b"key", *_STEMS)
"""What every frame is searched for first: the fewest that do."""
_MARKS: Final = tuple(sorted((*_KEYS, *_STEMS)))
_COUNTS: Final = (b"tokens",)
"""Every result has `input_tokens`, which tells nothing."""

_LONGEST_FIRST: Final = sorted(_NAMES, key=len, reverse=True)
_ASSIGNED: Final = re.compile(
    rb"(?:%b)[\"'\\]{0,4}\s{0,8}(?:=>|[:=])[\s\"'\\]{0,8}(?:(?:bearer|basic)\s{1,4})?"
    rb"([^\x00-\x20\x7f-\xff\"'\\,;(){}\[\]<>*]{8,8192})" % b"|".join(_LONGEST_FIRST)
)
"""A name, from where a stem begins, and what a text gives it: `"api_key": "sk-1"`, `password=hush`, `authorization:
bearer x`. What is shorter than eight bytes is more likely a word."""

_NAME_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-.")
_MOST_NAME_BYTES: Final = 64
_SHORTEST_LEARNED: Final = 8
_MOST_LEARNED: Final = 16
_MOST_STEPS: Final = 20_000
"""Terms looked at in one frame on the way to its keys, some 20 ms; what comes behind them is cut off."""

_LENGTHS: Final = {
    SMALL_ATOM_UTF8_EXT: 1,
    SMALL_ATOM_EXT: 1,
    ATOM_UTF8_EXT: 2,
    ATOM_EXT: 2,
    STRING_EXT: 2,
    BINARY_EXT: 4,
}
"""The bytes that hold the length of a text, by its tag."""
_BEFORE_LENGTHS: Final = frozenset({0, SMALL_ATOM_UTF8_EXT, SMALL_ATOM_EXT})
"""What stands before the last byte of a short text's length."""
_DIGITS: Final = {BIT_BINARY_EXT: 5, SMALL_BIG_EXT: 2, LARGE_BIG_EXT: 5}
"""The same of what has something else between its length and its bytes."""
_FIXED: Final = {SMALL_INTEGER_EXT: 1, INTEGER_EXT: 4, NEW_FLOAT_EXT: 8}
_PACKED: Final = bytes((COMPRESSED,))
_BINARY: Final = bytes((BINARY_EXT,))
_TEXTS: Final = frozenset({BINARY_EXT, STRING_EXT})
_ATOMS: Final = frozenset({SMALL_ATOM_UTF8_EXT, SMALL_ATOM_EXT, ATOM_UTF8_EXT, ATOM_EXT})
_PLAIN: Final = frozenset({b"nil", b"true", b"false", b"undefined", b"none"})
"""Atoms that say that there is no secret."""
_ZERO_FLOAT: Final = b"0.00000000000000000000e+00".ljust(31, b"\0")


class Redaction:
    """Writes over what is secret in frames.

    Args:
        secrets: Values that are, as bytes, in every spelling that is looked for.

    >>> from erlbridge.codec import binary_to_term, term_to_binary
    >>> frame = term_to_binary({b"model": b"openai/gpt", b"api_key": b"sk-123456"})
    >>> binary_to_term(Redaction().clean(frame))
    {b'model': b'openai/gpt', b'api_key': b'*********'}
    """

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        self._known = tuple(sorted(set(filter(None, secrets)), key=lambda name: -len(name)))
        self._learned: deque[bytes] = deque(maxlen=_MOST_LEARNED)

    @property
    def longest_bytes(self) -> int:
        """The length of the longest value that is known to be secret."""
        return max(map(len, self._known), default=0)

    def may_hold(self, plain: bytes | bytearray) -> bool:
        """Whether something of it may have to be written over; what is compressed is not looked into."""
        return (
            (holds_any(plain, _HINTS, _COUNTS) and holds_any(plain, _MARKS, _COUNTS))
            or any(secret in plain for secret in self._known)
            or any(secret in plain for secret in self._learned)
        )

    def clean_all(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        """The frames, those without secrets as the same objects. Small ones are searched together."""
        packed = any(frame[1:2] == _PACKED for frame in frames)
        if not packed and not self.may_hold(b"".join(frames)):
            return frames
        return [self.clean(frame) for frame in frames]

    def clean(self, frame: bytes) -> bytes:
        """The frame, which may be cut off, without secrets. A compressed term that holds some comes unpacked."""
        plain = _unpacked(frame)
        if not self.may_hold(plain):
            return frame
        cleaned = self._without_known(plain)
        names, texts = _names(cleaned, plain.lower())
        if names or texts:
            buffer = bytearray(cleaned)
            for value in _write_over(cleaned, buffer, names, texts):
                self._learn(value)
            cleaned = self._without_known(bytes(buffer))
        return frame if cleaned == plain else cleaned

    def _without_known(self, plain: bytes) -> bytes:
        for secret in (*self._known, *self._learned):
            plain = plain.replace(secret, b"*" * len(secret))
        return plain

    def _learn(self, value: bytes) -> None:
        if len(value) >= _SHORTEST_LEARNED and value not in self._learned and value not in self._known:
            self._learned.append(value)


def _unpacked(frame: bytes) -> bytes:
    """A frame whose term is not compressed; one that does not unpack is what it is."""
    if frame[:2] != bytes((VERSION_MAGIC, COMPRESSED)):
        return frame
    try:
        return bytes((VERSION_MAGIC,)) + zlib.decompressobj().decompress(frame[6:], MAX_FRAME_BYTES)
    except zlib.error:
        return frame


def _names(plain: bytes, low: bytes) -> tuple[dict[int, int], list[tuple[int, int]]]:
    """Where texts stand that name a secret: of each the position of its tag, and of what follows. And from where to
    where that stands which a text gives such a name. Left out are those before a binary that is written over already:
    with the same key in each request, that is all of them."""
    found: dict[int, int] = {}
    assigned: list[tuple[int, int]] = []
    for stem in (*_KEYS, *_STEMS):
        at = low.find(stem)
        while at >= 0:
            if named := _named(plain, low, at):
                tag_at, end = named
                if not _is_gone(plain, end):
                    found[tag_at] = end
            elif given := _ASSIGNED.match(low, at):
                assigned.append(given.span(1))
                at = given.end() - 1  # however often it stands in its own value
            at = low.find(stem, at + 1)
    return found, sorted(assigned)


def _named(plain: bytes, low: bytes, at: int) -> tuple[int, int] | None:
    """The short text around a stem that is a secret's name: the position of its tag, and its end."""
    start, first = at, max(at - _MOST_NAME_BYTES, 2)
    while start > first and low[start - 1] in _NAME_BYTES:
        start -= 1
    for begins in range(start, at + 1):  # a length from 45 on may be a byte that stands in names too
        end = begins + plain[begins - 1]
        if (
            plain[begins - 2] in _BEFORE_LENGTHS
            and end > at
            and low.endswith(_NAMES, begins, end)
            and (width := _header(plain, begins))
        ):
            return begins - width, end
    return None


def _header(plain: bytes, start: int) -> int:
    """The bytes of tag and length in front of a short text; 0 when there is none."""
    for tag, width in _LENGTHS.items():
        at = start - width - 1
        if at > 0 and plain[at] == tag and not any(plain[at + 1 : start - 1]):
            return width + 1
    return 0


def _is_gone(plain: bytes, at: int) -> bool:
    text_at = at + 5
    end = text_at + int.from_bytes(plain[at + 1 : text_at])
    return plain[at : at + 1] == _BINARY and end - text_at == plain.count(b"*", text_at, end)


def _write_over(plain: bytes, buffer: bytearray, names: dict[int, int], texts: list[tuple[int, int]]) -> list[bytes]:
    """Writes over the values of those names that are keys of a map, or the first of two elements of a tuple, and those
    in texts. Gives the texts among the former. A term that takes too long to look through is cut off there."""
    values: list[bytes] = []
    places = sorted((*names, *(start for start, _ in texts)))
    steps = 0
    stack = [_Level(1, 1)]
    while stack:
        level = stack[-1]
        at, is_key = level.at, level.at_key
        if level.left == 0 or at >= len(plain):
            stack.pop()
            continue
        level.pass_by(_end(plain, at))
        if (steps := steps + _steps(level.at - at)) > _MOST_STEPS:
            del buffer[at:]
            break
        if is_key and at in names and level.left:
            value_at = level.at
            level.pass_by(_end(plain, value_at))
            steps += _erase(plain, buffer, value_at, values)
        elif (following := bisect_right(places, at)) < len(places) and places[following] < level.at:
            if plain[at] in _TEXTS:
                _erase_assigned(buffer, level.at, texts[bisect_right(texts, (at,)) :])
            else:
                stack += _inside(plain, at)
    return values


def _erase_assigned(buffer: bytearray, end: int, texts: list[tuple[int, int]]) -> None:
    """Writes over what the text that ends there gives to names; a match may have gone on behind it."""
    for start, stop in texts:
        if start >= end:
            break
        buffer[start : min(stop, end)] = b"*" * (min(stop, end) - start)


def _erase(plain: bytes, buffer: bytearray, at: int, values: list[bytes]) -> int:
    """Writes over all texts, numbers and names of the term that begins there, keys of its maps aside; gives how many
    terms that were. One of too many is cut off."""
    steps = 0
    stack = [_Level(at, 1)]
    while stack:
        level = stack[-1]
        here, is_key = level.at, level.is_map and level.at_key
        if level.left == 0 or here >= len(plain):
            stack.pop()
            continue
        level.pass_by(_end(plain, here))
        if (steps := steps + _steps(level.at - here)) > _MOST_STEPS:
            del buffer[here:]
            break
        if is_key:
            continue
        if inner := _inside(plain, here):
            stack += inner
        else:
            _erase_leaf(plain, buffer, here, level.at, values)
    return steps


def _erase_leaf(plain: bytes, buffer: bytearray, at: int, end: int, values: list[bytes]) -> None:
    tag = plain[at]
    if (width := _LENGTHS.get(tag) or _DIGITS.get(tag)) is not None:
        start = at + 1 + width
        text = plain[start:end]
        if tag in _ATOMS and text in _PLAIN:
            return
        if tag in _TEXTS:
            values.append(text)
        buffer[start:end] = b"*" * len(text)
    elif tag in _FIXED:
        buffer[at + 1 : end] = bytes(end - at - 1)
    elif tag == FLOAT_EXT:
        buffer[at + 1 : end] = _ZERO_FLOAT[: end - at - 1]


class _Level:
    """A container on the way: where its next element begins, and how many are left."""

    __slots__ = ("at", "is_map", "is_pair", "left")

    def __init__(self, at: int, left: int, *, is_map: bool = False, is_pair: bool = False) -> None:
        self.at = at
        self.left = left
        self.is_map = is_map
        self.is_pair = is_pair

    @property
    def at_key(self) -> bool:
        """Whether the next element names the one behind it."""
        return (self.is_map or self.is_pair) and self.left % 2 == 0

    def pass_by(self, end: int) -> None:
        """The next element ends there."""
        self.at, self.left = end, self.left - 1


def _steps(size: int) -> int:
    """What it costs to find the end of a term of so many bytes."""
    return 1 + (size >> 11)


def _end(plain: bytes, at: int) -> int:
    """Where the term ends that begins there; the end of all where it is cut off or broken."""
    try:
        return skip(plain, at)
    except DecodeError:
        return len(plain)


def _inside(plain: bytes, at: int) -> list[_Level]:
    """The elements of a container; nothing of what is none."""
    tag = plain[at]
    if tag == SMALL_TUPLE_EXT:
        count = int.from_bytes(plain[at + 1 : at + 2])
        return [_Level(at + 2, count, is_pair=count == 2)]
    count = int.from_bytes(plain[at + 1 : at + 5])
    if tag == MAP_EXT:
        return [_Level(at + 5, 2 * count, is_map=True)]
    if tag == LIST_EXT:
        return [_Level(at + 5, count + 1)]  # and its tail
    if tag == LARGE_TUPLE_EXT:
        return [_Level(at + 5, count)]
    return []
