"""What an endpoint puts into its answers: no secret in it goes any further, no broken text spoils its neighbours."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Request
from program_jobs import Endpoint, Jobs, Reply, Watcher, completion, failure, plain

from erlbridge.codec import Atom, binary_to_term, term_to_binary
from erlbridge.core.configs import Budget
from erlbridge.core.lms import LM
from erlbridge.errors import LMFailed, PythonRuntimeError
from erlbridge.programs.failures import Secrets
from erlbridge.programs.guard import Guard
from erlbridge.programs.models import build_lm
from erlbridge.wire.messages import error_map

KEY = "hush-hush/1234"
SPELLINGS = {
    "plain": KEY,
    "JSON": KEY.replace("/", "\\/"),
    "JSON of an odd server": KEY.replace("h", "\\u0068"),
    "URL": KEY.replace("/", "%2F"),
}
HALF = "\ud83d"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ENDPOINT", KEY)


def fields(**values: str) -> Reply:
    """An answer in the form of DSPy's chat adapter."""
    return completion("\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()))


def told(endpoint: Endpoint) -> str:
    """The key as the last request carried it."""
    return endpoint.headers[-1]["Authorization"]


def ask(jobs: Jobs, endpoint: Endpoint, **config: object) -> Any:
    lm = endpoint.lm(api_key_env="MY_ENDPOINT")
    payload = {"signature": "x -> y", "input": {"x": "a"}, "config": {"lm": lm, "cache": False, **config}}
    return jobs.run("predict", payload)[0]


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_sent_without_the_white_space_around_it(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ENDPOINT", f" {KEY}\r\n")
    endpoint.always(fields(y="fine"))
    assert ask(jobs, endpoint)["prediction"] == {"y": "fine"}
    assert told(endpoint) == f"Bearer {KEY}"


def test_a_key_of_white_space_is_not_set(jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ENDPOINT", " \n")
    with pytest.raises(LMFailed, match=r"`MY_ENDPOINT`, named by .*\.lm\.api_key_env, is not set"):
        ask(jobs, endpoint)


def test_a_key_that_no_header_can_carry_appears_nowhere(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ENDPOINT", "hush\nhush'1234")
    with pytest.raises(LMFailed) as caught:
        ask(jobs, endpoint, budget={"max_lm_calls": 9})
    said = f"{caught.value} {caught.value.message} {caught.value.traceback} {caught.value.context}"
    assert "hush" not in said
    assert "[redacted]" in said


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_that_an_endpoint_answers_with_is_in_no_prediction(jobs: Jobs, endpoint: Endpoint, spelling: str) -> None:
    endpoint.always(fields(y=f"Bearer {SPELLINGS[spelling]}, as you said"))
    assert ask(jobs, endpoint)["prediction"] == {"y": "Bearer [redacted], as you said"}


def test_a_key_in_an_answer_that_is_json_is_in_no_prediction(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.default = lambda request: completion(f'{{"y": "{told(endpoint)}"}}')
    assert ask(jobs, endpoint)["prediction"] == {"y": "Bearer [redacted]"}


def test_a_key_in_an_answer_that_cannot_be_read_is_in_no_error(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.default = lambda request: completion(f"{told(endpoint)} {{")
    payload = {
        "signature": "x -> y: integer",
        "inputs": [{"x": "a"}, {"x": "b"}],
        "config": {"lm": endpoint.lm(api_key_env="MY_ENDPOINT"), "cache": False},
    }
    result, _ = jobs.run("predict", payload)
    assert all("[redacted]" in row["error"] for row in result["predictions"])
    assert "hush" not in str(result)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("bootstrap_few_shot", {}), ("mipro_v2", {"num_candidates": 3, "num_trials": 2})],
)
def test_a_key_that_an_endpoint_answers_with_is_in_no_program(
    jobs: Jobs, endpoint: Endpoint, optimizer: str, options: dict[str, object]
) -> None:
    """Every ticket is answered rightly once the prompt shows what the endpoint wrote before."""
    asked = ("reasoning", "proposed_instruction", "observations", "summary", "program_description")
    right = {row["body"]: row["category"] for row in jobs.tickets}

    def answer(request: dict[str, Any]) -> Reply:
        *shown, last = [str(message["content"]) for message in request["messages"]]
        learnt = "Because" in "".join(shown)
        category = next((right[body] for body in right if learnt and body in last), "billing")
        return fields(category=category, module_description="x", **dict.fromkeys(asked, f"Because {told(endpoint)}"))

    endpoint.default = answer
    lm = endpoint.lm(api_key_env="MY_ENDPOINT")
    result, outcome = jobs.optimize(
        optimizer, train=8, dev=4, lm=lm, cache=False, module="chain_of_thought", options=options
    )
    assert outcome.program is not None
    assert b"Because Bearer [redacted]" in outcome.program
    assert b"hush" not in outcome.program
    assert b"hush" not in term_to_binary(outcome.result)
    assert result["optimization_metrics"]["score_after"] == 1.0
    assert "hush" not in str([request["messages"] for request in endpoint.requests])


def test_an_answer_with_a_key_in_it_is_not_cached(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_ENDPOINT", "another-one")
    endpoint.default = lambda request: fields(y=told(endpoint))
    other = endpoint.lm(api_key_env="OTHER_ENDPOINT")
    assert ask(jobs, endpoint, cache=True)["prediction"] == {"y": "Bearer [redacted]"}
    assert ask(jobs, endpoint, cache=True, lm=other)["prediction"] == {"y": "Bearer [redacted]"}
    assert [header["Authorization"] for header in endpoint.headers] == [f"Bearer {KEY}", "Bearer another-one"]
    assert "hush" not in repr(list(dspy.cache.memory_cache.values()))


def test_the_answer_to_an_explicit_request_is_clean(endpoint: Endpoint) -> None:
    """DSPy's adapters are to ask in this form from 3.5 on."""
    endpoint.default = lambda request: completion(f"{told(endpoint)} {HALF}")
    lm = LM(model="openai/x", api_base=endpoint.url, api_key_env="MY_ENDPOINT")
    secrets = Secrets.of_process(["MY_ENDPOINT"])
    built = build_lm(lm, cache=False, guard=Guard(Watcher(), Budget()), secrets=secrets, path="lm")
    found = built(Request(model="openai/x", messages=(Message.user("hello"),)))
    built.close()
    assert found.text == "Bearer [redacted] \ufffd"
    assert "hush" not in repr(found)


def test_an_error_that_writes_what_it_holds_shows_no_key(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Holding(Exception):
        def __str__(self) -> str:
            return f"failed with {KEY}"

    def fails(**options: object) -> None:
        raise Holding

    monkeypatch.setattr(dspy, "context", fails)
    payload = {"signature": "x -> y", "input": {"x": "a"}, "config": {"lm": "offline"}}
    monkeypatch.setenv("MY_KEY", KEY)
    with pytest.raises(PythonRuntimeError, match=r"Holding: failed with \[redacted\]") as caught:
        jobs.run("predict", payload)
    assert "hush" not in f"{caught.value} {caught.value.traceback}"


def test_the_kind_of_a_model_failure_is_an_atom_to_the_host(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(401, "no"))
    with pytest.raises(LMFailed) as caught:
        ask(jobs, endpoint)
    term: Any = binary_to_term(term_to_binary(error_map(caught.value)))
    assert term[Atom("context")][Atom("kind")] == Atom("auth")


# -- broken text ------------------------------------------------------------------------------------------------------

BROKEN = [
    (fields(category=f"bil{HALF}"), {"category": "bil\ufffd"}),
    (completion(f'{{"category": "{HALF} half"}}'), {"category": "\ufffd half"}),
    (completion('{"category": "\\ud83d half"}'), {"category": "\ufffd half"}),
    (completion(f"no field {HALF}"), None),
]


@pytest.mark.parametrize(("reply", "expected"), BROKEN)
@pytest.mark.parametrize("verb", ["predict", "evaluate_pipeline"])
def test_a_lone_surrogate_in_one_answer_leaves_the_others_as_they_are(
    jobs: Jobs, endpoint: Endpoint, verb: str, reply: Reply, expected: object
) -> None:
    def answer(request: dict[str, Any]) -> Reply:
        return (
            reply if jobs.tickets[2]["body"] in str(request["messages"][-1]["content"]) else fields(category="billing")
        )

    endpoint.default = answer
    rows = [{**row, "category": "billing"} for row in jobs.tickets[:6]]
    given: dict[str, object] = (
        {"inputs": [{"subject": row["subject"], "body": row["body"]} for row in rows]}
        if verb == "predict"
        else {"data": rows}
    )
    config = {"lm": endpoint.lm(), "cache": False}
    _, outcome = jobs.run(verb, {"signature": "subject, body -> category", **given, "config": config})
    result = plain(binary_to_term(term_to_binary(outcome.result)))
    found = result["predictions" if verb == "predict" else "results"]
    assert [row["prediction"] for row in found] == [
        {"category": "billing"}, {"category": "billing"}, expected, *[{"category": "billing"}] * 3
    ]  # fmt: skip
    assert (found[2]["error"] is None) == (expected is not None)
    if expected is None:
        assert "no field \ufffd" in found[2]["error"]


def test_a_lone_surrogate_in_a_demo_does_not_stop_the_calls_that_show_it(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(fields(reasoning=f"Because {HALF}", category="billing"))
    result, outcome = jobs.optimize(
        "bootstrap_few_shot", train=8, dev=8, lm=endpoint.lm(), cache=False, module="chain_of_thought"
    )
    assert "Because \ufffd".encode() in (outcome.program or b"")
    assert result["optimization_metrics"]["score_after"] == result["optimization_metrics"]["score_before"] > 0


@pytest.mark.parametrize("kind", ["integer", "any", "list[integer]", "dict[string, any]"])
def test_the_longest_integer_reaches_the_model(jobs: Jobs, endpoint: Endpoint, kind: str) -> None:
    number = 10**1000 - 1
    value: object = {"list[integer]": [number], "dict[string, any]": {"k": number}}.get(kind, number)
    endpoint.always(fields(y="fine"))
    signature = {"input_fields": [{"name": "x", "type": kind}], "output_fields": ["y"]}
    payload = {"signature": signature, "input": {"x": value}, "config": {"lm": endpoint.lm(), "cache": False}}
    assert jobs.run("predict", payload)[0]["prediction"] == {"y": "fine"}
    assert str(number) in str(endpoint.requests[0]["messages"])


def test_an_answer_that_is_a_password_of_the_machine_stays_an_answer() -> None:
    secrets = Secrets({"PGPASSWORD": "postgres", "OPENAI_API_KEY": "sk-123456", "MINE": "abcd"}, ["MINE"])
    assert secrets.redact_answer("postgres sk-123456 abcd") == "postgres [redacted] [redacted]"
    assert secrets.redact("postgres sk-123456 abcd") == "[redacted] [redacted] [redacted]"
