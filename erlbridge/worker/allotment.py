"""A worker's share of the machine, taken at its birth: processors, threads, and the backstops of its memory.

Nothing here may keep a worker from starting: what the system refuses is left as it is.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from erlbridge.core.allotment import WorkerSettings

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_OOM_SCORE: Final = 500
"""Out of 1000, added to what a worker's memory gives it: when the machine has no memory left, a worker goes and neither
the node nor the BEAM."""

_RESERVED_BYTES: Final = 2 * 1024**3
"""What RLIMIT_DATA counts and resident memory does not: the stacks of 256 threads, 8 MiB each, touched or not. The
limit stands so far above the hard one; its purpose is the allocation of gigabytes at once, which fails unwatched."""


def set_environment(settings: WorkerSettings) -> None:
    """Tells libraries, before they are loaded, how many threads one worker may have for its arithmetic, and this
    program's own parts where workers keep what they share."""
    os.environ |= dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))
    os.environ["ERLBRIDGE_WORKER_DATA"] = settings.shared
    if settings.otel_endpoint:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otel_endpoint
        os.environ.pop("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None)  # it would be the stronger
    if settings.otel_content:
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"


def allot(settings: WorkerSettings, cpus: Set[int]) -> None:
    """Gives the calling process, a worker just forked, its share; its children inherit it."""
    with suppress(OSError, ValueError):  # processors that are not there, or not ours
        os.sched_setaffinity(0, cpus)
    if settings.nice:
        with suppress(OSError):
            os.nice(settings.nice)
    _raise_oom_score()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds the keys of every endpoint
    if settings.memory_bytes:
        _limit(resource.RLIMIT_DATA, settings.memory_bytes + settings.memory_bytes // 10 + _RESERVED_BYTES)


def _raise_oom_score() -> None:
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):
        if int(score.read_text()) < _OOM_SCORE:  # raising is always allowed, lowering is not
            score.write_text(str(_OOM_SCORE))


def _limit(kind: int, most: int) -> None:
    """Lowers a limit; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))
