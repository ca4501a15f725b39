"""How a host names the programs that a node keeps. Knows payloads as values; knows no disk."""

from __future__ import annotations

import re
from typing import Final

from erlbridge.wire.place import Place

_PROGRAM_ID: Final = re.compile(r"program:[0-9a-f]{64}\Z")
_A_PROGRAM_ID: Final = "a program_id, `program:` and 64 hexadecimal digits"


def read_program_id(place: Place) -> str:
    """The id of a stored program. It is a file's name, so nothing but its one form is taken."""
    found = place.text(_A_PROGRAM_ID)
    if not _PROGRAM_ID.match(found):
        raise place.refused(_A_PROGRAM_ID)
    return found
