"""Elixir's structs: Python's own values where these hold them, and `===` on the way back, whatever they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from codec_frames import read_frames
from hypothesis import given
from hypothesis import strategies as st
from test_codec_properties import SETTINGS, floats, integers, same, terms

from erlbridge.codec import Atom, EncodeError, ImproperList, TermMap, binary_to_term, term_to_binary
from erlbridge.codec.datetimes import PreciseDateTime, PreciseTime, Zone
from erlbridge.codec.structs import UnversionedSet, to_python, to_term

SEED = 20240229
COUNT = 1000
ISO = Atom("Elixir.Calendar.ISO")


def elixir_struct(name: str, **fields: object) -> dict[object, object]:
    return {Atom("__struct__"): Atom(f"Elixir.{name}"), **{Atom(field): value for field, value in fields.items()}}


def naive(**fields: object) -> dict[object, object]:
    known: dict[str, object] = {"calendar": ISO, "year": 2024, "month": 2, "day": 29, "hour": 23, "minute": 59,
                                "second": 58, "microsecond": (120_000, 6)}  # fmt: skip
    return elixir_struct("NaiveDateTime", **{**known, **fields})


def aware(**fields: object) -> dict[object, object]:
    zone: dict[str, object] = {"time_zone": b"Europe/Berlin", "zone_abbr": b"CET", "utc_offset": 3600, "std_offset": 0}
    return {**naive(**{**zone, **fields}), Atom("__struct__"): Atom("Elixir.DateTime")}


def decimal(sign: object, coef: object, exp: object) -> dict[object, object]:
    return elixir_struct("Decimal", sign=sign, coef=coef, exp=exp)


def clock(**fields: object) -> dict[object, object]:
    known: dict[str, object] = {"calendar": ISO, "hour": 1, "minute": 2, "second": 3, "microsecond": (0, 0)}
    return elixir_struct("Time", **{**known, **fields})


def there_and_back(term: object) -> object:
    return binary_to_term(term_to_binary(to_python(term), default=to_term))


HELD: list[tuple[dict[object, object], object]] = [
    (elixir_struct("Date", calendar=ISO, year=2024, month=2, day=29), date(2024, 2, 29)),
    (clock(microsecond=(5, 6)), time(1, 2, 3, 5)),
    (clock(), time(1, 2, 3)),
    (naive(), datetime(2024, 2, 29, 23, 59, 58, 120_000)),
    (aware(), datetime(2024, 2, 29, 23, 59, 58, 120_000, timezone(timedelta(hours=1)))),
    (aware(std_offset=3600), datetime(2024, 2, 29, 23, 59, 58, 120_000, timezone(timedelta(hours=2)))),
    (decimal(-1, 1050, -2), Decimal("-10.50")),
    (decimal(1, Atom("inf"), 0), Decimal("Infinity")),
    (elixir_struct("MapSet", map={1: [], b"a": []}, version=2), {1, b"a"}),
    (elixir_struct("MapSet", map={}), set()),
    (elixir_struct("Range", first=1, last=10, step=3), range(1, 11, 3)),
    (elixir_struct("Range", first=1, last=0, step=1), range(1, 1)),
    (elixir_struct("Range", first=5, last=-5, step=-2), range(5, -6, -2)),
]


def spoiled() -> Iterator[dict[object, object]]:
    """The structs above with a field too few, one too many, or one of another type."""
    for struct, _ in HELD:
        yield {**struct, Atom("extra"): 1}
        for field in list(struct)[1:]:
            if field is not Atom("version"):  # without it a set is one of newer Elixir
                yield {key: value for key, value in struct.items() if key is not field}
            text = field in (Atom("time_zone"), Atom("zone_abbr"))
            for wrong in (None, 1.0, [], (), Atom("x"), True, {1: 2}, *([] if text else [b"text"])):
                yield {**struct, field: wrong}


# What looks like a struct and is none, or holds what Python cannot.
NOT_HELD: list[dict[object, object]] = [
    *spoiled(),
    elixir_struct("Date", calendar=Atom("Elixir.Other"), year=2024, month=2, day=29),
    *[elixir_struct("Date", calendar=ISO, year=year, month=1, day=1) for year in (0, -1, 10_000, 10**30)],
    elixir_struct("Date", calendar=ISO, year=2023, month=2, day=29),
    *[naive(**field) for field in ({"second": 60}, {"hour": 24}, {"month": 0}, {"year": -(10**400)})],  # type: ignore[arg-type]
    *[clock(microsecond=micro) for micro in ((1,), (1, 2, 3), (10**6, 6), (-1, 6), (1, 7), (1, -1), [1, 6], (1.0, 6))],
    *[aware(**field) for field in ({"utc_offset": 86_400}, {"utc_offset": -86_400}, {"utc_offset": 10**30})],  # type: ignore[arg-type]
    aware(std_offset=10**30, utc_offset=-(10**30)),
    aware(time_zone=b"\xff"),
    *[decimal(*of) for of in ((0, 1, 0), (2, 1, 0), (1, -1, 0), (1, Atom("inf"), 1), (1, Atom("qNaN"), 0))],
    *[decimal(*of) for of in ((1, 10**5000, 0), (1, 1, 10**18), (1, 1, -(10**18)), (1, 1, 10**400))],
    elixir_struct("MapSet", map={1: []}, version=1),
    elixir_struct("MapSet", map={1: [1]}, version=2),
    elixir_struct("MapSet", map={1: {}}, version=2),
    elixir_struct("MapSet", map=TermMap([(1, []), (1.0, [])]), version=2),  # type: ignore[list-item]
    elixir_struct("MapSet", map=TermMap([([1], [])]), version=2),  # type: ignore[list-item]
    elixir_struct("Range", first=1, last=2, step=0),
    elixir_struct("Range", first=1, last=2),
    elixir_struct("Regex", opts=b"", re_pattern=(Atom("re_pattern"), 0, 0, 0, b""), re_version=b"", source=b"a"),
    {Atom("__struct__"): b"Elixir.Date"},
    {Atom("__struct__"): [1]},
]  # fmt: skip


@pytest.fixture(scope="module")
def from_beam(elixir: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path: Path = tmp_path_factory.mktemp("structs") / "terms"
    print(*elixir("write_structs.exs", SEED, COUNT, path))
    return list(read_frames(path))


def test_3000_random_structs_come_back_identical(
    from_beam: list[bytes], beam_verdicts: Callable[..., list[str]]
) -> None:
    values = [to_python(binary_to_term(frame)) for frame in from_beam]
    as_text = [to_python(binary_to_term(frame, text=True)) for frame in from_beam]
    for given_values in (values, as_text):
        ours = [term_to_binary(value, default=to_term) for value in given_values]
        verdicts = beam_verdicts(from_beam, ours)
        wrong = [(index, verdict) for index, verdict in enumerate(verdicts) if verdict != "same"]
        assert not wrong[:5]
        assert len(verdicts) == 3 * COUNT
    met = {type(value) for value in values}
    assert {date, time, datetime, PreciseTime, PreciseDateTime, Decimal, set, UnversionedSet, range, dict} <= met


@pytest.mark.parametrize(("struct", "value"), HELD)
def test_a_struct_is_the_value_of_python_and_back(struct: dict[object, object], value: object) -> None:
    held = to_python(struct)
    assert held == value
    assert type(value) in type(held).__mro__
    assert same(to_python(to_term(held)), held)
    assert same(there_and_back(struct), struct)


def test_what_python_cannot_hold_stays_the_map_it_is() -> None:
    for struct in NOT_HELD:
        assert same(to_python(struct), struct), list(struct.items())
        assert same(there_and_back(struct), struct), list(struct.items())
    assert len(NOT_HELD) > 500


hostile_fields = st.one_of(integers, floats, terms, st.tuples(integers, integers), st.just(ISO), st.binary(max_size=5))


@SETTINGS
@given(st.sampled_from(HELD), st.data())
def test_a_struct_with_anything_in_its_fields_never_raises_and_loses_nothing(
    held: tuple[dict[object, object], object], data: st.DataObject
) -> None:
    struct = dict(held[0])
    for field in data.draw(st.lists(st.sampled_from(list(struct)[1:]), max_size=3)):
        struct[field] = data.draw(hostile_fields)
    nested = [struct, {b"in": (struct,)}, ImproperList([struct], struct), TermMap([([1], struct)])]
    assert same(there_and_back(nested), binary_to_term(term_to_binary(nested)))


@SETTINGS
@given(terms)
def test_a_term_without_structs_is_itself(term: object) -> None:
    assert same(to_python(term, arrays=True), term)


def test_structs_are_found_at_any_depth_and_the_term_is_not_changed() -> None:
    day = elixir_struct("Date", calendar=ISO, year=2024, month=2, day=29)
    term = [day, (day, {b"k": day}), ImproperList([day], day), TermMap([([1], day)]), elixir_struct("User", born=day)]
    before = copy.deepcopy(term)
    first, (second, third), fourth, fifth, user = to_python(term)  # type: ignore[misc]
    leap = date(2024, 2, 29)
    assert [first, second, third[b"k"], fourth.elements, fourth.tail, fifth[[1]]] == [
        leap,
        leap,
        leap,
        [leap],
        leap,
        leap,
    ]
    assert user[Atom("born")] == leap
    assert user[Atom("__struct__")] is Atom("Elixir.User")
    assert same(term, before)
    deep: object = day
    for _ in range(9_000):
        deep = [deep]
    assert term_to_binary(there_and_back(deep)) == term_to_binary(deep)


def test_keys_stay_as_they_are() -> None:
    day = elixir_struct("Date", calendar=ISO, year=2024, month=2, day=29)
    term = TermMap([(day, 1)])
    assert same(to_python(term), term)


def test_the_layer_is_not_active_by_itself() -> None:
    struct = HELD[0][0]
    assert type(binary_to_term(term_to_binary(struct))) is dict
    with pytest.raises(EncodeError, match="no Erlang term stands for date"):
        term_to_binary(date(2024, 2, 29))


def test_precision_is_kept_and_copied() -> None:
    for struct, kind in ((naive(microsecond=(120_000, 3)), PreciseDateTime), (clock(), PreciseTime)):
        value = to_python(struct)
        for twin in (value, copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert type(twin) is kind
            assert same(to_term(twin), struct)
    moment = to_python(naive(microsecond=(0, 0)))
    assert isinstance(moment, PreciseDateTime)
    assert moment == datetime(2024, 2, 29, 23, 59, 58)
    assert (moment + timedelta(1)).precision == moment.replace(day=1).precision == 6  # type: ignore[attr-defined]


def test_a_zone_is_its_four_fields() -> None:
    moment = to_python(aware(std_offset=3600, zone_abbr=b"CEST"))
    assert isinstance(moment, datetime)
    assert moment.tzinfo == Zone("Europe/Berlin", "CEST", 3600, 3600) != Zone("Europe/Berlin", "CEST", 7200, 0)
    assert (moment.utcoffset(), moment.dst(), moment.tzname()) == (timedelta(hours=2), timedelta(hours=1), "CEST")
    assert pickle.loads(pickle.dumps(moment)).tzinfo == moment.tzinfo
    assert hash(moment.tzinfo) == hash(copy.copy(moment.tzinfo))
    assert moment.astimezone(UTC).astimezone(moment.tzinfo) == moment
    assert to_python(aware(time_zone=b"Etc/UTC", zone_abbr=b"UTC", utc_offset=0)).tzinfo is UTC  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("zone", "fields"),
    [
        (UTC, ("Etc/UTC", "UTC", 0, 0)),
        (ZoneInfo("UTC"), ("Etc/UTC", "UTC", 0, 0)),
        (ZoneInfo("Europe/Berlin"), ("Europe/Berlin", "CEST", 3600, 3600)),
        (ZoneInfo("Europe/London"), ("Europe/London", "BST", 0, 3600)),
        (timezone(timedelta(hours=2)), ("Etc/GMT-2", "+02", 7200, 0)),
        (timezone(timedelta(hours=-5), "name"), ("Etc/GMT+5", "-05", -18_000, 0)),
    ],
    ids=str,
)
def test_zones_of_python_are_written_by_their_names(zone: timezone | ZoneInfo, fields: tuple[object, ...]) -> None:
    struct = to_term(datetime(2024, 7, 1, 12, tzinfo=zone))
    assert isinstance(struct, dict)
    assert tuple(struct[Atom(name)] for name in ("time_zone", "zone_abbr", "utc_offset", "std_offset")) == fields


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime(2024, 1, 1, tzinfo=timezone(timedelta(minutes=20))), "has no name that Elixir knows"),
        (time(1, tzinfo=UTC), "no time of day in a zone"),
        (Decimal("sNaN"), "has no sNaN"),
        (Decimal("NaN7"), "has no NaN7"),
        (timedelta(1), "no Erlang term stands for timedelta"),
        ({1.5, float("nan")}, "no float nan"),
        ({"a", b"a"}, "one key in Erlang"),
    ],
)
def test_what_elixir_cannot_hold_is_refused(value: object, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        term_to_binary([value], default=to_term)


def test_sets_of_members_chosen_to_collide_stay_maps() -> None:
    modulus = 2**61 - 1  # numbers that differ by it have one hash
    members = [modulus * index for index in range(1, 1000)]
    struct = elixir_struct("MapSet", map={member: [] for member in members[:100]}, version=2)
    assert to_python(struct) == set(members[:100])
    term = binary_to_term(term_to_binary(elixir_struct("MapSet", map=TermMap((m, []) for m in members), version=2)))
    assert same(to_python(term), term)


def test_frozen_sets_and_unhashable_values_in_containers_are_written() -> None:
    nested = {frozenset({1, 2}), 3}
    term = binary_to_term(term_to_binary(nested, default=to_term))
    assert isinstance(term, dict)
    (inner,) = [key for key in term[Atom("map")] if key != 3]
    assert to_python(inner) == {1, 2}
