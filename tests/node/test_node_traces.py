"""Jobs as spans: from a real node and its workers to a collector on loopback, below the host's own span."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from collector import Collector, attributes
from node_client import NodeClient
from tickets import SIGNATURE, TICKETS, optimization, prediction, slow

from erlbridge.codec import Atom

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BELOW_OURS = {Atom("traceparent"): f"00-{TRACE}-{SPAN}-01".encode()}
ERROR = 2


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[NodeClient]:
    """A node with one worker, which may connect to no port but what its traces need."""
    settings = ("--workers", "1", "--spare-workers", "0", "--otel-endpoint", collector.url, "--sandbox-ports", "9")
    client = NodeClient(*settings, data=tmp_path_factory.mktemp("data"))
    client.ready()
    yield client
    client.close()


@pytest.fixture
def spans(collector: Collector) -> list[Any]:
    """The spans of this test."""
    collector.spans.clear()
    return collector.spans


def one(spans: list[Any], name: str) -> Any:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_a_job_its_modules_and_its_calls_are_spans_below_the_hosts_when_its_answer_comes(
    traced: NodeClient, collector: Collector, spans: list[Any]
) -> None:
    assert traced.ask("predict", prediction(), BELOW_OURS)[0] == "ok"
    job, module, call = one(spans, "predict"), one(spans, "Predict"), one(spans, "chat offline")
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert job.parent_span_id.hex() == SPAN
    above = {span.span_id: span for span in spans}
    assert above[module.parent_span_id].parent_span_id == job.span_id, "the program that the predictor is part of"
    assert call.parent_span_id == module.span_id
    assert job.start_time_unix_nano <= call.start_time_unix_nano <= call.end_time_unix_nano <= job.end_time_unix_nano
    told = attributes(call)
    assert told["gen_ai.request.model"] == "offline"
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["gen_ai.usage.output_tokens"] > 0
    assert collector.resources[-1]["service.name"] == "erlbridge"


def test_no_text_of_a_prompt_or_an_answer_is_in_them_unasked(traced: NodeClient, spans: list[Any]) -> None:
    assert traced.ask("predict", prediction())[0] == "ok"
    shown = repr(spans)
    assert spans
    for text in (TICKETS[0][Atom("subject")], SIGNATURE[Atom("instructions")]):
        assert text.decode() not in shown
    assert not [name for span in spans for name in attributes(span) if name.endswith("messages")]


def test_what_threads_of_an_optimization_do_is_below_what_made_them_do_it(traced: NodeClient, spans: list[Any]) -> None:
    assert traced.ask("optimize_signature", optimization(6))[0] == "ok"
    by_id = {span.span_id: span for span in spans}
    job = one(spans, "optimize_signature")
    assert not job.parent_span_id, "nobody named a span"
    assert {span.trace_id for span in spans} == {job.trace_id}
    assert all(span.parent_span_id in by_id for span in spans if span is not job)
    compiled = [span for span in spans if span.name.startswith("compile ")]
    assert [by_id[span.parent_span_id] for span in compiled].count(job) == 1, "those of an optimizer's parts are below"
    calls = [span for span in spans if span.name == "chat offline"]
    assert calls
    assert all(by_id[call.parent_span_id].name != "optimize_signature" for call in calls)


def test_a_job_that_is_stopped_leaves_no_span_open_and_says_why(traced: NodeClient, spans: list[Any]) -> None:
    number = traced.request("optimize_signature", {**optimization(6), Atom("config"): slow(100)})
    traced.until(lambda term: str(term[0]) == "progress" and term[2][Atom("lm_calls")])
    traced.request("cancel", {Atom("id"): number})
    assert traced.answer(number)[1][Atom("error_type")] == Atom("cancelled")
    job = one(spans, "optimize_signature")
    assert job.status.code == ERROR
    assert attributes(job)["error.type"] == "cancelled"
    sent = {span.span_id for span in spans}
    assert all(span.parent_span_id in sent for span in spans if span is not job)


@pytest.mark.parametrize("wrong", [b"", b"00-zz-1-01", b"\xc3\xa9", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    traced: NodeClient, spans: list[Any], wrong: bytes
) -> None:
    assert traced.ask("predict", prediction(), {Atom("traceparent"): wrong})[0] == "ok"
    assert not one(spans, "predict").parent_span_id


def test_a_collector_that_says_nothing_costs_a_second_once_and_then_nothing(
    traced: NodeClient, collector: Collector, spans: list[Any]
) -> None:
    collector.gate.clear()
    try:
        traced.ask("predict", prediction())
        began = time.monotonic()
        assert traced.ask("predict", prediction())[0] == "ok"
        assert time.monotonic() - began < 0.9
    finally:
        collector.gate.set()
    end = time.monotonic() + 20
    while len([span for span in spans if span.name == "predict"]) < 2:
        assert time.monotonic() < end
        assert traced.ask("predict", prediction())[0] == "ok"
