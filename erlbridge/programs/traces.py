"""Whether jobs are traced, and the spans of the one that runs. Light: OpenTelemetry is loaded where a collector is set.

A worker runs one job at a time, so its trace is this module's one value.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from erlbridge.programs.guard import Guard
    from erlbridge.programs.tracing import JobTrace, Tracer

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_log = logging.getLogger(__name__)
_running: list[JobTrace] = []


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether a collector is set, by OpenTelemetry's own variables.

    >>> wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}), wanted({})
    (True, False)
    """
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    elsewhere = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() != "otlp"
    return not disabled and not elsewhere and any(environment.get(name) for name in _ENDPOINTS)


def load() -> None:
    """Loads what traces need, if they are wanted: once in the process that workers are forked from."""
    if wanted(os.environ):
        _tracer_class()


@contextmanager
def traced(verb: str, traceparent: str | None) -> Iterator[None]:
    """A job's span is open within the block, below the host's own where it has named one; what has ended by then is
    sent before the block is left, if the collector takes it in time."""
    tracer = _tracer()
    if tracer is None:
        yield
        return
    with tracer.job(verb, traceparent) as trace:
        _running.append(trace)
        try:
            yield
        finally:
            _running.clear()


def callbacks(guard: Guard) -> list[Any]:
    """What DSPy shall call for the trace of this job; before the guard, who may end a call at its start."""
    return [trace.callback(guard) for trace in _running]


@cache
def _tracer_class() -> type[Tracer] | None:
    try:
        from erlbridge.programs.tracing import Tracer  # noqa: PLC0415 - for those who set a collector
    except ImportError as error:
        _log.warning("no traces: %s is not installed; install erlbridge[otel]", error.name)
        return None
    return Tracer


@cache
def _tracer() -> Tracer | None:
    """This process's own, if it is wanted: it has a thread, which no fork takes along."""
    found = _tracer_class() if wanted(os.environ) else None
    return None if found is None else found()
