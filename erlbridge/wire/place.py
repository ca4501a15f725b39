"""A term together with where it stands, so that a wrong value is refused with its path and with what was expected.

Knows how Elixir spells things (atoms or binaries for keys and names); knows no message and no verb.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from erlbridge.codec import Atom, BitString, ImproperList, TermMap
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_KEYS

_SHOWN_CHARACTERS = 60
_LISTED_NAMES = 20
_NAMED = "an atom or a binary"


@dataclass(slots=True)  # one for each value of a payload: frozen at run time, it would cost twice as much to make
class Place:
    """A term at a path such as `payload.training_data[3]`. Each reader gives the value or raises `ValidationError`.

    >>> Place({b"k": 3}, "payload").entries()["k"].integer(minimum=1)
    3
    """

    term: Final[object]
    path: Final[str]

    def refused(self, expected: str) -> ValidationError:
        """The error for this place: what was expected, and what is there."""
        return ValidationError(f"expected {expected}, got {shown(self.term)}", self.path)

    def entries(self) -> dict[str, Place]:
        """The map's entries by name. Keys are atoms or binaries; the same name in both spellings is refused."""
        return {name: Place(value, f"{self.path}.{_cut(name)}") for name, value in self.named().items()}

    def named(self) -> dict[str, object]:
        """The same entries as they are, for who reads few of them: a place for each is most of what a map costs."""
        if not isinstance(self.term, Mapping):
            raise self.refused("a map")
        if len(self.term) > MAX_KEYS:
            raise self.refused(f"at most {MAX_KEYS} keys")
        found: dict[str, object] = {}
        for key, value in self.term.items():
            # And so is one for each key.
            if isinstance(key, str):
                name = key
            else:
                name = str(key) if isinstance(key, Atom) else Place(key, f"a key of {self.path}").text(_NAMED)
            if name in found:
                raise ValidationError(f"the key `{_cut(name)}` is there twice, as an atom and as a binary", self.path)
            found[name] = value
        return found

    def elements(self) -> list[object]:
        """The elements of a proper list, as they are."""
        if not isinstance(self.term, list):
            raise self.refused("a list")
        return self.term

    def items(self) -> Iterator[Place]:
        """The elements of a proper list, each with its path."""
        return (Place(element, f"{self.path}[{index}]") for index, element in enumerate(self.elements()))

    def name(self) -> str:
        """The text of an atom or a UTF-8 binary."""
        if isinstance(self.term, Atom):
            return str(self.term)
        return self.text(_NAMED)

    def text(self, expected: str = "a binary") -> str:
        """The text of a UTF-8 binary."""
        if isinstance(self.term, str):
            return self.term
        if not isinstance(self.term, bytes):
            raise self.refused(expected)
        try:
            return self.term.decode()
        except UnicodeDecodeError:
            raise self.refused(f"{expected} of UTF-8 text") from None

    def atom(self) -> str:
        """The name of an atom."""
        if not isinstance(self.term, Atom):
            raise self.refused("an atom")
        return str(self.term)

    def integer(self, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """An integer within its bounds, both inclusive."""
        if isinstance(self.term, bool) or not isinstance(self.term, int):
            raise self.refused("an integer")
        self._within(self.term, minimum, maximum)
        return self.term

    def number(self, *, minimum: float | None = None, maximum: float | None = None) -> float:
        """An integer or float within its bounds, both inclusive."""
        if isinstance(self.term, bool) or not isinstance(self.term, int | float):
            raise self.refused("a number")
        self._within(self.term, minimum, maximum)
        try:
            return float(self.term)
        except OverflowError:
            raise self.refused("a number within a float's range") from None

    def boolean(self) -> bool:
        """`true` or `false`."""
        if not isinstance(self.term, bool):
            raise self.refused("true or false")
        return self.term

    def choice(self, allowed: Collection[str]) -> str:
        """One of the allowed names, as an atom or a binary."""
        found = self.name()
        if found not in allowed:
            raise self.refused(f"one of {', '.join(sorted(allowed))}{nearest(found, allowed)}")
        return found

    def only(self, known: Collection[str]) -> dict[str, Place]:
        """The map's entries, none of them unknown."""
        entries = self.entries()
        for name in entries:
            if name not in known:
                raise ValidationError(
                    f"unknown key `{_cut(name)}`{nearest(name, known)}; known are {', '.join(sorted(known))}", self.path
                )
        return entries

    def required(self, entries: dict[str, Place], key: str) -> Place:
        """The entry of this map that must be there."""
        if key not in entries:
            raise ValidationError(f"expected the key `{key}`", self.path)
        return entries[key]

    def _within(self, value: float, minimum: float | None, maximum: float | None) -> None:
        if minimum is not None and value < minimum:
            raise self.refused(f"at least {minimum}")
        if maximum is not None and value > maximum:
            raise self.refused(f"at most {maximum}")


def nearest(name: str, known: Collection[str], alike: float = 0.6) -> str:
    """A hint such as ` (did you mean `max_demos`?)`, empty when nothing is near: `alike` is the least share of common
    characters (`difflib`)."""
    from difflib import get_close_matches  # noqa: PLC0415 - only when something is wrong

    near = get_close_matches(name[:_SHOWN_CHARACTERS], known, n=1, cutoff=alike)
    return f" (did you mean `{near[0]}`?)" if near else ""


def listed(names: Collection[str]) -> str:
    """The first names of a map, bounded whatever its size."""
    first = [_cut(name) for name in islice(names, _LISTED_NAMES)]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return f"{', '.join(f'`{name}`' for name in first)}{more}" if first else "no key"


def shown(term: object) -> str:
    """A term in a few words, bounded whatever its size, as Elixir would write the small ones."""
    match term:
        case None | bool():
            return "nil" if term is None else str(term).lower()
        case Atom():
            return f":{_cut(str(term))}"
        case int() if term.bit_length() > 128:
            return f"an integer of {term.bit_length()} bits"
        case int() | float():
            return str(term)
        case str():
            return f'"{_cut(term)}"'
        case bytes():
            return f'"{_cut(term[: 4 * _SHOWN_CHARACTERS].decode(errors="backslashreplace"))}"'
        case dict() | TermMap():
            return f"a map of {len(term)} entries"
        case list():
            return f"a list of {len(term)} elements" if term else "an empty list"
        case tuple():
            return f"a tuple of {len(term)} elements"
        case ImproperList():
            return "an improper list"
        case BitString():
            return "a bitstring"
        case _:
            return f"a {type(term).__name__.lower()}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def given(entries: Mapping[str, Place], key: str) -> bool:
    """Whether an entry is there and is not nil."""
    return key in entries and entries[key].term is not None
