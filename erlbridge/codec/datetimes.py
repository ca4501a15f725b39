"""Elixir's Date, Time, NaiveDateTime and DateTime as those of `datetime`, and back, exactly.

Knows the fields of these structs and which values Python can hold: years 1 to 9999, no leap second, offsets below one
day, Calendar.ISO. What it cannot hold gives None, and stays the map that it is. What Python has no field for stands in
a subclass: the precision of a fraction of a second, if it is not six digits, and the two parts of a zone's offset.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Self

from erlbridge.codec.atoms import Atom
from erlbridge.errors import EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, SupportsIndex

STRUCT = Atom("__struct__")
DATE, TIME = Atom("Elixir.Date"), Atom("Elixir.Time")
NAIVE_DATETIME, DATETIME = Atom("Elixir.NaiveDateTime"), Atom("Elixir.DateTime")
_CALENDAR, _ISO = Atom("calendar"), Atom("Elixir.Calendar.ISO")
_YEAR, _MONTH, _DAY = Atom("year"), Atom("month"), Atom("day")
_HOUR, _MINUTE, _SECOND, _MICROSECOND = Atom("hour"), Atom("minute"), Atom("second"), Atom("microsecond")
_ZONE, _ABBR, _UTC, _STD = Atom("time_zone"), Atom("zone_abbr"), Atom("utc_offset"), Atom("std_offset")

_DATE_FIELDS = (_YEAR, _MONTH, _DAY)
_TIME_FIELDS = (_HOUR, _MINUTE, _SECOND)
_SIX_DIGITS = 6


class Zone(tzinfo):
    """A time zone as a DateTime holds it: its name, and what it was at that one moment, in seconds.

    What is computed from such a datetime keeps the offset, whether or not the zone does; `astimezone` with a `ZoneInfo`
    knows better. `std_offset` is what summer time adds to `utc_offset`.

    >>> datetime(2024, 7, 1, 12, tzinfo=Zone("Europe/Berlin", "CEST", 3600, 3600)).isoformat()
    '2024-07-01T12:00:00+02:00'
    """

    __slots__ = ("abbr", "name", "std_offset", "utc_offset")

    def __init__(self, name: str, abbr: str, utc_offset: int, std_offset: int) -> None:
        self.name = name
        self.abbr = abbr
        self.utc_offset = utc_offset
        self.std_offset = std_offset

    def utcoffset(self, _: datetime | None, /) -> timedelta:
        return timedelta(seconds=self.utc_offset + self.std_offset)

    def dst(self, _: datetime | None, /) -> timedelta:
        return timedelta(seconds=self.std_offset)

    def tzname(self, _: datetime | None, /) -> str:
        return self.abbr

    def fromutc(self, moment: datetime, /) -> datetime:
        return moment + self.utcoffset(moment)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Zone):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    def __repr__(self) -> str:
        return f"Zone({self.name!r}, {self.abbr!r}, {self.utc_offset}, {self.std_offset})"

    def __reduce__(self) -> tuple[type[Zone], tuple[str, str, int, int]]:
        return Zone, (self.name, self.abbr, self.utc_offset, self.std_offset)


class PreciseTime(time):
    """A time whose fraction of a second is of `precision` digits, 0 to 6; a plain `time` stands for six.

    What is computed from it is of six digits again.
    """

    __slots__ = ("_precision",)

    _precision: int

    def __new__(cls, *args: Any, precision: int = _SIX_DIGITS, **kwargs: Any) -> Self:
        value = super().__new__(cls, *args, **kwargs)
        value._precision = precision
        return value

    @property
    def precision(self) -> int:
        return getattr(self, "_precision", _SIX_DIGITS)  # `replace` makes one without calling the constructor

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _restored, (PreciseTime, super().__reduce_ex__(protocol)[1], self.precision)


class PreciseDateTime(datetime):
    """A datetime whose fraction of a second is of `precision` digits, 0 to 6; a plain `datetime` stands for six.

    What is computed from it is of six digits again.
    """

    __slots__ = ("_precision",)

    _precision: int

    def __new__(cls, *args: Any, precision: int = _SIX_DIGITS, **kwargs: Any) -> Self:
        value = super().__new__(cls, *args, **kwargs)
        value._precision = precision
        return value

    @property
    def precision(self) -> int:
        return getattr(self, "_precision", _SIX_DIGITS)  # `replace` makes one without calling the constructor

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _restored, (PreciseDateTime, super().__reduce_ex__(protocol)[1], self.precision)


def _restored(cls: type[PreciseTime] | type[PreciseDateTime], args: tuple[Any, ...], precision: int) -> time | datetime:
    return cls(*args, precision=precision)


# -- structs to values ------------------------------------------------------------------------------------------------
# Each reader gets a map that has exactly the struct's fields, and raises ValueError or OverflowError, or gives None,
# where Python cannot hold what is in them.


def read_date(fields: Mapping[object, Any]) -> date | None:
    numbers = _numbers(fields, _DATE_FIELDS)
    return None if numbers is None else date(*numbers)


def read_time(fields: Mapping[object, Any]) -> time | None:
    numbers = _numbers(fields, _TIME_FIELDS)
    fraction = _fraction(fields)
    if numbers is None or fraction is None:
        return None
    hour, minute, second = numbers
    microsecond, precision = fraction
    if precision == _SIX_DIGITS:
        return time(hour, minute, second, microsecond)
    return PreciseTime(hour, minute, second, microsecond, precision=precision)


def read_naive_datetime(fields: Mapping[object, Any]) -> datetime | None:
    return _moment(fields, None)


def read_datetime(fields: Mapping[object, Any]) -> datetime | None:
    name, abbr = _text(fields[_ZONE]), _text(fields[_ABBR])
    utc_offset, std_offset = fields[_UTC], fields[_STD]
    if name is None or abbr is None or type(utc_offset) is not int or type(std_offset) is not int:
        return None
    if abs(utc_offset + std_offset) >= 86400 or abs(std_offset) >= 86400:
        return None
    if (name, abbr, utc_offset, std_offset) == ("Etc/UTC", "UTC", 0, 0):
        return _moment(fields, UTC)
    return _moment(fields, Zone(name, abbr, utc_offset, std_offset))


def _moment(fields: Mapping[object, Any], zone: tzinfo | None) -> datetime | None:
    numbers = _numbers(fields, _DATE_FIELDS + _TIME_FIELDS)
    fraction = _fraction(fields)
    if numbers is None or fraction is None:
        return None
    year, month, day, hour, minute, second = numbers
    microsecond, precision = fraction
    if precision == _SIX_DIGITS:
        return datetime(year, month, day, hour, minute, second, microsecond, zone)
    return PreciseDateTime(year, month, day, hour, minute, second, microsecond, zone, precision=precision)


def _numbers(fields: Mapping[object, Any], names: tuple[Atom, ...]) -> tuple[int, ...] | None:
    numbers = tuple([fields[name] for name in names])
    if fields[_CALENDAR] is not _ISO or any(type(number) is not int for number in numbers):
        return None
    return numbers


def _fraction(fields: Mapping[object, Any]) -> tuple[int, int] | None:
    fraction = fields[_MICROSECOND]
    if type(fraction) is not tuple or len(fraction) != 2 or any(type(number) is not int for number in fraction):
        return None
    microsecond, precision = fraction
    return fraction if 0 <= microsecond <= 999_999 and 0 <= precision <= _SIX_DIGITS else None


def _text(value: object) -> str | None:
    """A binary as text, if it is text (or already was read as such)."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


