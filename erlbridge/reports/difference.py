"""What has changed in a prompt: lines that went, came or stayed, and in a line that was rewritten which words.

Bounded: what is compared is at most some hundred lines, and words only where a line has few of them, since a hostile
text could make the comparison long otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal, TypeAlias

_MOST_LINES: Final = 400
_MOST_WORDS: Final = 300
_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]")

Kind: TypeAlias = Literal["same", "gone", "new"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of either text, in pieces; of each piece is known whether it is what makes the difference."""

    kind: Kind
    pieces: tuple[tuple[str, bool], ...]


def difference(before: str, after: str) -> Iterator[Line]:
    """The lines of both texts in the order of reading: what went before what came in its place."""
    old, new = before.split("\n"), after.split("\n")
    if len(old) > _MOST_LINES or len(new) > _MOST_LINES:
        yield from (_whole("gone", line) for line in old)
        yield from (_whole("new", line) for line in new)
        return
    for what, at, end, to, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            yield from (_whole("same", line) for line in old[at:end])
        elif what == "replace" and end - at == stop - to:
            pairs = [_words(one, two) for one, two in zip(old[at:end], new[to:stop], strict=True)]
            yield from (gone for gone, _ in pairs)
            yield from (came for _, came in pairs)
        else:
            yield from (_whole("gone", line) for line in old[at:end])
            yield from (_whole("new", line) for line in new[to:stop])


def _whole(kind: Kind, line: str) -> Line:
    return Line(kind, ((line, False),))


def _words(old: str, new: str) -> tuple[Line, Line]:
    """A line that was rewritten; which words differ is marked where most of it has stayed."""
    one, two = _WORDS.findall(old), _WORDS.findall(new)
    if len(one) <= _MOST_WORDS and len(two) <= _MOST_WORDS:
        matcher = SequenceMatcher(None, one, two, autojunk=False)
        if matcher.ratio() >= 0.5:
            codes = matcher.get_opcodes()
            gone = _pieces((one[at:end], what != "equal") for what, at, end, _, _ in codes)
            came = _pieces((two[to:stop], what != "equal") for what, _, _, to, stop in codes)
            return Line("gone", gone), Line("new", came)
    return _whole("gone", old), _whole("new", new)


def _pieces(found: Iterator[tuple[Sequence[str], bool]]) -> tuple[tuple[str, bool], ...]:
    return tuple(("".join(words), differs) for words, differs in found if words)
