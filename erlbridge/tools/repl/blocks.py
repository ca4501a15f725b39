"""What commands give: tables, texts and source, as values. Knows no terminal; `printing` draws them.

Whatever a frame holds may stand in them: `shown_safely` keeps a terminal from taking any of it as an order.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Style: TypeAlias = Literal["plain", "dim", "accent", "good", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Of those that `give_way`, ends are cut off where the terminal is too narrow."""

    name: str
    right: bool = False
    gives_way: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Cells in the order of the columns."""

    cells: tuple[str, ...]
    style: Style = "plain"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading for each column."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Lines of prose, or what stands for an empty answer."""

    text: str
    style: Style = "plain"


@dataclass(frozen=True, slots=True)
class Source:
    """A term's text; `language` is what colours it: `elixir`, `erlang`, `python`, `json` or `diff`."""

    text: str
    language: str


Block: TypeAlias = Table | Text | Source

_UNSAFE: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Categories of characters that draw nothing, or move what is drawn: controls, and those that turn the direction of
text."""


def shown_safely(text: str) -> str:
    """The text without anything that a terminal acts upon. Line ends and tabs stay.

    >>> shown_safely("a\\x1b[2Jb")
    'a\\\\e[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNSAFE:
        return character
    if character == "\x1b":
        return "\\e"
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{{{ord(character):x}}}"


def one_line(text: str, limit: int) -> str:
    """The text on one line, cut after `limit` characters.

    >>> one_line("a\\n  b", 10), one_line("abcdef", 4)
    ('a b', 'abc…')
    """
    joined = " ".join(text[: limit * 2].split())
    return joined if len(joined) <= limit and len(text) <= limit * 2 else joined[: limit - 1] + "…"
