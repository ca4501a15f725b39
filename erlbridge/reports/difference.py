"""What has changed in a prompt: lines that went, came or stayed, and in a line that was rewritten which words.

Bounded: what is compared is at most some hundred lines behind those that both texts begin and before those that both
end with, words only where a line has few of them, and all of it with a limited effort, since a hostile text could make
the comparison long otherwise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from itertools import accumulate
from typing import Final, Literal, TypeAlias

_MOST_LINES: Final = 200
_MOST_WORDS: Final = 300
_MOST_STEPS: Final = 1_000_000
"""Of comparing, each with a pair of lines or words that are equal: about a tenth of a second."""
_LINES: Final = re.compile(r"\r\n|\r|\n")
_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]")

Kind: TypeAlias = Literal["same", "gone", "new"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of either text, in pieces; of each piece is known whether it is what makes the difference."""

    kind: Kind
    pieces: tuple[tuple[str, bool], ...]


class Effort:
    """What may be spent on comparing, for all texts that are shown together; what is left when it is spent is shown as
    gone and new."""

    def __init__(self, steps: int = _MOST_STEPS) -> None:
        self.left = steps

    def take(self, steps: int) -> bool:
        """Spends so much; False when it is more than what was left."""
        self.left -= steps
        return self.left >= 0


class _Matcher(SequenceMatcher[str]):
    """Compares within an effort. How much is spent depends on what the texts repeat: of `ababab…` and `abcabc…` each
    match is short, and all pairs that remain are looked at again for the next."""

    def __init__(self, one: list[str], two: list[str], effort: Effort) -> None:
        super().__init__(None, one, two, autojunk=False)
        self._effort = effort
        times = Counter(two)
        self._pairs = list(accumulate((1 + times[each] for each in one), initial=0))

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        end = len(self._pairs) - 1 if ahi is None else ahi
        if not self._effort.take(self._pairs[end] - self._pairs[alo]):
            return Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


def difference(before: str, after: str, effort: Effort | None = None) -> Iterator[Line]:
    """The lines of both texts in the order of reading: what went before what came in its place."""
    effort = effort or Effort()
    old, new = _LINES.split(before), _LINES.split(after)
    begins = _alike(old, new)
    ends = _alike(old[begins:][::-1], new[begins:][::-1])
    yield from (_whole("same", line) for line in old[:begins])
    yield from _rewritten(old[begins : len(old) - ends], new[begins : len(new) - ends], effort)
    yield from (_whole("same", line) for line in old[len(old) - ends :])


def _alike(one: Sequence[str], two: Sequence[str]) -> int:
    """With how many equal lines both begin."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _rewritten(old: list[str], new: list[str], effort: Effort) -> Iterator[Line]:
    if len(old) > _MOST_LINES or len(new) > _MOST_LINES or effort.left < 0:
        yield from (_whole("gone", line) for line in old)
        yield from (_whole("new", line) for line in new)
        return
    for what, at, end, to, stop in _Matcher(old, new, effort).get_opcodes():
        if what == "equal":
            yield from (_whole("same", line) for line in old[at:end])
        elif what == "replace" and end - at == stop - to:
            rewritten = [
                _words(_WORDS.findall(one), _WORDS.findall(two), effort)
                for one, two in zip(old[at:end], new[to:stop], strict=True)
            ]
            yield from (gone for gone, _ in rewritten)
            yield from (came for _, came in rewritten)
        else:
            yield from (_whole("gone", line) for line in old[at:end])
            yield from (_whole("new", line) for line in new[to:stop])


def _whole(kind: Kind, line: str) -> Line:
    return Line(kind, ((line, False),))


def _words(one: list[str], two: list[str], effort: Effort) -> tuple[Line, Line]:
    """A line that was rewritten; which words differ is marked where most of it has stayed."""
    if len(one) <= _MOST_WORDS and len(two) <= _MOST_WORDS and effort.left >= 0:
        matcher = _Matcher(one, two, effort)
        if matcher.ratio() >= 0.5:
            codes = matcher.get_opcodes()
            gone = _pieces((one[at:end], what != "equal") for what, at, end, _, _ in codes)
            came = _pieces((two[to:stop], what != "equal") for what, _, _, to, stop in codes)
            return Line("gone", gone), Line("new", came)
    return _whole("gone", "".join(one)), _whole("new", "".join(two))


def _pieces(found: Iterator[tuple[Sequence[str], bool]]) -> tuple[tuple[str, bool], ...]:
    return tuple(("".join(words), differs) for words, differs in found if words)
