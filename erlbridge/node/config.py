"""How a node runs: one value. Its fields are the settings; their names in files, in the environment and as arguments
follow from these. Opens nothing; where values come from is the business of `config_sources`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from erlbridge.core.settings import (
    Choice,
    Directory,
    File,
    Flag,
    Kind,
    Limits,
    Listening,
    Location,
    Numbers,
    Seconds,
    Size,
    Variable,
    Whole,
)
from erlbridge.limits import (
    BOOT_TIMEOUT_S,
    CREDIT,
    MAX_FRAME_BYTES,
    MAX_QUEUE,
    MAX_RESULTS,
    MAX_RESULTS_BYTES,
    NESTED_WORKERS,
    SHUTDOWN_GRACE_S,
)
from erlbridge.store.places import Places
from erlbridge.wire.vocabulary import VERBS

PREFIX: Final = "ERLBRIDGE_"
_MOST_WORKERS: Final = 4
_DAY_S: Final = 86_400.0
_TIB: Final = 2**40


def default_workers() -> int:
    """One worker for each processor this process may use, at most four."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def default_data() -> Path:
    """`erlbridge` under the user's data directory (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "erlbridge"


def setting(kind: Kind, default: Any, about: str) -> Any:
    """A field of `NodeConfig`: what is taken, the default or what makes it, and what it is for."""
    metadata = {"kind": kind, "about": about}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node's settings. Sizes are bytes, spans seconds; 0 is off where a setting can be."""

    workers: int = setting(Whole(1, 256), default_workers, "worker processes that run jobs")
    spare_workers: int = setting(
        Whole(0, 64), 1, "booted workers beside them that wait to take a lost one's place; health_check lists them too"
    )
    nested_workers: int = setting(
        Whole(0, 64), NESTED_WORKERS, "workers beside them for what Elixir functions ask while jobs wait for them"
    )
    data: Path = setting(Directory(), default_data, "directory of what lasts; made when first written to")
    max_frame_bytes: int = setting(Size(4096, 2**31 - 1), MAX_FRAME_BYTES, "longest frame taken or sent")
    max_queue: int = setting(Whole(0, 1_000_000), MAX_QUEUE, "requests that may wait for a worker")
    credit: int = setting(Whole(0, 1_000_000), CREDIT, "events sent before the host grants more")
    verb_limits: Mapping[str, int] = setting(
        Limits(1, 256, VERBS), dict, "most jobs of a verb at once, such as train_model=1"
    )
    endpoint_limits: Mapping[str, int] = setting(
        Limits(1, 256), dict, "most jobs at a model endpoint at once, such as openai=4; * for each other one"
    )
    shutdown_grace_s: float = setting(
        Seconds(0, _DAY_S), SHUTDOWN_GRACE_S, "how long running jobs may go on when the node is told to end"
    )
    boot_timeout_s: float = setting(Seconds(1, 3600), BOOT_TIMEOUT_S, "how long a worker may take to be ready")
    recycle_after_jobs: int = setting(Whole(0, 1_000_000), 1000, "jobs after which a worker is replaced; 0: never")
    worker_soft_bytes: int = setting(
        Size(2**26, _TIB, "never"), 2**30, "memory of a worker beyond which it is replaced after its job"
    )
    worker_hard_bytes: int = setting(
        Size(2**26, _TIB, "no limit"), 4 * 2**30, "memory of a worker beyond which it is killed"
    )
    workers_total_bytes: int = setting(
        Size(2**26, _TIB, "three quarters of the machine's"),
        0,
        "memory of all workers; beyond it the fattest is killed",
    )
    cpu_limit_percent: int = setting(
        Whole(0, 25_600),
        0,
        "processor use of a worker, in percent of one core, that is too much if it lasts; 0: none is",
    )
    cpu_limit_s: float = setting(Seconds(1, _DAY_S), 60.0, "how long it may last")
    stall_s: float = setting(
        Seconds(1, _DAY_S, "never"), 600.0, "how long a job may show no sign of life before its worker is killed"
    )
    min_free_disk_bytes: int = setting(
        Size(1, _TIB, "no warning"), 256 * 2**20, "free space of the data directory below which the node is degraded"
    )
    threads_per_worker: int = setting(Whole(1, 1024), 1, "threads of OpenMP and BLAS in a worker")
    nice: int = setting(Whole(0, 19), 0, "how much workers give way to other processes")
    worker_cpus: tuple[int, ...] = setting(Numbers(0, 4095), (), "processors that workers run on; empty: all")
    pin_workers: bool = setting(Flag(), False, "whether each worker gets one of these processors in turn")
    sandbox: str = setting(
        Choice(("on", "off", "required")), "on", "whether workers are confined: as far as the kernel can, not, or fully"
    )
    sandbox_ports: tuple[int, ...] = setting(
        Numbers(1, 65_535), (), "TCP ports that workers may connect to; empty: all"
    )
    dataset_quota_bytes: int = setting(
        Size(2**20, 2**20 * _TIB), 16 * 2**30, "what transfers and datasets may take of the data directory, together"
    )
    transfer_quota_bytes: int = setting(
        Size(2**20, 2**20 * _TIB), 8 * 2**30, "what one transfer may have of it, before compression"
    )
    dataset_keep_s: float = setting(
        Seconds(3600, 3660 * _DAY_S, "for ever"), 30 * _DAY_S, "how long datasets are kept that no job uses"
    )
    store_index: str = setting(
        Location(("postgresql", "postgres"), "postgresql://erlbridge@db/erlbridge"),
        "",
        "where the list of what is stored is, for nodes on several machines; empty: in the data directory",
    )
    store_blobs: str = setting(
        Location((), "s3://bucket/erlbridge"),
        "",
        "where programs, models and datasets lie, for nodes on several machines; empty: in the data directory",
    )
    store_cache_bytes: int = setting(
        Size(2**20, 2**10 * _TIB), 2 * 2**30, "what copies of these may take of the data directory, datasets aside"
    )
    audit: bool = setting(Flag(), True, "whether each request and its outcome get a line in the audit log")
    audit_max_bytes: int = setting(Size(4096, _TIB), 64 * 2**20, "size at which the audit log goes on in a new file")
    audit_files: int = setting(Whole(1, 10_000), 8, "files of the audit log that are kept")
    capture: str = setting(File(), "", "file that every frame of every wire is written to; empty: none")
    capture_bytes: int = setting(Size(2**16, _TIB), 64 * 2**20, "size at which a capture goes on in a new file")
    capture_files: int = setting(Whole(1, 10_000), 8, "files of a capture that are kept")
    capture_frame_bytes: int = setting(Size(64, 2**31 - 1), 32 * 2**10, "how much of each frame is kept")
    capture_redact: bool = setting(Flag(), True, "whether secrets are written over in captures")
    result_max_age_s: float = setting(
        Seconds(1, 3660 * _DAY_S, "none is kept"), 7 * _DAY_S, "how long results of requests with a key are kept"
    )
    result_max_count: int = setting(Whole(1, 1_000_000), MAX_RESULTS, "results that are kept; the oldest go first")
    result_max_bytes: int = setting(Size(2**16, _TIB), MAX_RESULTS_BYTES, "bytes of all results that are kept")
    result_cache: bool = setting(
        Flag(), False, "whether jobs that do not say so themselves are answered from the result cache"
    )
    cache_max_age_s: float = setting(
        Seconds(1, 3660 * _DAY_S, "nothing is cached"), 30 * _DAY_S, "how long results are cached"
    )
    cache_max_count: int = setting(
        Whole(1, 1_000_000), MAX_RESULTS, "results that are cached; those not asked for longest go first"
    )
    cache_max_bytes: int = setting(Size(2**16, _TIB), MAX_RESULTS_BYTES, "bytes of all results that are cached")
    http: str = setting(
        Listening(), "", "address and port of health, metrics and the console, such as 127.0.0.1:9464; empty: none"
    )
    http_token_env: str = setting(
        Variable(), "", "environment variable with the token that these ask for; needed off loopback"
    )
    otel_endpoint: str = setting(
        Location(("http", "https"), "http://localhost:4318"),
        "",
        "where workers send traces by OTLP over HTTP; empty: as OTEL_EXPORTER_OTLP_ENDPOINT says, else nowhere",
    )
    otel_content: bool = setting(Flag(), False, "whether traces hold the texts of prompts and answers")
    sample_interval_s: float = setting(Seconds(0.01, 60), 0.1, "time between two looks at what processes use")
    telemetry_interval_s: float = setting(
        Seconds(0.1, 3600, "never"), 5.0, "time between two samples that go to the host as telemetry"
    )

    busy_wait_s: float = setting(
        Seconds(0.000_1, 0.01, "never"),
        0.000_2,
        "how long the node looks for the host's next request before it sleeps, where they follow one another at once",
    )

    @property
    def places(self) -> Places:
        """Where the store lies. Half of what datasets may take is left to transfers."""
        return Places(self.store_index, self.store_blobs, self.store_cache_bytes, self.dataset_quota_bytes // 2)


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of `NodeConfig`."""

    name: str
    kind: Kind
    default: object
    about: str

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def argument(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")


def settings() -> dict[str, Setting]:
    """Every setting by name."""
    return {
        entry.name: Setting(
            entry.name,
            entry.metadata["kind"],
            entry.default_factory() if entry.default_factory is not MISSING else entry.default,
            entry.metadata["about"],
        )
        for entry in fields(NodeConfig)
    }
