"""What a host asks of the programs that a node keeps: the payloads that the node reads and answers itself.

Knows payloads as values; knows no disk. What needs a worker is in `jobs`.
"""

from __future__ import annotations

import re
from typing import Final

from erlbridge.core.paging import Page, read_page
from erlbridge.wire.place import Place

_PROGRAM_ID: Final = re.compile(r"program:[0-9a-f]{64}\Z")
_A_PROGRAM_ID: Final = "a program_id, `program:` and 64 hexadecimal digits"


def read_program_id(place: Place) -> str:
    """The id of a stored program. It is a file's name, so nothing but its one form is taken."""
    found = place.text(_A_PROGRAM_ID)
    if not _PROGRAM_ID.match(found):
        raise place.refused(_A_PROGRAM_ID)
    return found


def parse_list_programs(payload: object) -> Page:
    """The stored programs, newest first. Raises `ValidationError` with the path, as every reader here."""
    return read_page(payload, lambda name: _PROGRAM_ID.match(name) is not None)


def parse_program_id(payload: object) -> str:
    """The one program that a payload names."""
    place = Place(payload, "payload")
    return read_program_id(place.required(place.only(("program_id",)), "program_id"))
