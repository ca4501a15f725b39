"""The secrets that no log line of this process may show: its environment's, and those of the jobs that ran last.

A log line knows no job: it may come from any thread, also shortly after its job is over.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from erlbridge.programs.failures import Secrets

_JOBS: Final = 4

_kept: deque[Secrets] = deque(maxlen=_JOBS)


def keep(secrets: Secrets) -> None:
    """A job runs that has these."""
    _kept.append(secrets)


def redacted(text: str) -> str:
    """The text without them."""
    if not _kept:
        keep(Secrets.of_process())
    for secrets in tuple(_kept):
        text = secrets.redact(text)
    return text
