"""What health_check answers: the node, its workers and its queue, as they are this moment. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from erlbridge.core.sandbox import Report
from erlbridge.core.scheduler import Scheduler
from erlbridge.node.about import About
from erlbridge.node.patrol import Patrol
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys


def health(
    about: About,
    scheduler: Scheduler,
    patrol: Patrol,
    dropped_events: Mapping[str, int],
    now: float,
    *,
    audit: Term,
    sandbox: Report | None,
) -> Mapping[Term, Term]:
    """The result map of `:health_check`; takes one sample of every process."""
    patrol.look_now(now)
    status, message = scheduler.admission.status()
    if (concern := patrol.concern()) is not None:
        status, message = ("degraded" if status == "healthy" else status), f"{message}; {concern}"
    return atom_keys(
        {
            "status": atom(status),
            "message": message,
            "uptime_ms": int((now - about.started_at) * 1000),
            "queue": atom_keys(
                {
                    "waiting": len(scheduler.queue) + len(scheduler.nesting.waiting),
                    "running": scheduler.roster.running,
                    "capacity": scheduler.max_queue,
                    "priorities": scheduler.queue.by_priority(),
                }
            ),
            "pool": atom_keys(scheduler.roster.census()),
            "workers": [
                atom_keys(
                    {
                        "worker": worker.number,
                        "state": atom(worker.state),
                        "job": _job(scheduler, worker.number, now),
                        "jobs": worker.jobs,
                        **patrol.usage(worker.os_pid),
                    }
                )
                for worker in scheduler.workers.values()
            ],
            "node": atom_keys(patrol.node_usage()),
            "forkserver": atom_keys(patrol.forkserver_usage()),
            "machine": atom_keys(patrol.machine()),
            "restarts": scheduler.roster.restarts,
            "dropped_events": atom_keys(dropped_events),
            "calls": atom_keys(
                {"open": len(scheduler.calls), "late": scheduler.calls.late, "unknown": scheduler.calls.unknown}
            ),
            "audit": audit,
            "sandbox": None if sandbox is None else sandbox.to_term(),
            "limits": {**about.limits(), **atom_keys(patrol.limits())},
            "versions": about.versions(),
        }
    )


def _job(scheduler: Scheduler, worker: int, now: float) -> Term:
    entry = scheduler.entry_of(worker)
    if entry is None:
        return None
    elapsed_ms = int((now - entry.arrived_at) * 1000)
    return atom_keys({"id": entry.request.id, "verb": atom(entry.request.verb), "elapsed_ms": elapsed_ms})
