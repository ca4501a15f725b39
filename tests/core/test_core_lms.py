"""Models as a request names them: keys that are given, limits on their rate."""

from __future__ import annotations

import pytest

from erlbridge.codec import Atom
from erlbridge.core.lms import LM, RateLimit, parse_lm
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place


def parse(**entries: object) -> LM:
    return parse_lm(Place({Atom(name): value for name, value in {"model": b"openai/x", **entries}.items()}, "lm"))


def limit(**entries: object) -> dict[Atom, object]:
    return {Atom(name): value for name, value in entries.items()}


def test_a_given_key_is_read_and_shown_in_no_repr() -> None:
    lm = parse(api_key=b"sk-hush-1234")
    assert lm.api_key == "sk-hush-1234"
    assert "hush" not in repr(lm)


@pytest.mark.parametrize(
    "key", [b"sk-hush 1234", b"sk-hush-1234\n", "sk-hüsh-1234".encode(), b"abc", Atom("sk-hush"), 7]
)
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key: object) -> None:
    with pytest.raises(ValidationError, match="4 to 4096 printable ASCII") as caught:
        parse(api_key=key)
    assert caught.value.path == "lm.api_key"
    assert "sh-" not in str(caught.value)


@pytest.mark.parametrize("variable", [b"sk-hush-1234", Atom("sk-hush"), 7])
def test_a_key_in_the_place_of_its_variable_is_refused_without_being_shown(variable: object) -> None:
    with pytest.raises(ValidationError, match="the name of an environment variable") as caught:
        parse(api_key_env=variable)
    assert "hush" not in str(caught.value)


def test_a_key_is_given_or_named_but_not_both() -> None:
    with pytest.raises(ValidationError, match="either api_key or api_key_env"):
        parse(api_key=b"sk-hush-1234", api_key_env=b"KEY")
    with pytest.raises(ValidationError, match="no key"):
        parse(model=b"offline", api_key=b"sk-hush-1234")


def test_a_rate_limit_is_read() -> None:
    assert parse().rate_limit is None
    assert parse(rate_limit=limit(requests_per_minute=600)).rate_limit == RateLimit(600, None)
    assert parse(rate_limit=limit(tokens_per_minute=9, requests_per_minute=1)).rate_limit == RateLimit(1, 9)


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({}, "lm.rate_limit", "requests_per_minute, tokens_per_minute or both"),
        ({"requests_per_minute": 0}, "lm.rate_limit.requests_per_minute", "at least 1"),
        ({"tokens_per_minute": 1.5}, "lm.rate_limit.tokens_per_minute", "an integer"),
        ({"rpm": 5}, "lm.rate_limit", "unknown key `rpm`"),
    ],
)
def test_a_rate_limit_that_cannot_be_kept_is_refused(given: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(rate_limit=limit(**given))
    assert (caught.value.path, message in str(caught.value)) == (path, True)


def test_an_endpoint_is_an_address_or_a_provider() -> None:
    assert parse().endpoint == "openai"
    assert parse(api_base=b"http://h:1/v1").endpoint == "http://h:1/v1"
