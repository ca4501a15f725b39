"""Several programs that answer together, as a host names them. Knows names; runs nothing."""

from __future__ import annotations

from typing import Final

from erlbridge.wire.place import Place, given

REDUCTIONS: Final = ("majority", "first")
"""How the members' answers become one: the answer whose last output most members give, or that of the first member
that answers at all."""

MAX_MEMBERS: Final = 100
"""Most members of an ensemble, named or made by an optimizer. Each of them runs for each input."""


def parse_members(place: Place) -> list[Place]:
    """The members at a place, not read yet."""
    if not 1 <= len(place.elements()) <= MAX_MEMBERS:
        raise place.refused(f"a list of 1 to {MAX_MEMBERS} programs")
    return list(place.items())


def parse_reduction(entries: dict[str, Place]) -> str:
    """How the answers become one."""
    return entries["reduce"].choice(REDUCTIONS) if given(entries, "reduce") else REDUCTIONS[0]
