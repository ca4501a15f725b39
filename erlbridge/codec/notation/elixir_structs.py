"""The structs of Elixir itself that `inspect/2` shows in a form of their own, and these forms back to structs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from erlbridge.codec.atoms import Atom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Struct = dict[object, object]

_STRUCT, _CALENDAR, _ISO = Atom("__struct__"), Atom("calendar"), Atom("Elixir.Calendar.ISO")
_FIRST, _LAST, _STEP, _MAP, _VERSION = Atom("first"), Atom("last"), Atom("step"), Atom("map"), Atom("version")
_DATE = tuple(map(Atom, ("year", "month", "day")))
_TIME = tuple(map(Atom, ("hour", "minute", "second")))
_MICROSECOND = Atom("microsecond")
_UTC: dict[object, object] = {
    Atom("time_zone"): b"Etc/UTC",
    Atom("zone_abbr"): b"UTC",
    Atom("utc_offset"): 0,
    Atom("std_offset"): 0,
}
_FIELDS: dict[str, set[object]] = {
    "Elixir.Date": {*_DATE},
    "Elixir.Time": {*_TIME, _MICROSECOND},
    "Elixir.NaiveDateTime": {*_DATE, *_TIME, _MICROSECOND},
    "Elixir.DateTime": {*_DATE, *_TIME, _MICROSECOND, *_UTC},
}
_LETTERS = {"Elixir.Date": "D", "Elixir.Time": "T", "Elixir.NaiveDateTime": "N", "Elixir.DateTime": "U"}
_MOST = {"month": 12, "day": 31, "hour": 23, "minute": 59, "second": 59}

_ORDER = {
    "Elixir.URI": "scheme authority userinfo host port path query fragment",
    "Elixir.Version": "major minor patch pre build",
}
"""Structs whose fields Elixir shows in another order than that of their names, with the fields that are not shown when
they are nil."""
_HIDDEN = {"Elixir.URI": Atom("authority"), "Elixir.Version": Atom("build")}


def ordered(module: str, fields: Mapping[object, object]) -> list[tuple[object, object]]:
    """The struct's fields as they are shown."""
    shown = [(key, value) for key, value in fields.items() if key is not _STRUCT]
    names = _ORDER.get(module)
    if names is None or {key for key, _ in shown} != set(map(Atom, names.split())):
        return shown
    hidden = _HIDDEN[module]
    return [(key, fields[key]) for key in map(Atom, names.split()) if key is not hidden or fields[key] is not None]


def with_hidden(pairs: list[tuple[object, object]]) -> list[tuple[object, object]]:
    """A struct's fields with the one that is not shown when it is nil."""
    module = pairs[0][1]
    hidden = _HIDDEN.get(module.name) if pairs[0][0] is _STRUCT and type(module) is Atom else None
    if hidden is None or any(key is hidden for key, _ in pairs):
        return pairs
    return [*pairs, (hidden, None)]


def struct_text(module: str, fields: Mapping[object, object]) -> str | None:
    """The struct's own form, if it is a date, a time or a range."""
    if module in _LETTERS:
        text = _moment(module, fields)
        return None if text is None else f"~{_LETTERS[module]}[{text}]"
    if module == "Elixir.Range" and len(fields) == 4:
        return _range(fields.get(_FIRST), fields.get(_LAST), fields.get(_STEP))
    return None


def set_members(module: str, fields: Mapping[object, object]) -> Mapping[object, object] | None:
    """The members of a MapSet, as keys; None if the struct is none."""
    members = fields.get(_MAP)
    if module != "Elixir.MapSet" or fields.get(_VERSION) != 2 or len(fields) != 3 or not isinstance(members, Mapping):
        return None
    return members if all(value == [] for value in members.values()) else None


def _range(first: object, last: object, step: object) -> str | None:
    if type(first) is not int or type(last) is not int or type(step) is not int or not step:
        return None
    if max(map(int.bit_length, (first, last, step))) > 4096:
        return None
    return f"{first}..{last}" if step == 1 else f"{first}..{last}//{step}"


def _moment(module: str, fields: Mapping[object, object]) -> str | None:
    wanted = _FIELDS[module]
    if fields.get(_CALENDAR) is not _ISO or set(fields) != wanted | {_STRUCT, _CALENDAR}:
        return None
    numbers: dict[str, int] = {}
    for key in (*_DATE, *_TIME):
        value = fields.get(key)
        if key in wanted:
            if type(value) is not int or not (-9999 if key.name == "year" else 0) <= value <= _MOST.get(key.name, 9999):
                return None
            numbers[key.name] = value
    parts = []
    if "year" in numbers:
        year = numbers["year"]
        parts.append(f"{'-' if year < 0 else ''}{abs(year):04}-{numbers['month']:02}-{numbers['day']:02}")
    if "hour" in numbers:
        fraction = _fraction(fields[_MICROSECOND])
        if fraction is None:
            return None
        parts.append(f"{numbers['hour']:02}:{numbers['minute']:02}:{numbers['second']:02}{fraction}")
    if module == "Elixir.DateTime":
        if any(fields[key] != value for key, value in _UTC.items()):
            return None
        return " ".join(parts) + "Z"
    return " ".join(parts)


def _fraction(value: object) -> str | None:
    match value:
        case (int(number), int(precision)) if 0 <= number <= 999_999 and 0 <= precision <= 6:
            return f".{number:06}"[: precision + 1] if precision else ""
        case _:
            return None


# -- back


def range_struct(first: int, last: int, step: int) -> Struct:
    """`first..last//step`."""
    return {_STRUCT: Atom("Elixir.Range"), _FIRST: first, _LAST: last, _STEP: step}


def set_struct(members: object) -> Struct:
    """`MapSet.new([…])`, of a map whose keys are the members."""
    return {_STRUCT: Atom("Elixir.MapSet"), _MAP: members, _VERSION: 2}


_DATE_TEXT = r"(?P<year>-?[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME_TEXT = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?"


def _reader(module: str, pattern: str) -> Callable[[str], Struct | None]:
    compiled = re.compile(pattern)

    def read(text: str) -> Struct | None:
        found = compiled.fullmatch(text)
        if found is None:
            return None
        parts = found.groupdict()
        struct: Struct = {_STRUCT: Atom(module), _CALENDAR: _ISO}
        for key in (*_DATE, *_TIME):
            if key.name in parts:
                struct[key] = int(parts[key.name])
                if struct[key] > _MOST.get(key.name, 9999):  # type: ignore[operator]
                    return None
        if "fraction" in parts:
            fraction = parts["fraction"] or ""
            struct[_MICROSECOND] = (int(fraction.ljust(6, "0")), len(fraction))
        if module == "Elixir.DateTime":
            struct.update(_UTC)
        return struct

    return read


SIGILS = {
    "D": _reader("Elixir.Date", _DATE_TEXT),
    "T": _reader("Elixir.Time", _TIME_TEXT),
    "N": _reader("Elixir.NaiveDateTime", f"{_DATE_TEXT}[ T]{_TIME_TEXT}"),
    "U": _reader("Elixir.DateTime", f"{_DATE_TEXT}[ T]{_TIME_TEXT}Z"),
}
"""By the letter of a sigil, what reads its text; None for one that is no such date or time."""
