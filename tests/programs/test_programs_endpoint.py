"""Jobs against a real endpoint on a loopback port: retries, failures, keys, limits."""

from __future__ import annotations

import sys
import time
from typing import Any

import dspy
import pytest
from program_jobs import Endpoint, Jobs, Reply, category, completion, failure

from erlbridge.core.caching import worth_keeping
from erlbridge.errors import BudgetExceeded, Cancelled, LMFailed, OptimizationError, ValidationError

ONE = {"input": {"subject": "Charged twice", "body": "My card was charged twice."}}


def predict(jobs: Jobs, endpoint: Endpoint, lm: dict[str, object] | None = None, **config: object) -> Any:
    payload = {"signature": jobs.signature, **ONE, "config": {"lm": lm or endpoint.lm(), "cache": False, **config}}
    return jobs.run("predict", payload)[0]


def batch(jobs: Jobs, endpoint: Endpoint, count: int, **config: object) -> Any:
    inputs = [{"subject": row["subject"], "body": row["body"]} for row in jobs.tickets[:count]]
    payload = {
        "signature": jobs.signature,
        "inputs": inputs,
        "config": {"lm": endpoint.lm(), "cache": False, "num_threads": 1, **config},
    }
    return jobs.run("predict", payload)[0]


def test_a_prediction_carries_its_fields_and_what_it_cost(jobs: Jobs, endpoint: Endpoint) -> None:
    result = predict(jobs, endpoint)
    assert result["prediction"] == {"category": "billing"}
    metrics = result["metrics"]
    assert (metrics["lm_calls"], metrics["failed_calls"]) == (1, 0)
    assert (metrics["input_tokens"], metrics["output_tokens"]) == (100, 10)
    assert metrics["cost_usd"] is None  # nobody knows the price of `openai/x`


def test_a_known_model_has_a_price(jobs: Jobs, endpoint: Endpoint) -> None:
    result = predict(jobs, endpoint, endpoint.lm(model="openai/gpt-4o-mini"))
    assert 0 < result["metrics"]["cost_usd"] < 0.001


def test_transient_failures_are_tried_again_and_each_attempt_is_counted(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.script(failure(500, "oops"), failure(429, "slow down", Retry_After="0"), category("account"))
    result = predict(jobs, endpoint)
    assert result["prediction"] == {"category": "account"}
    assert (result["metrics"]["lm_calls"], result["metrics"]["failed_calls"]) == (3, 2)
    assert result["metrics"]["given_up_calls"] == 0
    assert len(endpoint.requests) == 3


def test_a_retry_waits_as_long_as_the_endpoint_asks(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.script(failure(429, "slow down", retry_after_ms="600"))
    begun = time.monotonic()
    predict(jobs, endpoint)
    assert 0.6 <= time.monotonic() - begun < 10


def test_a_long_retry_after_goes_to_the_host(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(429, "come back later", Retry_After="3600"))
    with pytest.raises(LMFailed) as caught:
        predict(jobs, endpoint)
    assert (caught.value.kind, caught.value.retryable, caught.value.retry_after_ms) == ("rate_limit", True, 3_600_000)
    assert len(endpoint.requests) == 1


def test_an_endpoint_that_stays_broken_is_given_up_after_four_attempts(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(500, "oops", retry_after_ms="1"))
    with pytest.raises(LMFailed) as caught:
        predict(jobs, endpoint)
    assert (caught.value.kind, caught.value.retryable) == ("server", True)
    assert caught.value.context["failed_calls"] == len(endpoint.requests) == 4


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (failure(401, "Incorrect API key provided", code="invalid_api_key"), "auth"),
        (failure(429, "You exceeded your current quota", code="insufficient_quota"), "billing"),
    ],
)
def test_a_fatal_failure_ends_an_evaluation_at_its_first_call(
    jobs: Jobs, endpoint: Endpoint, reply: Reply, kind: str
) -> None:
    endpoint.always(reply)
    with pytest.raises(LMFailed) as caught:
        jobs.evaluate(jobs.signature, count=40, lm=endpoint.lm(), cache=False, num_threads=1)
    assert (caught.value.kind, caught.value.retryable) == (kind, False)
    assert len(endpoint.requests) == 1


