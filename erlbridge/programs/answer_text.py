"""A model's answer while it is still being written: what of it may be shown already, and which field it belongs to.

Knows text that comes in pieces, cut anywhere; knows no model and no event. Both readers here end with exactly what the
whole answer gives in one piece: `CleanText` what `Secrets.redact_answer` and `predictions.text` make of it, `FieldText`
what DSPy's ChatAdapter parses out of it. DSPy's own StreamListener promises neither: it drops a text's `[[`, and a
field that comes whole in one piece.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import regex  # type: ignore[import-untyped]

from erlbridge.programs.failures import Secrets
from erlbridge.programs.predictions import text

_HEADER: Final = re.compile(r"\[\[ ## (\w+) ## \]\]")
"""As in `dspy.adapters.chat_adapter`."""

_HEADER_BEGUN: Final = re.compile(r"\[{1,2}\Z|\[\[ #{0,2}\Z|\[\[ ## \w*\Z|\[\[ ## \w+ (#{0,2}|## \]?)\Z")
_LINE_END: Final = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
"""As `str.splitlines`, with which the adapter begins."""


class CleanText:
    """Takes secrets out of a text that comes in pieces. What may be the beginning of one is held back.

    >>> clean = CleanText(Secrets({"OPENAI_API_KEY": "sk-123456"}))
    >>> clean.feed("the key sk-1"), clean.feed("23456, or sk-"), clean.feed("ip"), clean.end()
    ('the key ', '[redacted], or ', 'sk-ip', '')
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._patterns = [regex.compile(pattern.pattern) for pattern in secrets.key_patterns]
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may be shown now."""
        held = self._held + piece
        cut = self._safe_length(held)
        self._held = held[cut:]
        return self._clean(held[:cut])

    def end(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return self._clean(held)

    def _clean(self, whole: str) -> str:
        return text(self._secrets.redact_answer(whole))

    def _safe_length(self, held: str) -> int:
        """The length of what no later piece can change: neither a secret nor a surrogate pair is cut by it."""
        cut = len(held)
        if cut and "\ud800" <= held[-1] < "\udc00":
            cut -= 1
        found: list[tuple[int, int]] = []
        for pattern in self._patterns:
            at = 0
            while match := pattern.search(held, at, partial=True):
                if match.partial or match.end() == len(held):
                    cut = min(cut, match.start())
                    break
                found.append(match.span())
                at = match.end()
        # From the last to the first: what the cut falls into moves it to the left.
        for start, end in sorted(found, reverse=True):
            if start < cut < end:
                cut = start
        return cut


@dataclass(frozen=True, slots=True)
class Piece:
    """The next text of a field; empty at most when it is the last."""

    field: str
    text: str
    is_last: bool = False


class FieldText:
    """Finds fields in an answer of DSPy's chat format that comes in pieces.

    A field's pieces together are its parsed text: without the white space around it, its lines ended by newlines. What
    may turn out to be white space at its end, or the header of the next field, is held back.

    Args:
        fields: The names of the fields that are wanted; they are text.

    >>> reader = FieldText(["answer"])
    >>> parts = ("[[ ## ans", "wer ## ]]\\nA b", "ee\\n\\n[[ ## do", "ne ## ]]")
    >>> [[piece.text for piece in reader.feed(part)] for part in parts]
    [[], ['A b'], ['ee'], ['']]
    """

    def __init__(self, fields: Collection[str]) -> None:
        self._left = set(fields)
        self._rest = ""
        self._field: str | None = None
        self._space = ""
        self._begun = False
        self._inside_line = False
        self._header_line = False

    def feed(self, piece: str) -> list[Piece]:
        """What the next piece adds to fields."""
        self._rest += piece
        return [found for found in self._advance(ended=False) if found.text or found.is_last]

    def end(self) -> list[Piece]:
        """What is left when the answer is over."""
        pieces = [*self._advance(ended=True), *self._close()]
        return [found for found in pieces if found.text or found.is_last]

    def _advance(self, *, ended: bool) -> Iterator[Piece]:
        while match := _LINE_END.search(self._rest):
            if match[0] == "\r" and match.end() == len(self._rest) and not ended:
                break  # it may be the half of a line's end
            line, self._rest = self._rest[: match.start()], self._rest[match.end() :]
            yield from self._take(line, whole=True)
            yield from self._end_line()
        line = self._rest.removesuffix("\r")
        if self._take_is_due(line, ended=ended):
            self._rest = self._rest[len(line) :]
            yield from self._take(line, whole=ended)

    def _take_is_due(self, line: str, *, ended: bool) -> bool:
        """Whether a line that is not over can be judged: it is no header and cannot become one, or it is one."""
        begun = line.lstrip()
        return bool(ended or self._inside_line or (begun and not _HEADER_BEGUN.match(begun)))

    def _take(self, line: str, *, whole: bool) -> Iterator[Piece]:
        """A line, or what has come of it."""
        header = None if self._inside_line else _HEADER.match(line.strip())
        if header is None:
            self._inside_line = not whole
            yield from self._add(line)
            return
        yield from self._close()
        name = header[1]
        self._field = name if name in self._left else None
        self._left.discard(name)
        self._begun, self._space = False, ""
        self._inside_line = not whole
        yield from self._add(line[header.end() :])  # of the stripped line's header, as the adapter cuts it
        self._header_line = True

    def _end_line(self) -> Iterator[Piece]:
        if self._header_line:
            self._space = ""  # the adapter strips what follows a header on its line
        self._inside_line = self._header_line = False
        yield from self._add("\n")

    def _add(self, more: str) -> Iterator[Piece]:
        if self._field is None:
            return
        full = self._space + more
        shown = full.rstrip()
        self._space = full[len(shown) :]
        if shown and not self._begun:
            shown = shown.lstrip()
            self._begun = True
        yield Piece(self._field, shown)

    def _close(self) -> Iterator[Piece]:
        if self._field is not None:
            yield Piece(self._field, "", is_last=True)
            self._field = None
