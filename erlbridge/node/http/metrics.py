"""The chronicle's numbers as Prometheus has them: text or OpenMetrics, as the scraper prefers. The one door to
prometheus_client.

Names follow its conventions: base units, `_total` for what only grows. Labels are published names (verbs, outcomes,
reasons, states), so that the series stay few for ever; a worker's number, which grows, is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from erlbridge.node.http.chronicle import Chronicle
from erlbridge.node.http.tallies import DURATION_BOUNDS_S, Histogram, Tallies
from erlbridge.node.http.views import plain

_DIRECTIONS: Final = {False: "received", True: "sent"}
_STATES: Final = ("starting", "idle", "busy", "stopping")
_USAGE: Final = {
    "lm_calls": ("erlbridge_lm_calls", "Attempts that went out to a model."),
    "failed_calls": ("erlbridge_lm_calls_failed", "Attempts that went out to a model and failed."),
    "cached_calls": ("erlbridge_lm_calls_cached", "Model calls that the answers' cache answered; they cost nothing."),
    "cost_usd": ("erlbridge_lm_cost_dollars", "Estimated cost of model calls, of jobs whose prices are all known."),
    "host_calls": ("erlbridge_elixir_calls", "Calls of Elixir functions by jobs."),
}
_TOKENS: Final = {"input_tokens": "input", "output_tokens": "output"}


class _Node(Collector):
    """Everything that the chronicle knows, made into metrics when a scraper comes."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle

    def collect(self) -> Iterator[Metric]:
        health, tallies = self._chronicle.numbers()
        yield from _of_tallies(tallies)
        told = plain(health)
        if isinstance(told, dict):  # None before the first look
            yield from _of_health(told)


class Metrics:
    """The registry of one node."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Node(chronicle))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of it in the form that a scraper's `Accept` asks for, and that form's content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


def _of_tallies(tallies: Tallies) -> Iterator[Metric]:
    requests = CounterMetricFamily("erlbridge_requests", "Requests that were answered.", labels=("verb", "outcome"))
    for (verb, outcome), count in sorted(tallies.requests.items()):
        requests.add_metric((verb, outcome), count)
    yield requests
    durations = HistogramMetricFamily(
        "erlbridge_request_duration_seconds", "From a request's arrival to its answer.", labels=("verb",)
    )
    for verb, histogram in sorted(tallies.durations.items()):
        durations.add_metric((verb,), *_buckets(histogram))
    yield durations
    waits = HistogramMetricFamily(
        "erlbridge_queue_wait_seconds", "From a request's arrival until a worker has its job."
    )
    waits.add_metric((), *_buckets(tallies.waits))
    yield waits
    yield _counter("erlbridge_request_bytes", "Bytes of requests' frames.", "verb", tallies.request_bytes)
    yield _counter("erlbridge_answer_bytes", "Bytes of answers' frames.", "verb", tallies.answer_bytes)
    yield _counter(
        "erlbridge_results_cached", "Requests that were answered from the result cache.", "verb", tallies.from_cache
    )
    for name, by_direction, about in (
        ("erlbridge_wire_frames", tallies.frames, "Frames on the host's wire."),
        ("erlbridge_wire_bytes", tallies.bytes, "Bytes of frames on the host's wire."),
    ):
        told = {_DIRECTIONS[outgoing]: by_direction[outgoing] for outgoing in (False, True)}
        yield _counter(name, about, "direction", told)
    for kind, (name, about) in _USAGE.items():
        yield _counter(name, about, "verb", tallies.usage[kind])
    tokens = CounterMetricFamily("erlbridge_lm_tokens", "Tokens of model calls.", labels=("verb", "direction"))
    for kind, direction in _TOKENS.items():
        for verb, count in sorted(tallies.usage[kind].items()):
            tokens.add_metric((verb, direction), count)
    yield tokens
    yield _counter("erlbridge_worker_restarts", "Workers whose place another took, by why.", "reason", tallies.deaths)
    yield _counter("erlbridge_log_lines", "Lines for the host's log.", "level", tallies.logs)


def _of_health(health: Mapping[str, Any]) -> Iterator[Metric]:
    versions = {name: str(version) for name, version in health["versions"].items()}
    yield InfoMetricFamily("erlbridge_build", "Versions of the node and of what it runs on.", value=versions)
    yield _gauge("erlbridge_uptime_seconds", "Since the node's start.", health["uptime_ms"] / 1000)
    states = GaugeMetricFamily("erlbridge_status", "1 for how the node is, 0 for the others.", labels=("status",))
    for status in ("healthy", "degraded", "overloaded"):
        states.add_metric((status,), health["status"] == status)
    yield states
    queue, pool = health["queue"], health["pool"]
    yield _gauge("erlbridge_queue_waiting", "Requests that wait for a worker.", queue["waiting"])
    yield _gauge("erlbridge_queue_capacity", "Requests that may wait.", queue["capacity"])
    yield _gauge("erlbridge_jobs_running", "Jobs that workers run.", queue["running"])
    yield _gauge(
        "erlbridge_elixir_calls_open", "Calls of Elixir functions that jobs wait for.", health["calls"]["open"]
    )
    yield _gauges("erlbridge_workers", "Workers by state.", "state", {state: pool[state] for state in _STATES})
    yield _counter("erlbridge_dropped_events", "Events that the host did not take.", "kind", health["dropped_events"])
    processes: dict[str, list[Mapping[str, Any]]] = {
        "node": [health["node"]],
        "forkserver": [health["forkserver"]],
        "workers": health["workers"],
    }
    resident = {name: _sum(of, "rss_bytes") for name, of in processes.items()}
    yield _gauges("erlbridge_memory_bytes", "Resident memory; workers share some of it.", "process", resident)
    cores = {name: _sum(of, "cpu_percent") / 100 for name, of in processes.items()}
    yield _gauges("erlbridge_cpu_cores", "Processors in use, in cores.", "process", cores)
    largest = max((worker["rss_bytes"] or 0 for worker in health["workers"]), default=0)
    yield _gauge("erlbridge_worker_memory_largest_bytes", "Resident memory of the largest worker.", largest)
    for name, about, value in (
        ("erlbridge_open_descriptors", "Descriptors that the node has open.", health["node"]["descriptors"]),
        ("erlbridge_max_descriptors", "Descriptors that it may have.", health["node"]["max_descriptors"]),
        ("erlbridge_machine_memory_available_bytes", "Memory of the machine.", health["machine"]["available_bytes"]),
        ("erlbridge_data_free_bytes", "Free space of the data directory.", health["machine"]["disk_free_bytes"]),
    ):
        if value is not None:
            yield _gauge(name, about, value)
    if health["audit"] is not None:
        lost = CounterMetricFamily("erlbridge_audit_lines_lost", "Lines of the audit log that no disk took.")
        lost.add_metric((), health["audit"]["lost"])
        yield lost


def _counter(name: str, about: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((key,), value)
    return family


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Prometheus' buckets hold what those below them do."""
    found: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*map(str, map(float, DURATION_BOUNDS_S)), "+Inf"), histogram.counts, strict=True):
        below += count
        found.append((bound, below))
    return found, histogram.total


def _sum(processes: list[Mapping[str, Any]], name: str) -> float:
    return sum(process[name] or 0 for process in processes)