def test_a_fatal_failure_ends_an_optimization_that_dspy_would_call_a_success(jobs: Jobs, endpoint: Endpoint) -> None:
    answers = iter([category("billing")] * 40)
    endpoint.default = lambda request: next(answers, failure(401, "key revoked"))
    with pytest.raises(LMFailed) as caught:
        jobs.optimize("bootstrap_few_shot", lm=endpoint.lm(), cache=False, num_threads=4)
    assert caught.value.kind == "auth"
    assert len(endpoint.requests) == 41
    assert caught.value.context["best_score"] == 0.25
    assert caught.value.context["best_program"] is not None


def test_a_dead_address_is_a_transport_failure(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.close()
    with pytest.raises(LMFailed) as caught:
        predict(jobs, endpoint)
    assert (caught.value.kind, caught.value.retryable) == ("transport", True)


def test_an_endpoint_that_answers_no_call_is_given_up_before_the_batch_is_through(
    jobs: Jobs, endpoint: Endpoint
) -> None:
    endpoint.always(failure(400, "no such thing"))
    with pytest.raises(LMFailed) as caught:
        batch(jobs, endpoint, 40)
    assert caught.value.kind == "invalid_request"
    assert len(endpoint.requests) == 8


def test_a_bad_input_spoils_only_itself(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.script(category("billing"), failure(400, "content refused"), category("technical"))
    result = batch(jobs, endpoint, 3)
    first, second, third = result["predictions"]
    assert (first["prediction"], third["prediction"]) == ({"category": "billing"}, {"category": "technical"})
    assert second["prediction"] is None
    assert "content refused" in second["error"]
    assert result["metrics"]["failed_calls"] == result["metrics"]["given_up_calls"] == 1


def test_an_optimization_in_which_calls_were_given_up_is_not_worth_the_cache(jobs: Jobs, endpoint: Endpoint) -> None:
    """They count as wrong answers, so that it might have found another program."""
    for script, worth in (([], True), ([category("billing"), failure(400, "content refused")], False)):
        endpoint.script(*script)
        lm = {"lm": endpoint.lm(), "cache": False, "num_threads": 1}
        _, outcome = jobs.optimize("labeled_few_shot", train=4, dev=2, **lm)
        assert worth_keeping(outcome.result) is worth


def test_an_answer_that_is_no_json_is_an_lm_error(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(Reply(body=b'{"choices": [{"message": {"conte'))
    with pytest.raises(LMFailed) as caught:
        predict(jobs, endpoint)
    assert caught.value.kind in ("server", "unknown")


def test_an_answer_without_the_fields_is_an_optimization_error(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(completion("I would rather talk about the weather."))
    with pytest.raises(OptimizationError, match="cannot be read") as caught:
        predict(jobs, endpoint)
    assert "AdapterParseError" in str(caught.value.traceback)


def test_a_silent_endpoint_is_left_after_its_timeout(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(Reply(hangs=True))
    begun = time.monotonic()
    with pytest.raises(BudgetExceeded) as caught:
        predict(jobs, endpoint, endpoint.lm(timeout_ms=200), budget={"max_lm_calls": 1})
    assert caught.value.context["failed_calls"] == 1
    assert time.monotonic() - begun < 15


def test_a_wait_between_attempts_does_not_go_past_the_time_limit(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(429, "slow down", Retry_After="20"))
    begun = time.monotonic()
    with pytest.raises(BudgetExceeded, match="to wait"):
        predict(jobs, endpoint, budget={"max_seconds": 5})
    assert time.monotonic() - begun < 15


def test_a_cancel_ends_a_wait_between_attempts(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(failure(429, "slow down", Retry_After="20"))
    jobs.watcher.reason = Cancelled("as asked")
    jobs.watcher.stop_when = lambda state: state.lm_calls == 1
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        predict(jobs, endpoint)
    assert time.monotonic() - begun < 15


def test_a_key_comes_from_its_variable_and_appears_nowhere(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ENDPOINT", "hush-hush-1234")
    endpoint.always(failure(401, "Incorrect key: hush-hush-1234"))
    with pytest.raises(LMFailed) as caught:
        predict(jobs, endpoint, endpoint.lm(api_key_env="MY_ENDPOINT"))
    assert endpoint.headers[0]["Authorization"] == "Bearer hush-hush-1234"
    said = f"{caught.value} {caught.value.message} {caught.value.traceback} {caught.value.context}"
    assert "hush-hush" not in said
    assert "[redacted]" in said


def test_a_key_appears_in_no_error_of_a_batch(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hush-hush-1234")
    endpoint.script(category("billing"), failure(400, "the key hush-hush-1234 may not do this"))
    result = batch(jobs, endpoint, 2)
    assert "[redacted] may not do this" in result["predictions"][1]["error"]
    assert "hush-hush" not in caplog.text


def test_a_key_that_is_not_set_is_named_with_its_place(jobs: Jobs, endpoint: Endpoint) -> None:
    with pytest.raises(LMFailed, match=r"`NO_SUCH_KEY`, named by .*\.lm\.api_key_env, is not set") as caught:
        predict(jobs, endpoint, endpoint.lm(api_key_env="NO_SUCH_KEY"))
    assert (caught.value.kind, caught.value.retryable) == ("configuration", False)
    assert not endpoint.requests


def test_the_operators_own_key_does_not_go_to_an_address_of_the_request(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operators-own")
    predict(jobs, endpoint)
    assert "sk-operators-own" not in str(endpoint.headers)


def test_variables_that_name_another_gateway_change_nothing(
    jobs: Jobs, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    assert predict(jobs, endpoint)["prediction"] == {"category": "billing"}
    assert "litellm" not in sys.modules


def test_a_model_without_a_key_says_what_is_missing(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    payload = {"signature": jobs.signature, **ONE, "config": {"lm": "openai/gpt-4o-mini", "cache": False}}
    with pytest.raises(LMFailed, match="OPENAI_API_KEY") as caught:
        jobs.run("predict", payload)
    assert caught.value.kind == "configuration"


def test_temperature_and_token_limit_reach_the_endpoint(jobs: Jobs, endpoint: Endpoint) -> None:
    predict(jobs, endpoint, endpoint.lm(temperature=0.25, max_tokens=77))
    assert endpoint.requests[0]["temperature"] == 0.25
    assert 77 in (endpoint.requests[0].get("max_tokens"), endpoint.requests[0].get("max_completion_tokens"))


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_a_call_limit_is_exact_whatever_the_threads_do(jobs: Jobs, endpoint: Endpoint, limit: int) -> None:
    with pytest.raises(BudgetExceeded, match=f"limit {limit}") as caught:
        jobs.evaluate(
            jobs.signature, count=64, lm=endpoint.lm(), cache=False, num_threads=8, budget={"max_lm_calls": limit}
        )
    assert caught.value.context["lm_calls"] == limit
    assert len(endpoint.requests) <= limit


def test_a_token_limit_stops_before_the_next_call(jobs: Jobs, endpoint: Endpoint) -> None:
    with pytest.raises(BudgetExceeded, match="550 tokens used, limit 500"):
        batch(jobs, endpoint, 20, budget={"max_tokens": 500})
    assert len(endpoint.requests) == 5


def test_a_cost_limit_stops_before_the_next_call(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.always(category("billing", asked=1_000_000, answered=0))
    with pytest.raises(BudgetExceeded, match=r"USD spent, limit 0\.4"):
        batch(jobs, endpoint, 20, lm=endpoint.lm(model="openai/gpt-4o-mini"), budget={"max_cost_usd": 0.4})
    assert len(endpoint.requests) == 3  # 0.15 USD each


def test_a_cost_limit_that_cannot_be_kept_is_refused(jobs: Jobs, endpoint: Endpoint) -> None:
    with pytest.raises(ValidationError, match="no price is known for `openai/x`") as caught:
        batch(jobs, endpoint, 20, budget={"max_cost_usd": 1.0})
    assert caught.value.path == "payload.config.budget.max_cost_usd"
    assert len(endpoint.requests) == 1


def test_tokens_and_calls_are_exact_over_threads(jobs: Jobs, endpoint: Endpoint) -> None:
    result = jobs.evaluate(jobs.signature, count=64, lm=endpoint.lm(), cache=False, num_threads=8)
    metrics = result["metrics"]
    assert metrics["lm_calls"] == len(endpoint.requests) == 64
    assert (metrics["input_tokens"], metrics["output_tokens"]) == (6400, 640)
    assert result["score"] == 0.25


def test_tokens_and_calls_are_exact_over_the_threads_of_a_search(jobs: Jobs, endpoint: Endpoint) -> None:
    result, _ = jobs.optimize(
        "bootstrap_few_shot_with_random_search",
        train=12,
        dev=6,
        lm=endpoint.lm(),
        cache=False,
        num_threads=4,
        options={"num_candidate_programs": 2},
    )
    metrics = result["optimization_metrics"]
    assert metrics["lm_calls"] == len(endpoint.requests)
    assert metrics["input_tokens"] == 100 * len(endpoint.requests)
    assert metrics["repeatable"] is False


def test_a_call_limit_of_what_the_job_needs_is_enough(jobs: Jobs, endpoint: Endpoint) -> None:
    result = batch(jobs, endpoint, 3, budget={"max_lm_calls": 3, "max_tokens": 330})
    assert len(result["predictions"]) == 3


def test_the_teacher_and_the_writer_of_instructions_are_models_of_their_own(jobs: Jobs, endpoint: Endpoint) -> None:
    def answer(request: dict[str, Any]) -> Reply:
        if request["model"] == "teacher":
            return category("account")
        asked = ("proposed_instruction", "observations", "summary", "program_description", "module_description")
        return completion("\n\n".join(f"[[ ## {name} ## ]]\nMind the gap." for name in asked))

    endpoint.default = answer
    result, _ = jobs.optimize(
        "mipro_v2",
        train=8,
        dev=4,
        cache=False,
        prompt_lm=endpoint.lm(model="openai/writer"),
        teacher_lm=endpoint.lm(model="openai/teacher"),
        options={"num_candidates": 3, "num_trials": 2},
    )
    assert {request["model"] for request in endpoint.requests} == {"teacher", "writer"}
    metrics = result["optimization_metrics"]
    assert metrics["lm_calls"] > len(endpoint.requests)
    assert metrics["repeatable"] is False


def test_a_cached_answer_is_neither_billed_nor_shared_between_addresses(jobs: Jobs, endpoint: Endpoint) -> None:
    model = {"model": "openai/gpt-4o-mini"}
    first = predict(jobs, endpoint, endpoint.lm(**model), cache=True)
    again = predict(jobs, endpoint, endpoint.lm(**model), cache=True)
    assert first["prediction"] == again["prediction"]
    assert len(endpoint.requests) == 1
    assert first["metrics"]["cost_usd"] > 0
    assert (again["metrics"]["cost_usd"], again["metrics"]["input_tokens"]) == (0.0, 0)
    other = endpoint.lm(**model, api_base=endpoint.url.replace("127.0.0.1", "localhost"))
    predict(jobs, endpoint, other, cache=True)
    assert len(endpoint.requests) == 2
    assert not dspy.cache.enable_disk_cache, "DSPy's cache on disk unpickles what it finds"
