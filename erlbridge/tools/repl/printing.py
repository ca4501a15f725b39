"""Blocks on a terminal, in its colours and its width; in a pipe plainly, or as lines of JSON. rich, and nothing else,
draws.

Texts go to rich as they are, never as its markup, and through `shown_safely`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Final, Literal, Protocol, TypeAlias, assert_never

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table as RichTable
from rich.text import Text as RichText

from erlbridge.tools.repl.blocks import Block, Source, Style, Table, Text, shown_safely

_LAYOUT_WIDTH: Final = 120
"""Of a pipe, where nothing but terms is broken into lines: somebody may search for what stands in one."""
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
        if not self._terminal:
            _plain(table)
            return
        drawn = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=self._styles["dim"])
        for column in table.columns:
            drawn.add_column(
                column.name,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
                min_width=None if column.gives_way else self._widest(table, column.name),
            )
        for row in table.rows:
            cells = (RichText(shown_safely(cell).replace("\n", " ")) for cell in row.cells)
            drawn.add_row(*cells, style=self._styles[row.style])
        self._console.print(drawn)

    def _widest(self, table: Table, name: str) -> int:
        """Columns that do not give way keep their width, up to half a line."""
        at = [column.name for column in table.columns].index(name)
        return min(self.width // 2, max((len(shown_safely(row.cells[at])) for row in table.rows), default=0))


def _plain(table: Table) -> None:
    rows = [[column.name for column in table.columns]]
    rows += [[shown_safely(cell).replace("\n", " ") for cell in row.cells] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        )
        print("  ".join(cells).rstrip())


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
