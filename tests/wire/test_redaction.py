"""No secret in a capture, and nothing else changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.wire.redaction import Redaction

KEY = b"sk-0123456789abcdef"


def cleaned(term: Any, *secrets: bytes) -> Any:
    frame = term_to_binary(term)
    clean = Redaction(secrets).clean(frame)
    assert len(clean) == len(frame)
    return binary_to_term(clean)


@pytest.mark.parametrize(
    "key",
    [
        Atom("api_key"), b"api_key", b"OPENAI_API_KEY", Atom("password"), b"X-Api-Key", b"accessToken",
        b"Authorization", Atom("client_secret"), b"private_key", Atom("credentials"), b"db_passwd",
        b"accessKey", b"privateKey", b"Secret-Key", b"Ocp-Apim-Subscription-Key", b"api_keys", Atom("passwords"),
        b"passphrase", b"azure_cognitive_services_of_west_europe_openai_api_key",
    ],
)  # fmt: skip
def test_what_stands_under_a_key_of_secrets_is_written_over(key: Any) -> None:
    hidden = b"*" * len(KEY)
    assert cleaned({key: KEY, b"model": b"m"}) == {key: hidden, b"model": b"m"}
    assert cleaned([Atom("predict"), 1, [{b"lm": [(key, KEY)]}]]) == [Atom("predict"), 1, [{b"lm": [(key, hidden)]}]]


@pytest.mark.parametrize("key", [Atom("api_key_env"), b"input_tokens", Atom("tokens"), b"keyboard", b"secretary"])
def test_other_keys_keep_their_values(key: Any) -> None:
    assert cleaned({key: KEY}) == {key: KEY}


def test_a_name_that_is_no_key_hides_nothing() -> None:
    field = {Atom("name"): b"password", Atom("type"): b"string", Atom("enum"): [b"password", b"token", b"open"]}
    assert cleaned(field) == field
    assert cleaned((Atom("password"), Atom("a"), b"open")) == (Atom("password"), Atom("a"), b"open")


def test_all_that_a_secret_consists_of_is_written_over() -> None:
    secret = {Atom("kind"): b"bearer", Atom("parts"): [KEY, 7, 2**90, 1.5, Atom("top")], Atom("none"): None}
    found = cleaned({Atom("token"): secret})[Atom("token")]
    assert list(found) == list(secret)
    assert found[Atom("kind")] == b"******"
    first, small, large, fraction, name = found[Atom("parts")]
    assert (first, small, fraction, name) == (b"*" * len(KEY), 0, 0.0, Atom("***"))
    assert large != 2**90
    assert found[Atom("none")] is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"model": "m", "api_key": "%b"}', b"lm:\n  api_key: %b\n", b"GET /?api_key=%b",
        b"Authorization: Bearer %b, x",
        b'%%{password: "%b"}', b'"{\\"client_secret\\":\\"%b\\"}"', b"apiKey => '%b'", b"token=%b",
    ],
)  # fmt: skip
def test_what_a_text_gives_a_secrets_name_is_written_over(text: bytes) -> None:
    hidden = text % (b"*" * len(KEY))
    # Behind it stand terms that begin with letters: what is written over ends with the text.
    assert cleaned([Atom("a"), {b"x": text % KEY}, 97, b"mmmm"]) == [Atom("a"), {b"x": hidden}, 97, b"mmmm"]
    assert cleaned([list(text % KEY), 7, b"mmmm"]) == [list(hidden), 7, b"mmmm"]


@pytest.mark.parametrize("text", [b"max_tokens: 1000000000", b"api_key_env: OPENAI_API_KEY", b"the token is positive"])
def test_other_texts_are_left_as_they_are(text: bytes) -> None:
    assert cleaned({b"x": text}) == {b"x": text}


def test_a_charlist_is_a_text_too() -> None:
    assert cleaned({Atom("password"): list(b"hush")}) == {Atom("password"): list(b"****")}


def test_a_known_secret_is_found_wherever_it_stands() -> None:
    term = (Atom("error"), 1, {Atom("message"): b"refused: " + KEY + b"!"})
    assert cleaned(term, KEY)[2][Atom("message")] == b"refused: " + b"*" * len(KEY) + b"!"


def test_a_secret_that_was_seen_under_a_key_is_known_from_then_on() -> None:
    redaction = Redaction()
    request = term_to_binary({Atom("api_key"): KEY})
    answer = term_to_binary((Atom("log"), Atom("info"), b"called with " + KEY))
    assert redaction.clean(answer) is answer
    assert [KEY in frame for frame in redaction.clean_all([request, answer, answer])] == [False, False, False]


def test_frames_without_secrets_are_the_same_objects() -> None:
    frames = [term_to_binary((Atom("ok"), number, {Atom("input_tokens"): 5})) for number in range(3)]
    assert all(clean is frame for clean, frame in zip(Redaction([KEY]).clean_all(frames), frames, strict=True))


def test_a_compressed_frame_is_looked_into() -> None:
    frame = term_to_binary({b"api_key": KEY, b"text": b"a" * 500}, compressed=True)
    (clean,) = Redaction().clean_all([frame])
    assert binary_to_term(clean) == {b"api_key": b"*" * len(KEY), b"text": b"a" * 500}
    harmless = term_to_binary({b"text": b"a" * 500}, compressed=True)
    assert Redaction().clean(harmless) is harmless


@given(st.integers(0, 200))
def test_a_frame_that_is_cut_anywhere_shows_no_part_of_a_secret(cut: int) -> None:
    frame = term_to_binary((Atom("predict"), 1, {Atom("lm"): {Atom("api_key"): KEY, Atom("model"): b"m"}}))
    clean = Redaction().clean(frame[:cut])
    assert len(clean) == min(cut, len(frame))
    assert not any(KEY[at : at + 4] in clean for at in range(len(KEY) - 3))


@given(st.binary(max_size=200).map(lambda tail: b"\x83t\0\0\0\2w\7api_key" + tail))
def test_bytes_that_are_no_term_are_no_fault(frame: bytes) -> None:
    Redaction([b"hushhush"]).clean(frame)


def test_a_term_too_large_to_be_looked_through_is_cut_and_not_shown() -> None:
    frame = term_to_binary([*range(300, 40_300), {Atom("api_key"): KEY}])
    clean = Redaction().clean(frame)
    assert KEY not in clean
    assert frame.startswith(clean)
