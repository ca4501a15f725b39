"""A job's spans for a collector, by OpenTelemetry: the job, DSPy's optimizer, evaluations, modules, tools, model calls.

Names and attributes follow OpenTelemetry's conventions for generative AI. No text of a prompt or an answer is in them
unless it is asked for; an error is told by its type, since its words may hold anything. The one door to OpenTelemetry.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback  # type: ignore[import-untyped]
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from erlbridge import __version__
from erlbridge.errors import BridgeError
from erlbridge.programs.guard import Guard

FLUSH_S: Final = 1.0
"""How long a job's answer waits for its spans to be taken. A collector that was too slow once is not waited for again
until it keeps up."""
_EXPORT_S: Final = 5.0
_TEXT_CHARACTERS: Final = 4_000
_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Tracer:
    """Makes and sends the spans of this process's jobs, one after the other."""

    def __init__(self) -> None:
        resource = Resource.create(
            {"service.name": os.environ.get("OTEL_SERVICE_NAME", "erlbridge"), "service.version": __version__}
            | {"process.pid": os.getpid()}
        )
        limits = SpanLimits(max_attribute_length=_TEXT_CHARACTERS)
        self._provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_S))
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("erlbridge", __version__)
        self._flushing: threading.Thread | None = None
        self._keeps_up = True
        self.with_content = os.environ.get(_CONTENT, "").strip().lower() == "true"

    @contextmanager
    def job(self, verb: str, traceparent: str | None) -> Iterator[JobTrace]:
        """A job's trace. Raises what the block raises."""
        carrier = {} if traceparent is None else {"traceparent": traceparent}
        parent = TraceContextTextMapPropagator().extract(carrier, Context())
        span = self.begin(verb, parent, {"erlbridge.verb": verb}, SpanKind.SERVER)
        trace = JobTrace(self, span)
        try:
            yield trace
        except BaseException as error:
            trace.end(error)
            raise
        else:
            trace.end(None)
        finally:
            self._flush()

    def begin(
        self, name: str, parent: Context, attributes: Mapping[str, Any], kind: SpanKind = SpanKind.INTERNAL
    ) -> Span:
        """A span below another."""
        return self._tracer.start_span(
            name, parent, kind, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        )

    def _flush(self) -> None:
        """Has what has ended sent. In a thread of its own: a collector that says nothing would keep the job."""
        if self._flushing is not None and self._flushing.is_alive():
            return
        self._flushing = threading.Thread(target=self._send, name="erlbridge-traces", daemon=True)
        self._flushing.start()
        if self._keeps_up:
            self._flushing.join(FLUSH_S)

    def _send(self) -> None:
        began = time.monotonic()
        self._processor.force_flush()
        self._keeps_up = time.monotonic() - began < FLUSH_S


class JobTrace:
    """The spans of one job that are open."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self.tracer = tracer
        self._span = span
        self._lock = threading.Lock()
        self._open: dict[str, Span] = {}
        self._around: list[str] = []

    def callback(self, guard: Guard) -> Callback:
        """What DSPy calls; `guard` is the same job's."""
        return Callback(self, guard)

    def begin(
        self,
        call_id: str,
        name: str,
        attributes: Mapping[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        around: bool = False,
    ) -> None:
        """A call begins, below the one that made it. What threads do whose caller DSPy does not know is below the
        innermost evaluation or compile, which is `around` it."""
        caller = ACTIVE_CALL_ID.get()
        with self._lock:
            above = self._open.get(caller or "") or self._open.get(self._around[-1] if self._around else "")
            if around:
                self._around.append(call_id)
        span = self.tracer.begin(name, set_span_in_context(above or self._span, Context()), attributes, kind)
        with self._lock:
            self._open[call_id] = span

    def finish(self, call_id: str, exception: BaseException | None, attributes: Mapping[str, Any]) -> None:
        """The call has ended."""
        with self._lock:
            span = self._open.pop(call_id, None)
            if call_id in self._around:
                self._around.remove(call_id)
        if span is not None:
            _end(span, exception, attributes)

    def end(self, error: BaseException | None) -> None:
        """The job has ended, and with it what it left open: calls that it was stopped in."""
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for span in reversed(left):
            _end(span, error, {})
        _end(self._span, error, {})


class Callback(BaseCallback):  # type: ignore[misc]
    """DSPy's events of one job as spans."""

    def __init__(self, trace: JobTrace, guard: Guard) -> None:
        super().__init__()
        self._trace = trace
        self._guard = guard

    def __deepcopy__(self, memo: dict[int, Any]) -> Callback:
        return self

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 - DSPy's shape
        """A module is called."""
        name = type(instance).__name__
        self._trace.begin(call_id, name, {"dspy.module": name})

    def on_module_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """It has answered."""
        self._trace.finish(call_id, exception, {})

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A model is called."""
        model = str(instance.model)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.provider.name": model.partition("/")[0],
        }
        options = {**getattr(instance, "kwargs", {}), **(inputs.get("kwargs") or {})}
        for name in ("temperature", "max_tokens", "top_p"):
            if isinstance(value := options.get(name), int | float):
                attributes[f"gen_ai.request.{name}"] = value
        if self._trace.tracer.with_content:
            attributes["gen_ai.input.messages"] = _text(inputs.get("messages") or inputs.get("prompt"))
        self._trace.begin(call_id, f"chat {model}", attributes, SpanKind.CLIENT)

    def on_lm_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """It has answered, or not."""
        attributes: dict[str, Any] = {"erlbridge.cached": self._guard.cached_call}
        for name, tokens in zip(("input", "output"), self._guard.tokens_of_call or (), strict=False):
            attributes[f"gen_ai.usage.{name}_tokens"] = tokens
        if self._trace.tracer.with_content and outputs is not None:
            attributes["gen_ai.output.messages"] = _text(outputs)
        self._trace.finish(call_id, exception, attributes)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """An agent uses a tool."""
        name = str(getattr(instance, "name", "tool"))
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        self._trace.begin(call_id, f"execute_tool {name}", attributes)

    def on_tool_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """It has used it."""
        self._trace.finish(call_id, exception, {})

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """A program is scored."""
        examples = len(inputs.get("devset") or getattr(instance, "devset", None) or ())
        self._trace.begin(call_id, "evaluate", {"dspy.evaluate.examples": examples}, around=True)

    def on_evaluate_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """It has its score."""
        score = getattr(outputs, "score", None)
        told = {"dspy.evaluate.score": float(score) / 100} if isinstance(score, int | float) else {}
        self._trace.finish(call_id, exception, told)

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """An optimizer begins."""
        name = type(instance).__name__
        self._trace.begin(call_id, f"compile {name}", {"dspy.optimizer": name}, around=True)

    def on_compile_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """It is done."""
        self._trace.finish(call_id, exception, {})


def _end(span: Span, error: BaseException | None, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        span.set_attribute(name, value)
    if error is not None:
        kind = str(error.error_type) if isinstance(error, BridgeError) else type(error).__name__
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _text(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)[:_TEXT_CHARACTERS]
