"""The atoms that the node may emit, published so that a host can decode every frame with `[:safe]`.

Besides these the node emits only atoms that the request itself used. The Elixir module `Pipeline.DSPy.Vocabulary` is
generated from this list (`erlbridge vocabulary`); a test compares the two. Knows names; decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from erlbridge.codec import Atom
from erlbridge.errors import STRATEGIES, BridgeError

VERBS: Final = (
    "health_check",
    "optimize_signature",
    "evaluate_pipeline",
    "predict",
    "train_model",
    "list_programs",
    "get_program",
    "put_program",
    "delete_program",
    "fetch_result",
    "clear_cache",
    "stats",
    "capture",
    "load_workflow",
    "run_pipeline",
    "data_chunk",
    "transfer_status",
    "cancel_transfer",
    "get_dataset",
    "list_datasets",
    "delete_dataset",
    "cancel",
    "shutdown",
)

MESSAGES: Final = ("ready", "ok", "error", "progress", "chunk", "call", "call_over", "log", "telemetry", "transfer")

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

STAGES: Final = (
    "starting",
    "reading",
    "baseline",
    "bootstrapping",
    "proposing",
    "searching",
    "training",
    "evaluating",
    "predicting",
    "executing",
    "finishing",
)

ERROR_KINDS: Final = (
    "rate_limit",
    "auth",
    "billing",
    "server",
    "timeout",
    "transport",
    "configuration",
    "invalid_request",
    "unknown",
)

CRASH_REASONS: Final = (
    "signal", "exit", "cancel_grace", "deadline", "forkserver", "protocol", "out_of_memory",
    "memory_limit", "total_memory_limit", "cpu_limit", "stalled", "boot_timeout",
)  # fmt: skip

TRANSFER_REASONS: Final = ("gap", "corrupt", "checksum", "size", "empty", "quota", "busy", "damaged")

STATES: Final = (
    "success",
    "healthy",
    "degraded",
    "overloaded",
    "stopped",
    "starting",
    "idle",
    "busy",
    "stopping",
    "cancelling",
    "queued",
    "running",
    "not_found",
    "compiled",
    "pure",
    "drain",
    "now",
    "on",
    "off",
    "required",
)

KEYS: Final = (
    # ready and health_check
    "protocol", "version", "os_pid", "python", "dspy", "codec", "workers", "verbs", "limits", "max_frame_bytes",
    "max_queue", "credit", "status", "message", "uptime_ms", "queue", "waiting", "running", "capacity", "state",
    "rss_bytes", "cpu_percent", "job", "verb", "id", "elapsed_ms", "versions", "node", "restarts", "dropped_events",
    "calls", "open", "late", "priorities", "pool", "spares", "recycled",
    # the watchdog's
    "peak_rss_bytes", "forkserver", "machine", "memory_bytes", "available_bytes", "disk_free_bytes", "descriptors",
    "max_descriptors", "worker_soft_bytes", "worker_hard_bytes", "workers_total_bytes", "total_bytes", "soft", "hard",
    "jobs",
    # errors
    "error_type", "traceback", "context", "recovery_strategy", "retryable", "retry_after_ms", "path", "offset",
    "reason", "signal_name", "exit_code", "kind", "limit", "deadline_ms", "grace_ms", "known",
    "stack", "best_score", "best_program", "failed_calls", "given_up_calls", "failed_share", "cached_calls", "model",
    # progress
    "stage", "done", "total", "score", "lm_calls", "cost_usd",
    # results
    "program_id", "program", "stored", "optimized_signature", "optimization_metrics", "results", "metrics", "example",
    "prediction", "predictions", "score_before", "score_after", "trials", "input_tokens", "output_tokens",
    "duration_ms", "cached", "count", "failures", "errors", "index", "feedback", "confidence_interval",
    "unfinished", "optimizer", "seed", "repeatable",
    # signatures and programs
    "name", "instructions", "input_fields", "output_fields", "type", "description", "schema", "enum", "demos",
    "predictors",
    "format", "signature", "module", "config", "scores", "usage", "dataset", "metric", "field", "threshold",
    "worker", "stream", "line", "mode", "result",
    # pipelines and ensembles
    "pipeline", "steps", "step", "from", "outputs", "members", "reduce", "examples", "warnings", "optimized_pipeline",
    "optimized_ensemble",
    "programs", "bytes", "stored_at_ms", "next", "disk_full", "disk_refused",
    # chunks
    "text", "is_last",
    # log lines
    "logger",
    # arguments of Elixir functions
    "messages", "role", "content", "temperature", "max_tokens", "host_calls",
    # workflows
    "other", "inputs", "settings", "errors", "file", "optimized_yaml", "optimized_workflow",
    # sandbox
    "sandbox", "missing", "landlock", "no_new_privs", "files", "tcp", "signals", "seccomp", "memory", "directory",
    # trainings
    "training_examples", "trained_examples", "trained_tokens", "trained_models",
    # transfers and datasets
    "transfer", "chunk_index", "data", "is_final", "compression", "zlib", "none", "zstd", "sha256", "next_index",
    "window", "compressions", "received_bytes", "chunks", "receiving", "finished", "datasets", "used_at_ms",
    # the audit log
    "audit", "sequence", "head", "lost",
    # stored results
    "idempotency_key", "atoms", "cache", "hits", "misses",
)  # fmt: skip

ATOMS: Final = frozenset(
    (
        *VERBS,
        *MESSAGES,
        *LOG_LEVELS,
        *STAGES,
        *ERROR_KINDS,
        *CRASH_REASONS,
        *TRANSFER_REASONS,
        *STATES,
        *KEYS,
        *BridgeError.owners,
        *STRATEGIES,
    )
)

_PUBLISHED: Final = {name: Atom(name) for name in ATOMS}


def atom(name: str) -> Atom:
    """The published atom `name`. A name that is not published is a fault of ours and raises `KeyError`."""
    return _PUBLISHED[name]


def published(term: object, also: Mapping[str, Atom] = MappingProxyType({})) -> object:
    """The term with every atom that is not published as a binary: a host knows only those, and what it sent itself,
    which are in `also` by name."""
    match term:
        case Atom():
            return _PUBLISHED.get(str(term)) or also.get(str(term)) or str(term).encode()
        case list() | tuple():
            return type(term)(published(element, also) for element in term)
        case Mapping():
            return {published(key, also): published(value, also) for key, value in term.items()}
        case _:
            return term


def atom_keys(entries: Mapping[str, object]) -> dict[object, object]:
    """A map with published atoms as keys: what the node sends wherever Elixir expects `%{key: …}`."""
    return {_PUBLISHED[name]: value for name, value in entries.items()}
