"""One training at an endpoint, without a program around it: its requests, refusals, stops and what it leaves there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import dspy
import pytest
from program_jobs import Reply, Watcher, failure
from tuning_endpoint import TuningEndpoint

from erlbridge.codec import term_to_binary
from erlbridge.core.configs import Budget
from erlbridge.errors import BudgetExceeded, Cancelled, LMFailed, OptimizationError
from erlbridge.programs.endpoint_trainer import EndpointTrainer
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.trainers import Trained

FILES, TUNINGS, STATE = "POST /files", "POST /fine_tuning/jobs", "GET /fine_tuning/jobs"
CONVERSATIONS = [
    dspy.ChatAdapter().format_finetune_data(dspy.Signature("q -> a"), [], {"q": number}, {"a": number})
    for number in ("1", "2")
]


@pytest.fixture
def tuning() -> Iterator[TuningEndpoint]:
    served = TuningEndpoint()
    yield served
    served.close()


def train(endpoint: TuningEndpoint, guard: Guard | None = None) -> Trained:
    trainer = EndpointTrainer(guard or Guard(Watcher(), Budget()), address=endpoint.url, key="sk-1234", timeout_s=5)
    return trainer.train("openai/x", CONVERSATIONS, {})


def test_a_training_names_its_model_and_leaves_no_data_behind(tuning: TuningEndpoint) -> None:
    assert train(tuning) == Trained("openai/ft:x:org::1", examples=2, tokens=154)
    assert tuning.account.deleted == ["file-1"]
    assert tuning.account.files["file-1"] == CONVERSATIONS


@pytest.mark.parametrize(
    ("state", "error", "kind", "said"),
    [
        ("failed", {"code": "invalid_training_file", "message": "line 3"}, "invalid_request", "failed .*: line 3"),
        ("failed", None, "server", "failed at the endpoint"),
        ("failed", {"message": "\ud800" * 1000}, "server", "failed at the endpoint"),
        ("cancelled", None, "server", "was cancelled at the endpoint"),
    ],
)
def test_a_training_that_fails_is_an_lm_error(
    tuning: TuningEndpoint, state: str, error: dict[str, str] | None, kind: str, said: str
) -> None:
    tuning.account.states, tuning.account.error = ("queued", state), error
    with pytest.raises(LMFailed, match=said) as caught:
        train(tuning)
    assert (caught.value.kind, caught.value.transient) == (kind, False)
    assert caught.value.context["job"] == "ftjob-1"
    assert len(term_to_binary(caught.value.message)) < 2000  # and it can be sent
    assert not tuning.account.jobs["ftjob-1"].cancelled  # it has ended by itself
    assert tuning.account.deleted == ["file-1"]


@pytest.mark.parametrize(
    ("at", "reply", "kind"),
    [
        (FILES, failure(401, "bad key"), "auth"),
        (FILES, failure(404, ""), "configuration"),
        (FILES, failure(429, "pay first", code="insufficient_quota"), "billing"),
        (FILES, failure(413, "too large"), "invalid_request"),
        (FILES, Reply(307, b"", {"Location": "http://127.0.0.1:9/v1/files"}), "configuration"),
        (FILES, Reply(body=b"<html>"), "server"),
        (FILES, Reply(body=b'{"id": "../../evil"}'), "server"),
        (TUNINGS, failure(500, "began or not, who knows"), "server"),
        (TUNINGS, failure(429, "later", Retry_After="3600"), "rate_limit"),
        (TUNINGS, Reply(body=b" " * 1_100_000), "server"),
        (STATE, failure(403, "no longer"), "auth"),
    ],
)
def test_what_an_endpoint_refuses_is_an_lm_error_of_its_kind(
    tuning: TuningEndpoint, at: str, reply: Reply, kind: str
) -> None:
    tuning.account.faults[at] = [reply]
    with pytest.raises(LMFailed) as caught:
        train(tuning)
    assert caught.value.kind == kind
    assert len(tuning.account.jobs) == (at == STATE)  # what may have begun is not begun twice
    assert all(job.cancelled for job in tuning.account.jobs.values())
    assert tuning.account.deleted == [*tuning.account.files]


def test_an_endpoint_that_is_not_there_is_a_transport_error(
    tuning: TuningEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "sleep", lambda guard, seconds: guard.check())
    tuning.url = "http://127.0.0.1:9/v1"
    with pytest.raises(LMFailed) as caught:
        train(tuning)
    assert (caught.value.kind, caught.value.transient) == ("transport", True)


def test_what_passes_is_tried_again(tuning: TuningEndpoint) -> None:
    busy = failure(503, "busy", Retry_After="0")
    tuning.account.faults = {FILES: [busy], TUNINGS: [failure(429, "slowly", Retry_After="0")], STATE: [busy] * 5}
    assert train(tuning).model == "openai/ft:x:org::1"
    assert len(tuning.account.jobs) == 1


@pytest.mark.parametrize("model", [None, "", "no spaces please", 7, "x" * 300])
def test_a_model_without_a_name_that_can_be_used_is_no_success(tuning: TuningEndpoint, model: object) -> None:
    tuning.account.model, tuning.account.states = model, ("queued", "succeeded")
    with pytest.raises(LMFailed, match="names no model that can be used"):
        train(tuning)


def test_data_is_deleted_where_the_training_cannot_be_cancelled(tuning: TuningEndpoint) -> None:
    gone = failure(400, "it has just ended")
    tuning.account.faults = {STATE: [failure(403, "no longer")], "POST /fine_tuning/jobs/": [gone]}
    with pytest.raises(LMFailed, match="no longer"):
        train(tuning)
    assert tuning.account.deleted == ["file-1"]


def test_a_request_in_flight_keeps_nobody_from_stopping(tuning: TuningEndpoint) -> None:
    tuning.account.faults = {STATE: [Reply(hangs=True)]}
    watcher = Watcher(lambda state: state.message == "validating_files", Cancelled("cancelled as asked"))
    with pytest.raises(Stop):
        train(tuning, Guard(watcher, Budget()))
    assert tuning.account.jobs["ftjob-1"].cancelled
    assert tuning.account.deleted == ["file-1"]


def test_a_stop_while_the_training_is_being_asked_for_cancels_it_all_the_same(tuning: TuningEndpoint) -> None:
    watcher, begun, begin = Watcher(reason=Cancelled("cancelled as asked")), threading.Event(), tuning.tune

    def slowly(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        reply = begin(method, path, headers, body)
        if f"{method} {path}" == TUNINGS:
            watcher.stopping = True
            begun.wait(0.2)  # the answer comes when the job here has been stopped already
        return reply

    tuning.tune = slowly  # type: ignore[method-assign]
    with pytest.raises(Stop):
        train(tuning, Guard(watcher, Budget()))
    assert tuning.account.jobs["ftjob-1"].cancelled


def test_a_stop_goes_to_dspy_as_an_exception_or_it_would_wait_for_ever(tuning: TuningEndpoint) -> None:
    tuning.account.states = ("running",)
    guard = Guard(Watcher(), Budget(max_seconds=0.3))
    trainer = EndpointTrainer(guard, address=tuning.url, key="sk-1234", timeout_s=5)
    with pytest.raises(RuntimeError, match="was stopped"):
        trainer.finetune(None, "openai/x", CONVERSATIONS, "chat")
    assert isinstance(guard.reason, BudgetExceeded)
    assert tuning.account.jobs["ftjob-1"].cancelled


def test_a_fault_of_a_training_stops_the_job(tuning: TuningEndpoint) -> None:
    guard = Guard(Watcher(), Budget())
    trainer = EndpointTrainer(guard, address=tuning.url, key="sk-1234", timeout_s=5)
    with pytest.raises(RuntimeError, match="was stopped"):
        trainer.finetune(None, "openai/x", [{"messages": {1, 2}}], "chat")  # a set is no JSON
    assert isinstance(guard.reason, OptimizationError)
