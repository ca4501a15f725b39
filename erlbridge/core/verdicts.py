"""Why a worker is killed and what its job is told: the words and numbers of every end that is not the job's own.

Knows workers' reasons and errors; decides nothing. Reasons are those of `vocabulary.CRASH_REASONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.core.events import LimitPassed
from erlbridge.core.queue import Entry
from erlbridge.errors import BridgeError, Cancelled, DeadlineExceeded, ProcessCrashed
from erlbridge.limits import CANCEL_GRACE_S, DEATH_GRACE_S
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a worker is killed: a reason, in words, and with numbers under published names."""

    reason: str
    text: str
    context: Mapping[str, Term] = field(default_factory=dict)


DID_NOT_STOP: Final = Verdict("cancel_grace", f"its job did not stop within {CANCEL_GRACE_S:g} s of being asked")


def did_not_boot(timeout_s: float) -> Verdict:
    """The worker has not said its first word in time."""
    return Verdict("boot_timeout", f"it did not boot within {timeout_s:g} s", {"elapsed_ms": int(timeout_s * 1000)})


def stalled(seconds: float) -> Verdict:
    """The worker's job has shown no sign of life for so long."""
    text = f"its job showed no sign of life for {seconds:.1f} s"
    return Verdict("stalled", text, {"elapsed_ms": int(seconds * 1000)})


def over_limit(event: LimitPassed) -> Verdict:
    """The worker has passed a hard limit.

    >>> over_limit(LimitPassed(1, "hard", "memory_limit", {"limit": 100})).text
    'it passed its memory limit'
    """
    return Verdict(event.reason, f"it passed its {event.reason.replace('_', ' ')}", event.context)


def crash(cause: ProcessCrashed, verdict: Verdict | None, stack: str) -> ProcessCrashed:
    """The error of a worker's death: what was seen of it, under the reason for which it was killed, if it was."""
    if verdict is None:
        return cause
    context = {**cause.context, **verdict.context, "reason": atom(verdict.reason), **_of(stack)}
    return ProcessCrashed(f"the worker was killed: {verdict.text}", context=context)


def unseen_death(number: int, os_pid: int | None) -> ProcessCrashed:
    """What is said of a killed worker whose death nobody reports."""
    return ProcessCrashed(
        f"the worker was killed and has not ended within {DEATH_GRACE_S:g} s",
        context={"reason": atom("signal"), "worker": number, "os_pid": os_pid},
    )


def end_of(entry: Entry, death: ProcessCrashed) -> BridgeError:
    """What a job is told of its worker's death: that, or that it is cancelled if that was asked for."""
    if not entry.cancelled:
        return death
    context = {key: value for key, value in death.context.items() if key in ("reason", "stack")}
    return Cancelled(f"cancelled; the job did not end by itself: {death.message}", context=context)


def too_late(entry: Entry, stack: str = "") -> DeadlineExceeded:
    """The answer at a job's deadline, with what its worker was at."""
    where = "it waited for a worker" if entry.worker is None else "it ran"
    context = {"deadline_ms": entry.request.meta.deadline_ms, **_of(stack)}
    return DeadlineExceeded(f"the deadline passed while {where}", context=context)


def _of(stack: str) -> dict[str, Term]:
    return {"stack": stack} if stack else {}
