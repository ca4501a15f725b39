"""What the spans of a job tell: texts when they are asked for, errors by their type, models as they are named."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from collector import Collector, attributes
from program_jobs import Endpoint, Jobs, category, failure

from erlbridge.errors import LMFailed
from erlbridge.programs import traces, tracing
from erlbridge.programs.tracing import Tracer

KEY = "sk-nobody-may-see-this"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ticket-triage")
    traces._tracer.cache_clear()
    yield found
    if (tracer := traces._tracer()) is not None:
        tracer._provider.shutdown()
    traces._tracer.cache_clear()
    found.close()


def predict(jobs: Jobs, lm: object) -> None:
    ticket = {name: jobs.tickets[0][name] for name in ("subject", "body")}
    with traces.traced("predict", None):
        jobs.run("predict", {"signature": jobs.signature, "input": ticket, "config": {"lm": lm}})


def test_texts_are_there_when_they_are_asked_for(
    jobs: Jobs, endpoint: Endpoint, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    endpoint.always(category("billing"))
    predict(jobs, endpoint.lm(api_key=KEY, temperature=0.25))
    (call,) = collector.named(lambda name: name.startswith("chat "))
    told = attributes(call)
    assert jobs.tickets[0]["subject"] in told["gen_ai.input.messages"]
    assert "billing" in told["gen_ai.output.messages"]
    assert told["gen_ai.request.temperature"] == 0.25
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (100, 10)
    assert told["gen_ai.provider.name"] == "openai"
    assert collector.resources[-1]["service.name"] == "ticket-triage"
    assert KEY not in repr(collector.spans)


def test_an_error_is_told_by_its_type_and_in_no_words(jobs: Jobs, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.always(failure(401, f"Incorrect API key provided: {KEY}", code="invalid_api_key"))
    with pytest.raises(LMFailed):
        predict(jobs, endpoint.lm(api_key=KEY))
    (job,) = collector.named(lambda name: name == "predict")
    (call,) = collector.named(lambda name: name.startswith("chat "))
    assert attributes(job)["error.type"] == LMFailed.error_type
    assert "error.type" in attributes(call)
    assert KEY not in repr(collector.spans)
    assert "Incorrect" not in repr(collector.spans)


def test_without_a_collector_nothing_is_traced(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with traces.traced("predict", None):
        assert traces._running == []
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        assert not traces.wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", name: value})


def test_a_collector_that_was_too_slow_is_not_waited_for_again_until_it_keeps_up(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.2)
    monkeypatch.setattr(tracing, "_EXPORT_S", 0.3)
    collector.gate.clear()

    def job() -> float:
        began = time.monotonic()
        with traces.traced("predict", None):
            pass
        return time.monotonic() - began

    def settled() -> Tracer:
        tracer = traces._tracer()
        assert tracer is not None
        assert tracer._flushing is not None
        tracer._flushing.join()
        return tracer

    assert job() >= 0.2
    settled()  # given up, and the next one finds it as it was
    assert job() < 0.2
    settled()
    collector.gate.set()
    job()
    assert settled()._keeps_up
