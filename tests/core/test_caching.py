"""What the result cache takes for the same question, which questions it answers, and which results it keeps."""

from __future__ import annotations

from typing import Any

import pytest

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.caching import asks_for_cache, cached_identity, calls_functions, names_in, worth_keeping
from erlbridge.core.results import identity
from erlbridge.wire.messages import Request
from erlbridge.wire.vocabulary import atom

CONFIG, INPUT, CALL = Atom("config"), Atom("input"), Atom("call")


def asking(verb: str = "predict", beside: dict[Any, Any] | None = None, **config: object) -> Request:
    settings = {Atom("lm"): b"openai/x", Atom("result_cache"): True}
    settings |= {Atom(name): value for name, value in config.items()}
    return Request(verb, 1, {Atom("signature"): b"a -> b", INPUT: {b"a": b"1"}, CONFIG: settings, **(beside or {})})


def same(one: Request, other: Request, *libraries: str) -> bool:
    names = libraries or ("1", "1")
    return cached_identity(one, names[0]) == cached_identity(other, names[1])


def test_what_makes_no_difference_is_left_out_of_the_question() -> None:
    lm = {Atom("model"): b"openai/x", Atom("temperature"): 0.5}
    other = {**lm, Atom("api_key"): b"sk-1", b"timeout_ms": 10, Atom("rate_limit"): {b"requests_per_minute": 9}}
    fast = asking(lm=other, num_threads=8, call_timeout_ms=5, cache=True)
    assert cached_identity(asking(lm=lm), "1").fingerprint == cached_identity(fast, "1").fingerprint
    assert cached_identity(fast, "1").keys == (b"sk-1",), "it is not stored with the result"


@pytest.mark.parametrize(
    "other",
    [
        asking("evaluate_pipeline"),
        asking(seed=1),
        asking(lm=b"openai/y"),
        asking(budget={Atom("max_lm_calls"): 1}),
        asking(beside={INPUT: {b"a": b"2"}}),
        asking(beside={INPUT: {b"a": b"1", b"api_key": b"an input's name"}}),
        asking(beside={INPUT: {Atom("a"): b"1"}}),
    ],
    ids=["verb", "seed", "model", "budget", "input", "a key of the data", "atoms"],
)
def test_another_question_is_another(other: Request) -> None:
    assert not same(asking(), other)
    assert not same(asking(), asking(), "1", "2")


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ({b"a": 1}, (Atom("map"), [b"a"], [1])),
        ({b"a": 1}, (Atom("map"), None, None, [Atom("map"), [b"a"], [1]])),
        ((Atom("map"), [b"a"], [1]), (Atom("map"), None, None, [Atom("map"), [b"a"], [1]])),
        ({1: 1}, term_to_binary({1: 1}, deterministic=True)),
        ({1: 1}, (Atom("map"), term_to_binary({1: 1}, deterministic=True))),
        ([1, 2], (1, 2)),
        (1, 1.0),
        (0.0, -0.0),
        (True, 1),
        (Atom("a"), b"a"),
        (None, b"nil"),
    ],
)
def test_values_that_only_look_alike_are_other_questions(value: Any, other: Any) -> None:
    for wrapped in (lambda term: term, lambda term: [term], lambda term: {b"deep": (1, term)}):
        one, two = (asking(beside={INPUT: {b"a": wrapped(found)}}) for found in (value, other))
        assert not same(one, two)


@pytest.mark.parametrize("field", ["cache", "timeout_ms", "api_key", "num_threads"])
def test_a_field_may_be_called_what_makes_no_difference_elsewhere(field: str) -> None:
    """Constraints on outputs are named by these."""
    short, long = (
        asking(module={b"name": b"refine", b"reward": {b"name": b"constraints", b"fields": {field.encode(): wish}}})
        for wish in ({b"maxLength": 1}, {b"maxLength": 2})
    )
    assert not same(short, long)
    assert not same(*(asking(options={b"train_kwargs": {field.encode(): value}}) for value in (1, 2)))
    assert identity("predict", short.payload) != identity("predict", long.payload)


@pytest.mark.parametrize(
    ("request_", "by_default", "wanted"),
    [
        (asking(), False, True),
        (asking(result_cache=None), False, False),
        (asking(result_cache=None), True, True),
        (asking(result_cache=False), True, False),
        (asking(cache=False), True, False),
        (asking("put_program"), True, False),
        (asking("run_pipeline"), True, False),
        (asking(beside={Atom("stream"): True}), True, False),
        (asking(lm=(CALL, b"answer")), True, False),
        (asking(metric={Atom("name"): (CALL, Atom("judge"))}), True, False),
        (asking(beside={Atom("metric"): (CALL, Atom("judge"))}), True, False),
        (asking(beside={Atom("program"): {Atom("tools"): [{Atom("call"): (CALL, b"t")}]}}), True, False),
        (asking(beside={Atom("program"): {Atom("config"): {Atom("metric"): (CALL, b"t")}}}), True, True),
        (asking(beside={INPUT: {b"a": (CALL, b"text")}}), True, True),
        (Request("predict", 1, [b"no map"]), True, False),
        (Request("predict", 1, {CONFIG: b"no map"}), True, False),
    ],
)
def test_what_is_asked_of_the_cache(request_: Request, by_default: bool, wanted: bool) -> None:
    assert asks_for_cache(request_, by_default) is wanted


def test_a_stored_program_that_calls_functions_is_known_by_its_bytes() -> None:
    tools = {atom("module"): {b"tools": [{atom("call"): (atom("call"), b"search")}]}}
    record = {atom("config"): {b"metric": (atom("call"), b"judge")}}
    assert calls_functions(term_to_binary(tools))
    assert not calls_functions(term_to_binary(record)), "how it was made is not done again"
    assert calls_functions(b"damaged")


@pytest.mark.parametrize(
    ("result", "worth"),
    [
        ({atom("status"): atom("success")}, True),
        ({atom("failures"): 0, atom("errors"): []}, True),
        ({atom("failures"): 1}, False),
        ({atom("optimization_metrics"): {atom("failed_calls"): 3, atom("given_up_calls"): 0}}, True),
        ({atom("optimization_metrics"): {atom("failed_calls"): 3, atom("given_up_calls"): 1}}, False),
        ({atom("metrics"): {atom("given_up_calls"): 1}}, False),
        ({atom("predictions"): [{atom("error"): None}]}, True),
        ({atom("predictions"): [{atom("error"): None}, {atom("error"): b"no answer"}]}, False),
        ("no map", False),
    ],
)
def test_a_result_of_which_something_failed_is_not_kept(result: object, worth: bool) -> None:
    assert worth_keeping(result) is worth


def test_what_a_result_names_must_be_there_to_be_given_again() -> None:
    result = {atom("program_id"): b"program:ab", atom("model"): "offline:cd"}
    assert names_in(result) == ["program:ab", "offline:cd"]
    assert names_in({atom("model"): b"openai/ft-1", atom("program_id"): None}) == []
