"""Addresses with secrets: what of them is shown, wherever the secret stands."""

from __future__ import annotations

import pytest

from erlbridge.core.addresses import parse_address, redacted


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://app:s3cret@db/store",
        "postgresql://db/store?password=s3cret",
        "postgresql://db/store?PassWord=s3cret&sslmode=require",
        "postgresql://db/store?p%61ssword=s3cret",
        "sftp://db/store?pwd=s3cret",
        "s3://:s3cret@bucket/store",
    ],
)
def test_a_secret_is_not_shown_wherever_it_stands(given: str) -> None:
    address = parse_address(given)
    assert address is not None
    assert "s3cret" not in address.shown
    assert address.secrets == ("s3cret",)
    assert redacted(f"no login with {given}", address).count("s3cret") == 0


@pytest.mark.parametrize("given", ["host=db password=s3cret", "postgresql://app:s3c@ret@db/store", "db", "s3://a\0b"])
def test_what_may_hold_a_secret_anywhere_is_no_address(given: str) -> None:
    assert parse_address(given) is None
