"""Rows of a file, and what is wrong with one, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import BinaryIO, Final, TypeAlias

from erlbridge.limits import MAX_EXAMPLE_BYTES

MAX_LINE_BYTES: Final = 4 * MAX_EXAMPLE_BYTES
"""Longest line. An example may have a quarter of it; the rest is for escapes and spaces."""

MAX_NAMES: Final = 10_000
"""Most columns of a table: as many as an example may have keys."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its values by name, in the order of `ordered`, and the number of the line on which it begins, from 1; in
    Parquet of the row itself."""

    number: int
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is none: where it begins, what is wrong, and the column in characters from 1 where that is known."""

    number: int
    problem: str
    column: int | None = None


Rows: TypeAlias = Iterator[Row | BadRow]


def ordered(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A map whose keys stand by their characters. That is Erlang's order of the binaries they become, so that its term
    is the deterministic one as it stands, at a thirtieth of the cost of finding the order there.

    Raises `ValueError` for a key that stands twice.
    """
    if len(pairs) > 1:
        pairs.sort(key=_NAME)
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(one for (one, _), (other, _) in pairwise(pairs) if one == other)
        raise ValueError(f"the key {twice!r} stands twice")
    return found


_NAME: Final = itemgetter(0)


class Unreadable(Exception):
    """The file cannot be read on, and no row can be passed over to mend that.

    Attributes:
        number: The line or row as far as which it was read, 0 when that is none.
    """

    def __init__(self, problem: str, number: int = 0) -> None:
        super().__init__(problem)
        self.number = number


@dataclass(slots=True)
class Input:
    """A file that is open.

    Attributes:
        stream: Its plain bytes, unpacked.
        size: How many bytes the file itself has; None when nobody knows.
        reached: How many of them have been read.
    """

    stream: BinaryIO
    size: int | None
    reached: int = 0
