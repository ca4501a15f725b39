"""What health_check answers: the node, its workers and its queue, as they are this moment. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from erlbridge.core.roster import Worker
from erlbridge.core.sandbox import Report
from erlbridge.core.scheduler import Scheduler
from erlbridge.node.about import About
from erlbridge.node.patrol import Patrol
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys


class Health:
    """One node's health. A host may ask for it ten thousand times a second: what cannot change is made once, what
    processes use as often as they are looked at, and all of it once in a millisecond in which nothing happens."""

    def __init__(self, about: About, scheduler: Scheduler, patrol: Patrol) -> None:
        self._about = about
        self._scheduler = scheduler
        self._patrol = patrol
        self._limits = about.limits()
        self._versions = about.versions()
        self._sandbox: tuple[Report | None, Term] = (None, None)
        self._newest: tuple[object, Mapping[Term, Term]] | None = None
        self._looks = -1
        self._fixed: dict[str, Term] = {}
        """What stays as it is until processes are looked at again, and `_usage` by process."""
        self._usage: dict[int | None, dict[Term, Term]] = {}

    def look(
        self, now: float, *, audit: Term, sandbox: Report | None, dropped_events: Mapping[str, int]
    ) -> Mapping[Term, Term]:
        """The result map of `:health_check`.

        Args:
            audit: What the audit log says of itself.
            sandbox: How workers are confined; None before the first has booted.
            dropped_events: By kind, those that the host never got.
        """
        self._patrol.look_now(now)
        uptime_ms = int((now - self._about.started_at) * 1000)
        state = (uptime_ms, self._scheduler.steps, self._patrol.looks, audit, sandbox, tuple(dropped_events.values()))
        if self._newest is None or self._newest[0] != state:
            found = self._found(now, uptime_ms, audit=audit, sandbox=sandbox, dropped_events=dropped_events)
            self._newest = state, found
        return self._newest[1]

    def _found(
        self, now: float, uptime_ms: int, *, audit: Term, sandbox: Report | None, dropped_events: Mapping[str, int]
    ) -> Mapping[Term, Term]:
        scheduler, patrol = self._scheduler, self._patrol
        if self._looks != patrol.looks:
            self._note()
        status, message = scheduler.admission.status()
        if (concern := patrol.concern()) is not None:
            status, message = ("degraded" if status == "healthy" else status), f"{message}; {concern}"
        if sandbox is not self._sandbox[0]:
            self._sandbox = sandbox, None if sandbox is None else sandbox.to_term()
        return atom_keys(
            {
                "status": atom(status),
                "message": message,
                "uptime_ms": uptime_ms,
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
                "sandbox": self._sandbox[1],
                "versions": self._versions,
                **self._fixed,
            }
        )

    def _note(self) -> None:
        patrol = self._patrol
        self._looks = patrol.looks
        self._usage.clear()
        self._fixed = {
            "node": atom_keys(patrol.node_usage()),
            "forkserver": atom_keys(patrol.forkserver_usage()),
            "machine": atom_keys(patrol.machine()),
            "limits": {**self._limits, **atom_keys(patrol.limits())},
        }

    def _worker(self, worker: Worker, now: float) -> Term:
        held = {
            "worker": worker.number,
            "state": atom(worker.state),
            "job": self._job(worker.number, now),
            "jobs": worker.jobs,
        }
        usage = self._usage.get(worker.os_pid)
        if usage is None:
            usage = self._usage[worker.os_pid] = atom_keys(self._patrol.usage(worker.os_pid))
        return {**atom_keys(held), **usage}

    def _job(self, worker: int, now: float) -> Term:
        entry = self._scheduler.entry_of(worker)
        if entry is None:
            return None
        elapsed_ms = int((now - entry.arrived_at) * 1000)
        return atom_keys({"id": entry.request.id, "verb": atom(entry.request.verb), "elapsed_ms": elapsed_ms})
