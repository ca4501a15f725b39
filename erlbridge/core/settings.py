"""The kinds of values that a setting may have: how each is read, from text or from a file's data, and written again.

Knows kinds and their bounds; knows no setting, no file and no environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Protocol

from erlbridge.core.addresses import parse_address
from erlbridge.wire.place import nearest

_UNITS: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?\Z", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*([a-zA-Z]{0,3})\Z", re.ASCII)
_LIST: Final = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?\Z", re.ASCII)
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_SHOWN_CHARACTERS: Final = 60


class Unfit(Exception):
    """A value that a setting cannot have; says what was expected and what was got."""

    def __init__(self, expected: str, got: object, hint: str = "") -> None:
        text = repr(got)
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        super().__init__(f"expected {expected}, got {shown}{hint}")


class Kind(Protocol):
    """One kind of value."""

    @property
    def expected(self) -> str:
        """What is taken, in a few words."""

    def read(self, given: object) -> object:
        """The value that text, or a file's plain data, stands for. Raises `Unfit`."""

    def shown(self, value: object) -> str:
        """The value as text that `read` takes."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number; bounds are inclusive."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def read(self, given: object) -> int:
        found = int(given) if isinstance(given, str) and _WHOLE.match(given.strip()) else given
        if type(found) is not int or not self.least <= found <= self.most:
            raise Unfit(self.expected, given)
        return found

    def shown(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, as a number or with a unit. Bounds are inclusive; 0 is taken where `zero` says its sense.

    >>> Size(4096, 2**40).read("2 MiB")
    2097152
    """

    least: int
    most: int
    zero: str = ""

    @property
    def expected(self) -> str:
        or_zero = f", or 0 ({self.zero})" if self.zero else ""
        return f"bytes from {self.shown(self.least)} to {self.shown(self.most)}{or_zero}, such as 512MiB"

    def read(self, given: object) -> int:
        found = given
        if isinstance(given, str) and (parts := _SIZE.match(given.strip())):
            unit = _UNITS.get(parts[2].lower())
            found = given if unit is None else int(parts[1]) * unit
        if type(found) is not int or not (self.least <= found <= self.most or (self.zero and found == 0)):
            raise Unfit(self.expected, given)
        return found

    def shown(self, value: object) -> str:
        """The shortest exact form.

        >>> Size(0, 2**50).shown(3 * 2**30), Size(0, 2**50).shown(1500)
        ('3GiB', '1500')
        """
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            factor = _UNITS[unit.lower()]
            if isinstance(value, int) and value and value % factor == 0:
                return f"{value // factor}{unit}"
        return str(value)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A span of seconds, with a fraction or not; 0 is taken where `zero` says its sense."""

    least: float
    most: float
    zero: str = ""

    @property
    def expected(self) -> str:
        or_zero = f", or 0 ({self.zero})" if self.zero else ""
        return f"seconds from {self.least:.9g} to {self.most:.9g}{or_zero}"

    def read(self, given: object) -> float:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number and not (isinstance(given, str) and _DECIMAL.match(given.strip())):
            raise Unfit(self.expected, given)
        try:
            found = float(given)  # type: ignore[arg-type]  # a number, or the text of one
        except OverflowError:
            raise Unfit(self.expected, given) from None
        if not (self.least <= found <= self.most or (self.zero and found == 0)):
            raise Unfit(self.expected, given)
        return found

    def shown(self, value: object) -> str:
        return f"{value:.9g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """On or off."""

    @property
    def expected(self) -> str:
        return "true or false"

    def read(self, given: object) -> bool:
        found = _FLAGS.get(given.strip().lower()) if isinstance(given, str) else given
        if not isinstance(found, bool):
            raise Unfit(self.expected, given)
        return found

    def shown(self, value: object) -> str:
        return str(value).lower()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words. YAML's and TOML's `true` and `false` stand for `on` and `off` where these are among them."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return " or ".join((", ".join(self.words[:-1]), self.words[-1]))

    def read(self, given: object) -> str:
        found = {True: "on", False: "off"}[given] if isinstance(given, bool) else given
        if not isinstance(found, str) or found.strip() not in self.words:
            raise Unfit(self.expected, given, nearest(found, self.words) if isinstance(found, str) else "")
        return found.strip()

    def shown(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory's path, as text; whoever resolves it knows what it is relative to."""

    @property
    def expected(self) -> str:
        return "a path"

    def read(self, given: object) -> str:
        if isinstance(given, PurePath):
            return str(given)
        if not isinstance(given, str) or not given or "\0" in given:
            raise Unfit(self.expected, given)
        return given

    def shown(self, value: object) -> str:
        return str(value).encode(errors="surrogateescape").decode(errors="replace")


