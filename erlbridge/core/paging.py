"""Lists by pages, newest first: what a host asks for, and where the next page goes on. Knows payloads as values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from erlbridge.limits import LISTED, MAX_LISTED
from erlbridge.wire.place import Place, given

_CURSOR: Final = re.compile(r"(-?[0-9]{1,19})/([^/]+)\Z")


class Cursor(NamedTuple):
    """A place in such a list: when a thing was stored, in nanoseconds since 1970, then its name.

    It stays a place when the thing itself is deleted, so a listing goes on from there.

    >>> str(Cursor(17, "program:ab"))
    '17/program:ab'
    """

    stored_at_ns: int
    name: str

    def __str__(self) -> str:
        return f"{self.stored_at_ns}/{self.name}"


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` things, those that come behind `after`."""

    limit: int
    after: Cursor | None


def read_page(payload: object, is_name: Callable[[str], bool]) -> Page:
    """The page that a payload asks for, of things with such names. Raises `ValidationError` with the path."""
    place = Place(payload, "payload")
    entries = place.only(("limit", "after"))
    limit = entries["limit"].integer(minimum=1, maximum=MAX_LISTED) if given(entries, "limit") else LISTED
    return Page(limit, _read_cursor(entries["after"], is_name) if given(entries, "after") else None)


def _read_cursor(place: Place, is_name: Callable[[str], bool]) -> Cursor:
    expected = "the `next` of an earlier answer"
    found = _CURSOR.match(place.text(expected))
    if found is None or not is_name(found[2]):
        raise place.refused(expected)
    return Cursor(int(found[1]), found[2])
