"""Elixir's structs as Python's own values and back: a layer that is only there where it is called.

`to_python` takes what `binary_to_term` gave, `to_term` is a `default` for `term_to_binary`. What goes one way comes
back the other way as a struct that is `===` to the first; what Python's types cannot hold stays the map it is.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation

from erlbridge.codec import datetimes
from erlbridge.codec.arrays import array_to_term, term_to_array
from erlbridge.codec.atoms import Atom
from erlbridge.codec.objects import object_to_term
from erlbridge.codec.order import TermMap
from erlbridge.codec.terms import ImproperList
from erlbridge.errors import EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

_STRUCT = datetimes.STRUCT
_DECIMAL, _MAP_SET, _RANGE = Atom("Elixir.Decimal"), Atom("Elixir.MapSet"), Atom("Elixir.Range")
_SIGN, _COEF, _EXP, _NAN, _INF = Atom("sign"), Atom("coef"), Atom("exp"), Atom("NaN"), Atom("inf")
_MAP, _VERSION = Atom("map"), Atom("version")
_FIRST, _LAST, _STEP = Atom("first"), Atom("last"), Atom("step")

_MOST_BITS = 14_284
"""Bits of 4,300 digits, the most that Python makes text of. A Decimal's digits take time with their number's square."""
_MOST_EXPONENT = 10**17
"""Well inside what `decimal` can hold on every platform of 64 bits."""
_CROWD = 256
"""Sets beyond this many members are looked at for members chosen to collide, as maps are by the decoder."""


class UnversionedSet(set[object]):
    """The set of a MapSet without the field `version`, as newer Elixir has it (1.15 and later)."""

    __slots__ = ()


def to_python(term: object, *, arrays: bool = False) -> object:
    """The term with each struct that Python has a type for in that type, at any depth; the term itself is not changed.

    `Date`, `Time`, `NaiveDateTime`, `DateTime` become `date`, `time`, `datetime`; `Decimal` a `Decimal`, `MapSet`
    a `set`, `Range` a `range`. Any other struct stays a map, as does one with a field too few or too many, or with
    what the type cannot hold. Keys of maps and members of sets stay as they are.

    Args:
        term: A term as `binary_to_term` gave it.
        arrays: Make NumPy arrays of `{:ndarray, type, shape, binary}`; they are read-only, over the binary's memory.

    Raises:
        MissingPackage: There is an array, and NumPy is not installed.

    >>> to_python({Atom("__struct__"): Atom("Elixir.Range"), Atom("first"): 1, Atom("last"): 9, Atom("step"): 2})
    range(1, 10, 2)
    """
    root: list[Any] = [term]
    # Containers in the order met, each with its parts: an inner one always after the one that holds it.
    met: list[tuple[Any, list[Any], list[Any], int]] = []
    todo = [root]
    for parts in todo:
        if _CONTAINERS.isdisjoint(map(type, parts)):
            continue
        for index, part in enumerate(parts):
            kind = type(part)
            if kind not in _CONTAINERS:
                continue
            if kind is dict:
                value = _struct_to_python(part) if _STRUCT in part else part
                inner = list(part.values())
            elif kind is tuple:
                value = term_to_array(part) if arrays else part
                inner = list(part)
            else:
                value = part
                inner = _inner(part)
            if value is part:
                met.append((part, inner, parts, index))
                todo.append(inner)
            else:
                parts[index] = value
    for part, inner, parts, index in reversed(met):
        parts[index] = _rebuilt(part, inner)
    return root[0]


_CONTAINERS = frozenset((dict, TermMap, list, tuple, ImproperList))


def _inner(part: TermMap | list[Any] | ImproperList) -> list[Any]:
    if isinstance(part, TermMap):
        return list(part.values())
    return [*part.elements, part.tail] if isinstance(part, ImproperList) else list(part)


def _rebuilt(part: object, inner: list[Any]) -> object:
    """A container like this one, with these parts."""
    if isinstance(part, dict):
        return dict(zip(part, inner, strict=True))
    if isinstance(part, tuple):
        return tuple(inner)
    if isinstance(part, TermMap):
        return TermMap(zip(part, inner, strict=True))
    return ImproperList(inner[:-1], inner[-1]) if isinstance(part, ImproperList) else inner


def _struct_to_python(struct: dict[object, Any]) -> object:
    """The value that holds this struct exactly, else the struct itself."""
    name = struct[_STRUCT]
    known = _READERS.get(name) if type(name) is Atom else None
    if known is None:
        return struct
    read, *shapes = known
    if struct.keys() not in shapes:
        return struct
    try:
        value = read(struct)
    except (ValueError, OverflowError, InvalidOperation):
        return struct
    return struct if value is None else value


def _read_decimal(fields: Mapping[object, Any]) -> Decimal | None:
    sign, coef, exp = fields[_SIGN], fields[_COEF], fields[_EXP]
    if type(sign) is not int or sign not in (1, -1) or type(exp) is not int:
        return None
    negative = int(sign < 0)
    if coef is _NAN or coef is _INF:
        special = Decimal("NaN" if coef is _NAN else "Infinity")
        return None if exp else special.copy_negate() if negative else special
    if type(coef) is not int or not coef >= 0 or coef.bit_length() > _MOST_BITS or abs(exp) > _MOST_EXPONENT:
        return None
    return Decimal((negative, Decimal(coef).as_tuple().digits, exp))


def _read_map_set(fields: Mapping[object, Any]) -> set[object] | None:
    held = fields[_MAP]
    if type(held) not in (dict, TermMap) or any(type(mark) is not list or mark for mark in held.values()):
        return None
    if _VERSION in fields and (type(fields[_VERSION]) is not int or fields[_VERSION] != 2):
        return None
    kind = set if _VERSION in fields else UnversionedSet
    if type(held) is dict:
        return kind(held)
    keys = list(held)
    try:
        if len(keys) > _CROWD and len(set(map(hash, keys))) * 8 <= len(keys):
            return None
        members = kind(keys)
    except (TypeError, RecursionError):
        return None
    return members if len(members) == len(keys) else None


def _read_range(fields: Mapping[object, Any]) -> range | None:
    first, last, step = fields[_FIRST], fields[_LAST], fields[_STEP]
    if type(first) is not int or type(last) is not int or type(step) is not int:
        return None
    return range(first, last + (1 if step > 0 else -1), step)


def _names(*names: str) -> Collection[object]:
    return {Atom(name): None for name in ("__struct__", *names)}.keys()


_DATE_NAMES = ("calendar", "year", "month", "day")
_TIME_NAMES = ("hour", "minute", "second", "microsecond")
_ZONE_NAMES = ("time_zone", "zone_abbr", "utc_offset", "std_offset")
# By the struct's name, what reads it, and the fields that it has: exactly these.
_READERS: dict[Atom, tuple[Any, ...]] = {
    datetimes.DATE: (datetimes.read_date, _names(*_DATE_NAMES)),
    datetimes.TIME: (datetimes.read_time, _names("calendar", *_TIME_NAMES)),
    datetimes.NAIVE_DATETIME: (datetimes.read_naive_datetime, _names(*_DATE_NAMES, *_TIME_NAMES)),
    datetimes.DATETIME: (datetimes.read_datetime, _names(*_DATE_NAMES, *_TIME_NAMES, *_ZONE_NAMES)),
    _DECIMAL: (_read_decimal, _names("sign", "coef", "exp")),
    _MAP_SET: (_read_map_set, _names("map", "version"), _names("map")),
    _RANGE: (_read_range, _names("first", "last", "step")),
}


def to_term(value: object) -> object:
    """The term for a value that the codec has none for: a `default` for `term_to_binary`.

    Takes what `to_python` gives, and plain values of the same types; dataclasses, pydantic models and msgspec structs
    (as maps with atoms as keys), enums (as their values), NumPy's arrays and scalars. Parts of what it gives may need
    it again, and the encoder asks.

    Raises:
        EncodeError: No term stands for the value, or Elixir's type cannot hold it.

    >>> from erlbridge.codec import binary_to_term, term_to_binary
    >>> to_python(binary_to_term(term_to_binary([date(2024, 2, 29), {1, 2}], default=to_term)))
    [datetime.date(2024, 2, 29), {1, 2}]
    """
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value)
    term = object_to_term(value)
    if term is NotImplemented:
        term = array_to_term(value)
    if term is NotImplemented:
        raise EncodeError(f"no Erlang term stands for {type(value).__name__}")
    return term


def _write_decimal(value: Decimal) -> object:
    sign, digits, exponent = value.as_tuple()
    coef: Atom | int
    if isinstance(exponent, int):
        coef = int(Decimal((0, digits, 0)))
    elif exponent == "F":
        coef, exponent = _INF, 0
    elif exponent == "n" and not digits:
        coef, exponent = _NAN, 0
    else:
        raise EncodeError(f"Elixir's Decimal has no {value}")
    return {_STRUCT: _DECIMAL, _SIGN: -1 if sign else 1, _COEF: coef, _EXP: exponent}


def _write_set(value: set[object] | frozenset[object]) -> object:
    term: dict[object, object] = {_STRUCT: _MAP_SET, _MAP: {member: [] for member in value}}
    if not isinstance(value, UnversionedSet):
        term[_VERSION] = 2
    return term


def _write_range(value: range) -> object:
    last = value.stop - (1 if value.step > 0 else -1)
    return {_STRUCT: _RANGE, _FIRST: value.start, _LAST: last, _STEP: value.step}


_WRITERS: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (datetime, datetimes.write_datetime),  # before date, which it is too
    (date, datetimes.write_date),
    (time, datetimes.write_time),
    (Decimal, _write_decimal),
    (set | frozenset, _write_set),
    (range, _write_range),
)
