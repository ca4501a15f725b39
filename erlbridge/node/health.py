"""What health_check answers: the node, its workers and its queue, as they are this moment. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from erlbridge.core.roster import Worker
from erlbridge.core.sandbox import Report
from erlbridge.core.scheduler import Scheduler
from erlbridge.node.about import About
from erlbridge.node.patrol import Patrol
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys

_UPTIME_MS: Final = atom("uptime_ms")


class Health:
    """One node's health. A host may ask for it ten thousand times a second, so it is put together when something has
    happened or the processes have been looked at; in between only its time goes on."""

    def __init__(self, about: About, scheduler: Scheduler, patrol: Patrol) -> None:
        self._about = about
        self._scheduler = scheduler
        self._patrol = patrol
        self._limits = about.limits()
        self._versions = about.versions()
        self._made_of: object = None
        self._newest: dict[Term, Term] = {}
        self._told_of: object = None
        self._told: dict[Term, Term] = {}

    def look(
        self, now: float, *, audit: Term, sandbox: Report | None, dropped_events: Mapping[str, int]
    ) -> Mapping[Term, Term]:
        """The result map of `:health_check`.

        Args:
            audit: What the audit log says of itself.
            sandbox: How workers are confined; None before the first has booted.
            dropped_events: By kind, those that the host never got.
        """
        scheduler, patrol = self._scheduler, self._patrol
        uptime_ms = int((now - self._about.started_at) * 1000)
        told = scheduler.steps, audit, sandbox, tuple(dropped_events.values())
        if self._told_of == (uptime_ms, patrol.looks, told):
            return self._told  # many ask in one millisecond
        patrol.look_now(now)
        jobs_at = uptime_ms if scheduler.roster.running else None  # their time goes on as well
        made_of = patrol.looks, told, jobs_at
        if made_of != self._made_of:
            self._newest = self._found(now, audit=audit, sandbox=sandbox, dropped_events=dropped_events)
            self._made_of = made_of
        self._told = {_UPTIME_MS: uptime_ms, **self._newest}
        self._told_of = uptime_ms, patrol.looks, told
        return self._told

    def _found(
        self, now: float, *, audit: Term, sandbox: Report | None, dropped_events: Mapping[str, int]
    ) -> dict[Term, Term]:
        scheduler, patrol = self._scheduler, self._patrol
        status, message = scheduler.admission.status()
        if (concern := patrol.concern()) is not None:
            status, message = ("degraded" if status == "healthy" else status), f"{message}; {concern}"
        return atom_keys(
            {
                "status": atom(status),
                "message": message,
                "queue": atom_keys(
                    {
                        "waiting": len(scheduler.queue) + len(scheduler.nesting.waiting),
                        "running": scheduler.roster.running,
                        "capacity": scheduler.max_queue,
                        "priorities": scheduler.queue.by_priority(),
                    }
                ),
                "pool": atom_keys(scheduler.roster.census()),
                "workers": [self._worker(worker, now) for worker in scheduler.workers.values()],
                "restarts": scheduler.roster.restarts,
                "dropped_events": atom_keys(dropped_events),
                "calls": atom_keys(
                    {"open": len(scheduler.calls), "late": scheduler.calls.late, "unknown": scheduler.calls.unknown}
                ),
                "audit": audit,
                "sandbox": None if sandbox is None else sandbox.to_term(),
                "node": atom_keys(patrol.node_usage()),
                "forkserver": atom_keys(patrol.forkserver_usage()),
                "machine": atom_keys(patrol.machine()),
                "limits": {**self._limits, **atom_keys(patrol.limits())},
                "versions": self._versions,
            }
        )

    def _worker(self, worker: Worker, now: float) -> Term:
        return atom_keys(
            {
                "worker": worker.number,
                "state": atom(worker.state),
                "job": self._job(worker.number, now),
                "jobs": worker.jobs,
                **self._patrol.usage(worker.os_pid),
            }
        )

    def _job(self, worker: int, now: float) -> Term:
        entry = self._scheduler.entry_of(worker)
        if entry is None:
            return None
        elapsed_ms = int((now - entry.arrived_at) * 1000)
        return atom_keys({"id": entry.request.id, "verb": atom(entry.request.verb), "elapsed_ms": elapsed_ms})
