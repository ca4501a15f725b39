"""What counts as a call, and when one may be made: attempts, several answers at once, answers of the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import dspy
import pytest
from program_jobs import Endpoint, Jobs, Watcher, category, completion, failure

from erlbridge.core.configs import Budget
from erlbridge.core.lms import LM
from erlbridge.errors import BudgetExceeded, LMFailed
from erlbridge.programs.failures import Secrets
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.models import build_lm


@pytest.fixture
def guard() -> Guard:
    return Guard(Watcher(), Budget())


def calls(endpoint: Endpoint, guard: Guard, *, cache: bool = True, **options: Any) -> Any:
    lm = LM("openai/x", api_base=endpoint.url, timeout_s=5.0)
    built = build_lm(lm, cache=cache, guard=guard, secrets=Secrets({}), path="lm")
    with dspy.context(callbacks=[guard], usage_tracker=guard):
        return built("How are you?", **options)


@pytest.fixture
def numbered(endpoint: Endpoint) -> Iterator[Endpoint]:
    """An endpoint that never gives the same answer twice."""
    endpoint.default = lambda request: completion(f"answer {len(endpoint.requests)}")
    return endpoint


def test_several_answers_to_one_prompt_are_as_many_calls(numbered: Endpoint, guard: Guard) -> None:
    assert calls(numbered, guard, n=3) == ["answer 1", "answer 2", "answer 3"]
    assert (guard.ledger.lm_calls, guard.ledger.input_tokens, len(numbered.requests)) == (3, 300, 3)
    assert calls(numbered, guard, n=4) == ["answer 1", "answer 2", "answer 3", "answer 4"]
    assert (guard.ledger.lm_calls, guard.ledger.cached_calls, len(numbered.requests)) == (4, 3, 4)


def test_one_of_several_answers_is_tried_again_by_itself(numbered: Endpoint, guard: Guard) -> None:
    numbered.script(completion("first"), failure(500, "oops", retry_after_ms="1"), completion("second"))
    assert calls(numbered, guard, n=2, cache=False) == ["first", "second"]
    assert (guard.ledger.lm_calls, guard.ledger.failed_calls, len(numbered.requests)) == (3, 1, 3)


def test_a_call_limit_is_exact_within_several_answers(numbered: Endpoint) -> None:
    guard = Guard(Watcher(), Budget(max_lm_calls=2))
    with pytest.raises(Stop):
        calls(numbered, guard, n=3)
    assert isinstance(guard.reason, BudgetExceeded)
    assert (guard.ledger.lm_calls, len(numbered.requests)) == (2, 2)


def test_another_rollout_or_temperature_is_another_answer_and_both_come_again(numbered: Endpoint, guard: Guard) -> None:
    def all_four() -> list[list[str]]:
        asked: list[dict[str, Any]] = [{}, {"rollout_id": 1}, {"rollout_id": 2, "temperature": 1.0}, {"max_tokens": 5}]
        return [calls(numbered, guard, **options) for options in asked]

    first = all_four()
    assert first == [[f"answer {number}"] for number in (1, 2, 3, 4)]
    assert all_four() == first
    assert len(numbered.requests) == 4


def test_answers_of_the_cache_use_up_no_budget(jobs: Jobs, endpoint: Endpoint) -> None:
    first = jobs.evaluate(jobs.signature, count=12, lm=endpoint.lm(), budget={"max_lm_calls": 12})
    assert (first["metrics"]["lm_calls"], first["metrics"]["cached_calls"]) == (12, 0)
    again = jobs.evaluate(jobs.signature, count=12, lm=endpoint.lm(timeout_ms=4000), budget={"max_lm_calls": 0})
    assert (again["metrics"]["lm_calls"], again["metrics"]["cached_calls"]) == (0, 12)
    assert again["score"] == first["score"]
    assert len(endpoint.requests) == 12
    with pytest.raises(BudgetExceeded):
        jobs.evaluate(jobs.signature, count=13, lm=endpoint.lm(), budget={"max_lm_calls": 0})


def test_a_job_of_which_every_new_call_fails_for_want_of_an_endpoint_is_no_success(
    jobs: Jobs, endpoint: Endpoint
) -> None:
    jobs.evaluate(jobs.signature, count=4, lm=endpoint.lm())
    endpoint.always(failure(500, "down", retry_after_ms="1"))
    with pytest.raises(LMFailed):
        jobs.evaluate(jobs.signature, count=40, lm=endpoint.lm())


def test_the_share_of_failed_calls_is_told(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.script(category("billing"), failure(500, "oops", retry_after_ms="1"))
    metrics = jobs.evaluate(jobs.signature, count=3, lm=endpoint.lm(), cache=False, num_threads=1)["metrics"]
    assert (metrics["lm_calls"], metrics["failed_calls"], metrics["failed_share"]) == (4, 1, 0.25)


@pytest.mark.parametrize("optimizer", ["bootstrap_few_shot", "mipro_v2"])
def test_the_calls_of_an_optimizer_are_counted_exactly(jobs: Jobs, endpoint: Endpoint, optimizer: str) -> None:
    names = ("observations", "summary", "program_description", "module_description", "proposed_instruction", "category")
    endpoint.always(completion("\n\n".join(f"[[ ## {name} ## ]]\nbilling" for name in names)))
    options = {"num_candidates": 2, "num_trials": 1} if optimizer == "mipro_v2" else {}
    result, _ = jobs.optimize(optimizer, train=8, dev=4, lm=endpoint.lm(), num_threads=4, options=options)
    metrics = result["optimization_metrics"]
    assert metrics["lm_calls"] == len(endpoint.requests)
    assert metrics["input_tokens"] == 100 * len(endpoint.requests)


def test_a_retry_waits_until_the_date_that_the_endpoint_names_and_says_so(jobs: Jobs, endpoint: Endpoint) -> None:
    endpoint.script(failure(429, "slow down", Retry_After=formatdate(time.time() + 2, usegmt=True)))
    begun = time.monotonic()
    lm = endpoint.lm()
    one = {"subject": "Charged twice", "body": "My card was charged twice."}
    jobs.run("predict", {"signature": jobs.signature, "input": one, "config": {"lm": lm, "cache": False}})
    assert 0.9 <= time.monotonic() - begun < 10  # the date has whole seconds
    assert len(endpoint.requests) == 2
    said = [state.message for state in jobs.watcher.seen if state.message]
    assert said[0].endswith("after failed attempt 1 of 4 (rate_limit) of `openai/x`")


def test_a_password_within_an_address_is_a_secret() -> None:
    secrets = Secrets({"HTTPS_PROXY": "http://me:hush-hush@proxy:3128", "HOME": "/home/me:x@y"})
    assert secrets.redact("cannot connect to me:hush-hush@proxy") == "cannot connect to me:[redacted]@proxy"
