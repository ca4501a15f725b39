"""Whether a request may come, judged before anything is spent on it, and what to tell one that may not."""

from __future__ import annotations

from dataclasses import dataclass

from erlbridge.core.in_flight import InFlight
from erlbridge.core.pace import Pace
from erlbridge.core.quotas import Quota, Quotas
from erlbridge.core.roster import Roster
from erlbridge.core.shutdown import Shutdown
from erlbridge.errors import BridgeError, DuplicateId, Overloaded, ShuttingDown


@dataclass(slots=True)
class Admission:
    """Judges by the scheduler's own values; changes none of them.

    Args:
        max_queue: Requests that may wait for a worker, beside nested ones.
    """

    max_queue: int
    in_flight: InFlight
    roster: Roster
    quotas: Quotas
    pace: Pace
    shutdown: Shutdown

    # -- one request

    def duplicate(self, key: bytes) -> BridgeError | None:
        """Why no request of any verb may have this id now; None when it may."""
        if key in self.in_flight or self.shutdown.awaited(key):
            return DuplicateId("this id is still in flight; use a fresh one for each request")
        return None

    def unwelcome(self, key: bytes, parent: bytes | None = None) -> BridgeError | None:
        """Why a request with this key cannot be taken even though it needs no place, since it joins a job or has been
        answered before; None when it can. `parent` is the key of the one whose Elixir function made it."""
        # What was taken may finish, and with it what it needs for that.
        stopping = self.shutdown.asked and parent not in self.in_flight.entries
        if stopping or self.shutdown.over:
            return ShuttingDown("the node is shutting down; send the request to another node or after a restart")
        return self.duplicate(key)

    def no_room(self, *, nested: bool, quotas: tuple[Quota, ...] = ()) -> BridgeError | None:
        """Why a request cannot wait for a worker, counting against these quotas as far as they are known; None when it
        can."""
        if nested:
            return self._overloaded() if self.in_flight.nesting.full else None
        return self._overloaded() if self._full and not (self.free and self.quotas.allows(quotas)) else None

    # -- all of them

    @property
    def free(self) -> int:
        """Jobs that could begin now, beside nested ones."""
        return self.roster.free(self.in_flight.nesting.lent)

    def unready(self) -> str | None:
        """Why a request for a worker had better go to another node; None when it may come."""
        if self.shutdown.asked or self.shutdown.over:
            return "the node is shutting down"
        return None if self.roster.ready else f"0 of {self.roster.worker_count} workers are ready"

    def status(self) -> tuple[str, str]:
        """How the node is, as health_check says it: `healthy`, `degraded` or `overloaded`, and why."""
        ready, workers = self.roster.ready, self.roster.worker_count
        if self._full and not self.free:
            return "overloaded", f"{len(self.in_flight.queue)} requests wait, limit {self.max_queue}"
        if ready < workers:
            return "degraded", f"{ready} of {workers} workers are ready"
        return "healthy", f"{min(ready, workers)} of {workers} workers are ready"

    # -- what is told

    def entangled(self) -> Overloaded:
        """To a nested request, where all that run wait for such requests and no further place may be lent."""
        nesting, running = self.in_flight.nesting, self.roster.running
        return Overloaded(
            f"all {running} jobs that run wait for requests that their Elixir functions have made, and none would end; "
            f"let functions ask for less, or raise nested_workers, which is {nesting.most}",
            context={
                "waiting": len(nesting.waiting),
                "running": running,
                "workers": self.roster.worker_count,
                "limit": nesting.most,
            },
        )

    @property
    def _full(self) -> bool:
        return len(self.in_flight.queue) >= self.max_queue

    def _overloaded(self) -> Overloaded:
        waiting, running, workers = len(self.in_flight.queue), self.roster.running, self.roster.worker_count
        return Overloaded(
            f"{waiting} requests wait, limit {self.max_queue}, and {running} run on {workers} workers; "
            "try again later, start the node with more workers, or raise max_queue",
            context={"waiting": waiting, "running": running, "workers": workers, "limit": self.max_queue},
            retry_after_ms=self.pace.next_place_ms(workers),
        )