# -- values to structs ------------------------------------------------------------------------------------------------


def write_date(value: date) -> dict[Atom, object]:
    return {STRUCT: DATE, **_date_fields(value)}


def write_time(value: time) -> dict[Atom, object]:
    if value.tzinfo is not None:
        raise EncodeError("Elixir has no time of day in a zone; drop its tzinfo, or write a datetime")
    return {STRUCT: TIME, _CALENDAR: _ISO, **_time_fields(value)}


def write_datetime(value: datetime) -> dict[Atom, object]:
    fields = {**_date_fields(value), **_time_fields(value)}
    offset = value.utcoffset()
    if offset is None:
        return {STRUCT: NAIVE_DATETIME, **fields}
    return {STRUCT: DATETIME, **fields, **_zone_fields(value, offset)}


def _date_fields(value: date) -> dict[Atom, object]:
    return {_CALENDAR: _ISO, _YEAR: value.year, _MONTH: value.month, _DAY: value.day}


def _time_fields(value: time | datetime) -> dict[Atom, object]:
    precision = value.precision if isinstance(value, PreciseTime | PreciseDateTime) else _SIX_DIGITS
    fraction = (value.microsecond, precision)
    return {_HOUR: value.hour, _MINUTE: value.minute, _SECOND: value.second, _MICROSECOND: fraction}


def _zone_fields(value: datetime, offset: timedelta) -> dict[Atom, object]:
    zone = value.tzinfo
    std = value.dst() or timedelta()
    if isinstance(zone, Zone):
        name, abbr = zone.name, zone.abbr
    else:
        key = getattr(zone, "key", None)  # a ZoneInfo has its name there
        abbr = value.tzname() or ""
        hours, rest = divmod(offset, timedelta(hours=1))
        if not offset and (key in ("UTC", "Etc/UTC") or isinstance(zone, timezone)):
            name, abbr = "Etc/UTC", "UTC"
        elif isinstance(key, str):
            name = key
        elif isinstance(zone, timezone) and not rest and -12 <= hours <= 14:
            name, abbr = f"Etc/GMT{-hours:+d}", f"{hours:+03d}"  # the names of these zones count westwards
        else:
            raise EncodeError(f"time zone {zone!r} has no name that Elixir knows; take a ZoneInfo, or convert to UTC")
    if offset.microseconds or std.microseconds:
        raise EncodeError(f"time zone {zone!r} is {offset} from UTC, Elixir holds whole seconds")
    utc_offset, std_offset = offset - std, std
    seconds = timedelta(seconds=1)
    return {_ZONE: name, _ABBR: abbr, _UTC: utc_offset // seconds, _STD: std_offset // seconds}
