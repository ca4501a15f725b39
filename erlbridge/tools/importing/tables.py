"""Tables of text, CSV by RFC 4180 or with another delimiter: a header with the names, then a row for each example."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from erlbridge.limits import MAX_EXAMPLE_BYTES
from erlbridge.tools.importing.lines import lines
from erlbridge.tools.importing.rows import MAX_NAMES, BadRow, Input, Row, Rows, Unreadable


def read_rows(source: Input, delimiter: str) -> Rows:
    """The rows below the header, every value a text. Empty lines are passed over.

    Raises `Unreadable` for a header without names, or with one twice.
    """
    csv.field_size_limit(MAX_EXAMPLE_BYTES)
    text = _Lines(source)
    cells = csv.reader(text, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    places: list[tuple[str, int]] = []
    while True:
        begins = text.number + 1
        try:
            row = next(cells, None)
        except csv.Error as error:
            ended = str(error) == "unexpected end of data"
            yield BadRow(begins, "a quote is opened and never closed" if ended else f"no CSV: {error}")
            continue
        except _Bad as error:
            yield error.row
            continue
        if row is None:
            break
        if not row:
            continue
        if names is None:
            names = _names(row, begins)
            places = sorted(zip(names, range(len(names)), strict=True))  # as `ordered`, once for all rows
        elif len(row) != len(names):
            yield BadRow(begins, f"expected {len(names)} cells, as the header has, got {len(row)}")
        else:
            yield Row(begins, {name: row[at] for name, at in places})
    if names is None:
        raise Unreadable("expected a header with the names of the columns, got an empty file", 1)


class _Bad(Exception):
    def __init__(self, row: BadRow) -> None:
        super().__init__(row.problem)
        self.row = row


class _Lines:
    """Lines for the parser, with the number of the last it was given."""

    def __init__(self, source: Input) -> None:
        self.number = 0
        self._lines = lines(source.stream)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if isinstance(line, BadRow):
            raise _Bad(line)  # the parser begins anew behind it
        return line


def _names(row: list[str], line: int) -> list[str]:
    names = [name.strip() for name in row]
    if len(names) > MAX_NAMES:
        raise Unreadable(f"expected at most {MAX_NAMES} columns, got {len(names)}", line)
    for index, name in enumerate(names):
        if not name:
            raise Unreadable(f"column {index + 1} has no name in the header", line)
        if name in names[:index]:
            raise Unreadable(f"two columns have the name {name!r}", line)
    return names
