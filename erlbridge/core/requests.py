"""What a host asks of the programs that a node keeps: the payloads that the node reads and answers itself.

Knows payloads as values; knows no disk. What needs a worker is in `jobs`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from erlbridge.limits import LISTED_PROGRAMS, MAX_LISTED_PROGRAMS
from erlbridge.wire.place import Place, given

_PROGRAM_ID: Final = re.compile(r"program:[0-9a-f]{64}\Z")
_CURSOR: Final = re.compile(r"(-?[0-9]{1,19})/(program:[0-9a-f]{64})\Z")
_A_PROGRAM_ID: Final = "a program_id, `program:` and 64 hexadecimal digits"


def read_program_id(place: Place) -> str:
    """The id of a stored program. It is a file's name, so nothing but its one form is taken."""
    found = place.text(_A_PROGRAM_ID)
    if not _PROGRAM_ID.match(found):
        raise place.refused(_A_PROGRAM_ID)
    return found


@dataclass(frozen=True, slots=True)
class Cursor:
    """A program's place in the list, newest first: when it was stored, in nanoseconds since 1970, then its id.

    It stays a place when the program itself is deleted, so a listing goes on from there.

    >>> str(Cursor(17, "program:ab"))
    '17/program:ab'
    """

    stored_at_ns: int
    program_id: str

    def __str__(self) -> str:
        return f"{self.stored_at_ns}/{self.program_id}"


@dataclass(frozen=True, slots=True)
class ListPrograms:
    """The stored programs, newest first: at most `limit` of them, those behind `after`."""

    limit: int
    after: Cursor | None


def parse_list_programs(payload: object) -> ListPrograms:
    """Raises `ValidationError` with the path, as every reader here."""
    place = Place(payload, "payload")
    entries = place.only(("limit", "after"))
    limit = LISTED_PROGRAMS
    if given(entries, "limit"):
        limit = entries["limit"].integer(minimum=1, maximum=MAX_LISTED_PROGRAMS)
    return ListPrograms(limit, _read_cursor(entries["after"]) if given(entries, "after") else None)


def parse_program_id(payload: object) -> str:
    """The one program that a payload names."""
    place = Place(payload, "payload")
    return read_program_id(place.required(place.only(("program_id",)), "program_id"))


def _read_cursor(place: Place) -> Cursor:
    expected = "the `next` of an earlier answer"
    found = _CURSOR.match(place.text(expected))
    if found is None:
        raise place.refused(expected)
    return Cursor(int(found[1]), found[2])
