"""Messages: what the host may send, and that everything else is refused with its id and path."""

from __future__ import annotations

import pytest

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.errors import BridgeError, LMFailed, Overloaded, ValidationError
from erlbridge.wire import messages
from erlbridge.wire.messages import Credit, Malformed, Meta, Request, Result, parse_incoming
from erlbridge.wire.vocabulary import ATOMS, atom

HEALTH = Atom("health_check")


def test_a_three_tuple_is_a_request_and_keeps_its_id() -> None:
    for request_id in (1, b"id", (Atom("ref"), 1.5), [1, [2]], {b"a": 1}, None):
        assert parse_incoming((HEALTH, request_id, {})) == Request("health_check", request_id, {})


def test_meta_is_read_from_atom_and_binary_keys() -> None:
    meta = {Atom("deadline_ms"): 500, b"source": b"tests", Atom("progress"): False}
    request = parse_incoming((HEALTH, 1, {}, meta))
    assert isinstance(request, Request)
    assert request.meta == Meta(deadline_ms=500, source="tests", progress=False)


def test_the_message_map_is_a_request_as_a_struct_too() -> None:
    message = {
        Atom("__struct__"): Atom("Elixir.Pipeline.DSPy.MessageProtocol"),
        Atom("message_id"): b"m1",
        Atom("request_type"): HEALTH,
        Atom("payload"): {},
        Atom("timestamp"): b"2026-01-01T00:00:00Z",
        Atom("metadata"): {Atom("source"): b"pipeline_ex", Atom("version"): b"1.0.0"},
    }
    request = parse_incoming(message)
    assert request == Request("health_check", b"m1", {}, Meta(source="pipeline_ex", version="1.0.0"))


def test_credit_is_a_positive_count() -> None:
    assert parse_incoming((Atom("credit"), 5)) == Credit(5)
    with pytest.raises(Malformed, match="credit: expected at least 1, got 0"):
        parse_incoming((Atom("credit"), 0))


def test_a_result_is_the_outcome_of_a_call_and_a_misshapen_one_a_failure() -> None:
    ok, error = Atom("ok"), Atom("error")
    assert parse_incoming((Atom("result"), 7, (ok, b"value"))) == Result(7, True, b"value")
    assert parse_incoming((Atom("result"), 7, (error, ok))) == Result(7, False, ok)
    found = parse_incoming((Atom("result"), 7, ok))
    assert found == Result(7, False, b"expected {:ok, value} or {:error, reason}, got :ok")


@pytest.mark.parametrize(
    ("term", "path", "request_id"),
    [
        (42, "request", None),
        (b"text", "request", None),
        ((), "request", None),
        ((HEALTH, 7), "request", None),
        ([HEALTH, 7, {}], "request", None),
        ((b"health_check", 7, {}), "verb", 7),
        ((1, 7, {}), "verb", 7),
        ((HEALTH, 7, {}, []), "meta", 7),
        ((HEALTH, 7, {}, {Atom("source"): b"s" * 1025}), "meta.source", 7),
        ((HEALTH, 7, {}, {Atom("trace"): b"t" * 1025}), "meta.trace", 7),
        ((HEALTH, 7, {}, {Atom("deadline_ms"): -1}), "meta.deadline_ms", 7),
        ((HEALTH, 7, {}, {Atom("deadline_ms"): 1.5}), "meta.deadline_ms", 7),
        ((HEALTH, 7, {}, {Atom("progress"): b"yes"}), "meta.progress", 7),
        ((HEALTH, 7, {}, 1, 2), "request", 7),
        ({Atom("message_id"): 7, Atom("payload"): {}}, "request", 7),
        ({b"message_id": 7}, "request", 7),
        ({1: 2}, "a key of request", None),
    ],
)
def test_what_is_no_request_is_refused_with_its_path_and_id(term: object, path: str, request_id: object) -> None:
    with pytest.raises(Malformed) as caught:
        parse_incoming(term)
    assert (caught.value.path, caught.value.id) == (path, request_id)
    assert caught.value.context == {"path": path}


def test_a_key_in_both_spellings_is_refused() -> None:
    with pytest.raises(Malformed, match="there twice"):
        parse_incoming((HEALTH, 1, {}, {Atom("source"): b"a", b"source": b"b"}))


def test_an_error_has_all_the_keys_of_the_contract() -> None:
    failure = Overloaded("full", context={"waiting": 3, "limit": 3}, retry_after_ms=100)
    tag, request_id, error = binary_to_term(term_to_binary(messages.error(9, failure)))
    assert (tag, request_id) == (Atom("error"), 9)
    assert error == {
        Atom("error_type"): Atom("overloaded"),
        Atom("message"): b"full",
        Atom("traceback"): None,
        Atom("context"): {Atom("waiting"): 3, Atom("limit"): 3},
        Atom("recovery_strategy"): Atom("retry"),
        Atom("retryable"): True,
        Atom("retry_after_ms"): 100,
    }


def test_a_transient_model_failure_is_retried_and_a_fatal_one_is_not() -> None:
    assert LMFailed("busy", kind="rate_limit", transient=True).recovery_strategy == "retry"
    assert LMFailed("no key", kind="auth", transient=False).recovery_strategy == "fatal"


def test_every_error_type_and_strategy_is_in_the_vocabulary() -> None:
    for name, owner in BridgeError.owners.items():
        assert name in ATOMS
        assert owner.strategy in ATOMS


def test_a_second_owner_of_an_error_type_is_refused() -> None:
    with pytest.raises(TypeError, match="which Overloaded owns"):
        type("Impostor", (BridgeError,), {"error_type": "overloaded"})


def test_an_unpublished_atom_cannot_be_sent_by_accident() -> None:
    with pytest.raises(KeyError):
        atom("not_in_the_vocabulary")


def test_a_long_or_huge_value_is_shown_in_a_few_words() -> None:
    for term in (b"x" * 10_000, 10**10_000, [1] * 10_000, {i: i for i in range(10_000)}, Atom("a" * 255)):
        with pytest.raises(ValidationError) as caught:
            messages.parse_incoming((HEALTH, 1, {}, {Atom("priority"): term}) if not isinstance(term, int) else term)
        assert len(str(caught.value)) < 250
