"""What a setting's value may be: each kind reads text and a file's data, refuses the rest, and writes what it reads."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.core.settings import (
    Choice,
    Directory,
    Flag,
    Kind,
    Limits,
    Location,
    Numbers,
    Seconds,
    Size,
    Unfit,
    Whole,
)

SIZE = Size(64, 2**40, "off")
KINDS: list[tuple[Kind, st.SearchStrategy[object]]] = [
    (Whole(0, 1000), st.integers(0, 1000)),
    (SIZE, st.integers(64, 2**40) | st.just(0)),
    (Flag(), st.booleans()),
    (
        Location((), "s3://bucket"),
        st.sampled_from(["", "s3://bucket/erlbridge", "postgresql://app@a,b:5432/db?sslmode=require"]),
    ),
    (Choice(("on", "off", "required")), st.sampled_from(["on", "off", "required"])),
    (Numbers(0, 63), st.lists(st.integers(0, 63), unique=True).map(lambda found: tuple(sorted(found)))),
    (Limits(1, 9), st.dictionaries(st.sampled_from(["openai", "http://127.0.0.1:1/v1", "*"]), st.integers(1, 9))),
]


@given(st.data())
def test_what_a_kind_writes_it_reads_again(data: st.DataObject) -> None:
    kind, values = data.draw(st.sampled_from(KINDS))
    value = data.draw(values)
    assert kind.read(kind.shown(value)) == value


@given(
    st.sampled_from([*(kind for kind, _ in KINDS), Seconds(0, 10), Directory()]),
    st.text() | st.integers() | st.floats(),
)
def test_a_kind_takes_or_refuses_whatever_there_is(kind: Kind, given_value: object) -> None:
    with suppress(Unfit):
        kind.shown(kind.read(given_value))


@pytest.mark.parametrize(
    ("text", "value"), [("512 MiB", 2**29), ("2GB", 2 * 10**9), ("1g", 2**30), ("100", 100), ("0", 0), (4096, 4096)]
)
def test_a_size_has_a_unit_or_is_bytes(text: object, value: int) -> None:
    assert SIZE.read(text) == value


@pytest.mark.parametrize("text", ["1 parsec", "-1", "63", "1.5GiB", "", "9" * 4000, True, None, 1.0, "٣٠٠"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(Unfit, match="expected bytes from 64"):
        SIZE.read(text)


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), (2, 2.0), ("0", 0.0)])
def test_seconds_may_have_a_fraction(text: object, value: float) -> None:
    assert Seconds(1, 10, "never").read(text) == value


@pytest.mark.parametrize("text", ["inf", "nan", "1e3", float("nan"), float("inf"), True, "0.5"])
def test_what_is_no_span_is_refused(text: object) -> None:
    with pytest.raises(Unfit, match="expected seconds from 1 to 10"):
        Seconds(1, 10).read(text)


def test_a_files_switches_stand_for_on_and_off() -> None:
    assert Choice(("on", "off")).read(True) == "on"
    with pytest.raises(Unfit, match="did you mean `required`"):
        Choice(("on", "off", "required")).read("requird")


def test_a_limit_of_a_name_that_is_not_known_is_refused_with_the_nearest() -> None:
    with pytest.raises(Unfit, match="did you mean `predict`"):
        Limits(1, 9, ("predict", "train_model")).read("predcit=1")


@pytest.mark.parametrize(
    "text",
    [
        "host=db password=s3cret",
        "postgresql://app:s3@cret@db/store",
        "postgresql://app:s3/cret@db/s",
        "s3cret",
        "mysql://db/s3cret",
    ],
)
def test_an_address_that_is_refused_is_not_shown(text: str) -> None:
    with pytest.raises(Unfit) as refused:
        Location(("postgresql",), "postgresql://db/store").read(text)
    assert "cret" not in str(refused.value)


def test_an_address_is_shown_without_what_is_secret() -> None:
    kind = Location(("s3", "postgresql"), "s3://bucket")
    assert kind.shown("s3://key:secret@bucket/path") == "s3://key@bucket/path"
    assert (
        kind.shown("postgresql://db/store?password=secret&sslmode=require") == "postgresql://db/store?sslmode=require"
    )
