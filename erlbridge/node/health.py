"""What health_check answers: the node, its workers and its queue, as they are this moment. Reads; changes nothing."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from erlbridge import __version__
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys

if TYPE_CHECKING:
    from erlbridge.node.node import Node


def health(node: Node) -> Term:
    """The result map of `:health_check`."""
    now = time.monotonic()
    scheduler = node.scheduler
    status, message = scheduler.status()
    pids = [worker.os_pid for worker in scheduler.workers.values() if worker.os_pid is not None]
    samples = node.watchdog.sample([os.getpid(), *pids])

    def usage(os_pid: int | None) -> dict[str, Term]:
        sample = None if os_pid is None else samples.get(os_pid)
        return {
            "os_pid": os_pid,
            "rss_bytes": sample and sample.rss_bytes,
            "cpu_percent": sample and sample.cpu_percent,
        }

    def job(worker: int) -> Term:
        entry = scheduler.entry_of(worker)
        if entry is None:
            return None
        elapsed_ms = int((now - entry.arrived_at) * 1000)
        return atom_keys({"id": entry.request.id, "verb": atom(entry.request.verb), "elapsed_ms": elapsed_ms})

    busy = sum(worker.entry is not None for worker in scheduler.workers.values())
    return atom_keys(
        {
            "status": atom(status),
            "message": message,
            "uptime_ms": int((now - node.started_at) * 1000),
            "queue": atom_keys({"waiting": len(scheduler.queue), "running": busy, "capacity": scheduler.max_queue}),
            "workers": [
                atom_keys(
                    {
                        "worker": worker.number,
                        "state": atom(worker.state),
                        "job": job(worker.number),
                        **usage(worker.os_pid),
                    }
                )
                for worker in scheduler.workers.values()
            ],
            "node": atom_keys(usage(os.getpid())),
            "restarts": scheduler.restarts,
            "dropped_events": node.credit.dropped,
            "limits": node.limits(),
            "versions": atom_keys({"node": __version__, "python": node.python, "dspy": node.dspy}),
        }
    )
