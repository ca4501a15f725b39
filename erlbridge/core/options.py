"""One option of an optimizer: its type, its range, and how it is read from a request.

Knows types and ranges; `core.optimizers` says which optimizer takes which, and what depends on the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from erlbridge.core.ensembles import MAX_MEMBERS
from erlbridge.core.examples import plain
from erlbridge.core.requests import read_program_id
from erlbridge.wire.place import Place

_MAX_STEPS: Final = 10
_STRATEGY: Final = re.compile(rf"[pw](?: -> [pw]){{0,{_MAX_STEPS - 1}}}\Z")

Kind = Literal["integer", "number", "boolean", "choice", "strategy", "programs", "map"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. Bounds are inclusive; `nil` is taken only where `nullable`."""

    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False

    def read(self, place: Place) -> object:
        """The option's value, or `ValidationError` with its path."""
        if place.term is None and self.nullable:
            return None
        match self.kind:
            case "integer":
                return place.integer(
                    minimum=None if self.minimum is None else int(self.minimum),
                    maximum=None if self.maximum is None else int(self.maximum),
                )
            case "number":
                return place.number(minimum=self.minimum, maximum=self.maximum)
            case "boolean":
                return place.boolean()
            case "choice":
                return place.choice(self.choices)
            case "strategy":
                return _strategy(place)
            case "programs":
                return _programs(place)
            case "map":
                return {name: plain(value) for name, value in place.entries().items()}
            case _:
                assert_never(self.kind)

    @property
    def allowed(self) -> str:
        """What is taken, in a few words, as the documentation has it: `1..1000`, `light, medium, heavy`."""
        match self.kind:
            case "integer" | "number":
                return f"{self.minimum:.9g}..{self.maximum:.9g}"
            case "boolean":
                return "true, false"
            case "choice":
                return ", ".join(self.choices)
            case "strategy":
                return f"1..{_MAX_STEPS} steps"
            case "programs":
                return f"2..{MAX_MEMBERS} programs"
            case "map":
                return "a map"
            case _:
                assert_never(self.kind)


def _strategy(place: Place) -> str:
    found = place.name()
    if not _STRATEGY.match(found):
        raise place.refused(f"steps `p` (prompt) and `w` (weights) joined by ` -> `, at most {_MAX_STEPS} of them")
    return found


def _programs(place: Place) -> tuple[str | Place, ...]:
    """Stored programs by their ids, given ones as the places of their envelopes, which the worker reads."""
    if not 2 <= len(place.elements()) <= MAX_MEMBERS:
        raise place.refused(f"a list of 2 to {MAX_MEMBERS} program ids or programs")
    return tuple(read_program(item) for item in place.items())


def read_program(place: Place) -> str | Place:
    """A stored program by its id, a given one as the place of its envelope."""
    if isinstance(place.term, Mapping):
        return place
    return read_program_id(place)
