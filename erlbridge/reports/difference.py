"""What has changed in a prompt: lines that went, came or stayed, and in a line that was rewritten which words.

Bounded: what is compared is at most some hundred lines behind those that both texts begin and before those that both
end with, and words only where a line has few of them, since a hostile text could make the comparison long otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal, TypeAlias

_MOST_LINES: Final = 200
_MOST_WORDS: Final = 300
_MOST_PAIRS: Final = 500_000
"""Of words that are compared with each other in one text; behind that, rewritten lines are shown whole."""
_LINES: Final = re.compile(r"\r\n|\r|\n")
_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]")

Kind: TypeAlias = Literal["same", "gone", "new"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of either text, in pieces; of each piece is known whether it is what makes the difference."""

    kind: Kind
    pieces: tuple[tuple[str, bool], ...]


def difference(before: str, after: str) -> Iterator[Line]:
    """The lines of both texts in the order of reading: what went before what came in its place."""
    old, new = _LINES.split(before), _LINES.split(after)
    begins = _alike(old, new)
    ends = _alike(old[begins:][::-1], new[begins:][::-1])
    yield from (_whole("same", line) for line in old[:begins])
    yield from _rewritten(old[begins : len(old) - ends], new[begins : len(new) - ends])
    yield from (_whole("same", line) for line in old[len(old) - ends :])


def _alike(one: Sequence[str], two: Sequence[str]) -> int:
    """With how many equal lines both begin."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _rewritten(old: list[str], new: list[str]) -> Iterator[Line]:
    if len(old) > _MOST_LINES or len(new) > _MOST_LINES:
        yield from (_whole("gone", line) for line in old)
        yield from (_whole("new", line) for line in new)
        return
    left = _MOST_PAIRS
    for what, at, end, to, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            yield from (_whole("same", line) for line in old[at:end])
        elif what == "replace" and end - at == stop - to:
            rewritten = []
            for one, two in zip(old[at:end], new[to:stop], strict=True):
                words = _WORDS.findall(one), _WORDS.findall(two)
                left -= len(words[0]) * len(words[1])
                rewritten.append(_words(*words) if left >= 0 else (_whole("gone", one), _whole("new", two)))
            yield from (gone for gone, _ in rewritten)
            yield from (came for _, came in rewritten)
        else:
            yield from (_whole("gone", line) for line in old[at:end])
            yield from (_whole("new", line) for line in new[to:stop])


def _whole(kind: Kind, line: str) -> Line:
    return Line(kind, ((line, False),))


def _words(one: list[str], two: list[str]) -> tuple[Line, Line]:
    """A line that was rewritten; which words differ is marked where most of it has stayed."""
    if len(one) <= _MOST_WORDS and len(two) <= _MOST_WORDS:
        matcher = SequenceMatcher(None, one, two, autojunk=False)
        if matcher.ratio() >= 0.5:
            codes = matcher.get_opcodes()
            gone = _pieces((one[at:end], what != "equal") for what, at, end, _, _ in codes)
            came = _pieces((two[to:stop], what != "equal") for what, _, _, to, stop in codes)
            return Line("gone", gone), Line("new", came)
    return _whole("gone", "".join(one)), _whole("new", "".join(two))


def _pieces(found: Iterator[tuple[Sequence[str], bool]]) -> tuple[tuple[str, bool], ...]:
    return tuple(("".join(words), differs) for words, differs in found if words)