@dataclass(frozen=True, slots=True)
class File:
    """A file's path, as text, or nothing; whoever resolves it knows what it is relative to."""

    @property
    def expected(self) -> str:
        return "a file's path, or nothing"

    def read(self, given: object) -> str:
        if not isinstance(given, str) or "\0" in given or given.endswith("/"):
            raise Unfit(self.expected, given)
        return given

    def shown(self, value: object) -> str:
        return str(value).encode(errors="surrogateescape").decode(errors="replace")


class _Hidden:
    """Stands in an error for text that may be a password."""

    def __repr__(self) -> str:
        return "something else, which is not shown: it may hold a password"


@dataclass(frozen=True, slots=True)
class Location:
    """The address of a service as a URL, or nothing. It may hold a password, which is never shown.

    Args:
        schemes: Those that are taken; empty takes any.
        example: One, for errors.

    >>> Location(("postgresql",), "").shown("postgresql://app:s3cret@db/store")
    'postgresql://app@db/store'
    """

    schemes: tuple[str, ...]
    example: str

    @property
    def expected(self) -> str:
        return f"an address such as {self.example}, with a password's special characters percent-encoded, or nothing"

    def read(self, given: object) -> str:
        text = given.strip() if isinstance(given, str) else None
        address = parse_address(text) if text else None
        if text is None or (text and (address is None or (self.schemes and address.scheme not in self.schemes))):
            raise Unfit(self.expected, _Hidden())
        return text

    def shown(self, value: object) -> str:
        address = parse_address(value) if isinstance(value, str) and value else None
        return address.shown if address is not None else ""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A list of whole numbers: `0,2-3` as text.

    >>> Numbers(0, 63).read("0,2-3")
    (0, 2, 3)
    """

    least: int
    most: int

    @property
    def expected(self) -> str:
        return f"whole numbers from {self.least} to {self.most}, such as 0,2-3"

    def read(self, given: object) -> tuple[int, ...]:
        found: set[int] = set()
        parts = [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given
        if not isinstance(parts, list | tuple):
            raise Unfit(self.expected, given)
        for part in parts:
            ends = [int(end) for end in part.split("-")] if isinstance(part, str) and _LIST.match(part) else [part]
            if any(type(end) is not int or not self.least <= end <= self.most for end in ends) or ends[0] > ends[-1]:
                raise Unfit(self.expected, given)
            found.update(range(ends[0], ends[-1] + 1))
        return tuple(sorted(found))

    def shown(self, value: object) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Limits:
    """Names with whole numbers: a map in a file, `name=1,other=2` as text. `known` names, where only those are taken.

    >>> Limits(1, 256).read("predict=4, train_model=1")
    {'predict': 4, 'train_model': 1}
    """

    least: int
    most: int
    known: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return f"names with whole numbers from {self.least} to {self.most}, such as {(*self.known, 'name')[0]}=2"

    def read(self, given: object) -> dict[str, int]:
        entries = given
        if isinstance(given, str):
            parts = [part.rpartition("=") for part in given.split(",") if part.strip()]
            entries = {name.strip(): number for name, _, number in parts}
            if len(entries) < len(parts):
                raise Unfit("each name once", given)
        if not isinstance(entries, Mapping):
            raise Unfit(self.expected, given)
        found: dict[str, int] = {}
        for name, number in entries.items():
            if not isinstance(name, str) or not name:
                raise Unfit(self.expected, given)
            if self.known and name not in self.known:
                raise Unfit(f"one of {', '.join(self.known)}", name, nearest(name, self.known))
            found[name] = Whole(self.least, self.most).read(number)
        return found

    def shown(self, value: object) -> str:
        return ",".join(f"{name}={number}" for name, number in value.items()) if isinstance(value, dict) else str(value)
