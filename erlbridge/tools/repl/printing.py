"""Blocks on a terminal, in its colours and its width; in a pipe plainly, or as lines of JSON. rich, and nothing else,
draws.

Texts go to rich as they are, never as its markup, and through `shown_safely`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Final, Literal, Protocol, TypeAlias, assert_never

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text as RichText

from erlbridge.tools.repl.blocks import Block, Source, Style, Table, Text, shown_safely

_LAYOUT_WIDTH: Final = 120
"""Of a pipe, where nothing but terms is broken into lines: somebody may search for what stands in one."""
_GAP: Final = "  "
_NARROWEST: Final = 8
Background: TypeAlias = Literal["dark", "light"]
_STYLES: Final[dict[Background, dict[Style, str]]] = {
    "dark": {
        "plain": "", "dim": "grey62", "accent": "bright_cyan", "good": "bright_green", "warning": "yellow",
        "bad": "bright_red",
    },
    "light": {
        "plain": "", "dim": "grey42", "accent": "blue", "good": "dark_green", "warning": "dark_orange3", "bad": "red3",
    },
}  # fmt: skip


class Printer(Protocol):
    """Where blocks go."""

    @property
    def width(self) -> int:
        """Characters in a line that a term is laid out for."""

    def show(self, blocks: Iterable[Block]) -> None:
        """Draws blocks as they come."""


class Drawing:
    """Blocks on standard output."""

    def __init__(self, *, terminal: bool, background: Background = "dark") -> None:
        self._terminal = terminal
        self._styles = _STYLES[background]
        self._syntax = f"ansi_{background}"
        self._console = Console(
            file=sys.stdout, markup=False, highlight=False, emoji=False, force_terminal=terminal or None
        )

    @property
    def width(self) -> int:
        """Characters in a line."""
        return self._console.width if self._terminal else _LAYOUT_WIDTH

    def show(self, blocks: Iterable[Block]) -> None:
        """Draws blocks as they come."""
        for block in blocks:
            match block:
                case Text(text, style):
                    self._console.print(RichText(shown_safely(text), self._styles[style]), soft_wrap=True)
                case Source(text, language):
                    self._source(shown_safely(text), language)
                case Table():
                    self._table(block)
                case _:
                    assert_never(block)

    def _source(self, text: str, language: str) -> None:
        if not self._terminal:
            self._console.print(RichText(text), soft_wrap=True)
            return
        found = Syntax(text, language, theme=self._syntax, background_color="default").highlight(text)
        found.rstrip()
        self._console.print(found, soft_wrap=True)

    def _table(self, table: Table) -> None:
        lines = _lines(table, self._console.width if self._terminal else None)
        for line, style in zip(lines, ("dim", *(row.style for row in table.rows)), strict=True):
            self._console.print(RichText(line, self._styles[style]), soft_wrap=True)


def _lines(table: Table, width: int | None) -> Iterator[str]:
    """The heading and a line for each row. What is wider than `width` is cut, first in the columns that give way."""
    rows = [tuple(column.name for column in table.columns)]
    rows += [tuple(shown_safely(cell).replace("\n", " ") for cell in row.cells) for row in table.rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    if width is not None:
        _narrowed(widths, table, width)
    for row in rows:
        cells = (
            _fitted(cell, widths[at], right=column.right)
            for at, (cell, column) in enumerate(zip(row, table.columns, strict=True))
        )
        line = _GAP.join(cells).rstrip()
        yield line if width is None or cell_len(line) <= width else _fitted(line, width, right=False)


def _narrowed(widths: list[int], table: Table, width: int) -> None:
    giving = [at for at, column in enumerate(table.columns) if column.gives_way]
    left = width - sum(widths) + sum(widths[at] for at in giving) - len(_GAP) * (len(widths) - 1)
    for place, at in enumerate(giving):
        # The last has what those before it leave, which is most of it.
        share = left if place == len(giving) - 1 else left // 3
        widths[at] = max(_NARROWEST, min(widths[at], share))
        left -= widths[at]


def _fitted(cell: str, width: int, *, right: bool) -> str:
    taken = cell_len(cell)
    if taken > width:
        return set_cell_size(cell, max(0, width - 1)) + "…"
    return " " * (width - taken) + cell if right else cell + " " * (width - taken)


class JsonLines:
    """Blocks as lines of JSON: an object for each row of a table, and one for each text."""

    @property
    def width(self) -> int:
        """Characters in a line of what is laid out."""
        return _LAYOUT_WIDTH

    def show(self, blocks: Iterable[Block]) -> None:
        """Writes blocks as they come."""
        for block in blocks:
            match block:
                case Text(text, style):
                    self._write({"text": text, "style": style})
                case Source(text, language):
                    self._write({"source": text, "language": language})
                case Table(columns, rows):
                    names = [column.name for column in columns]
                    for row in rows:
                        self._write(dict(zip(names, row.cells, strict=True)))
                case _:
                    assert_never(block)

    def _write(self, value: dict[str, str]) -> None:
        print(json.dumps(value, ensure_ascii=False), flush=True)
