"""What workers' jobs made and gave, kept before anybody hears of it, without the loop waiting for the disk.

A worker's outcome stays behind what its job made, and its death behind its outcome. One that leaves nothing to keep
goes straight to the scheduler. Knows workers by number; decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from erlbridge.core.events import Died, Event, Finished
from erlbridge.core.scheduler import Scheduler
from erlbridge.core.sharing import Flight
from erlbridge.errors import BridgeError
from erlbridge.node.stock import Stock
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom


class Outcomes:
    """Keeps what lasts of jobs.

    Args:
        step: Has the scheduler hear of an event.
        log: Tells the host's log, a level and a line.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        stock: Stock,
        step: Callable[[Event], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._scheduler = scheduler
        self._stock = stock
        self._step = step
        self._log = log
        self._makers: set[int] = set()
        self._at_disk: Counter[int] = Counter()

    def keep(self, worker: int, name: str, content: bytes) -> None:
        """A worker's job has made a program or a model."""
        entry = self._scheduler.entry_of(worker)
        verb = None if entry is None else entry.request.verb
        self._makers.add(worker)
        self._run(worker, lambda: self._stock.shelves.keep(worker, name, content, verb), self._complain)

    def finished(self, outcome: Finished) -> None:
        """A worker's job has ended."""
        worker = outcome.worker
        entry = self._scheduler.entry_of(worker)
        sharing = self._scheduler.in_flight.sharing
        flight = None if entry is None or entry.cancelled or not outcome.ok else sharing.of(entry)
        lasts = flight is not None and (flight.entry.cached or self._has_key(flight))
        if not (lasts or worker in self._makers or worker in self._at_disk or _names_damage(outcome)):
            self._step(outcome)
            return
        self._makers.discard(worker)
        kept = self._keeper(outcome, flight)
        self._run(worker, kept, lambda said: self._step(said if isinstance(said, Finished) else outcome))

    def died(self, death: Died) -> None:
        """A worker is gone."""
        worker = death.worker
        if worker in self._makers or worker in self._at_disk:
            self._makers.discard(worker)
            self._run(worker, lambda: self._stock.shelves.forget(worker), lambda _: self._step(death))
        else:
            self._step(death)

    def _keeper(self, outcome: Finished, flight: Flight | None) -> Callable[[], Finished]:
        """What the disk's thread does about an outcome; all that it needs of the scheduler is read now."""
        if flight is None:
            return lambda: self._stock.shelves.told(outcome)
        request, identity = flight.entry.request, flight.identity
        key, verb, cached = request.meta.idempotency_key, request.verb, flight.entry.cached

        def keep() -> Finished:
            said = self._stock.shelves.told(outcome)
            if said.ok and key is not None:
                self._stock.results.put(key, verb, said.term, identity)
            if cached and said is outcome:  # else something of it was not stored, and it says so
                self._stock.cache.put(verb, said.term, identity)
            return said

        return keep

    def _has_key(self, flight: Flight) -> bool:
        return flight.entry.request.meta.idempotency_key is not None and self._stock.results.on

    def _complain(self, complaint: str | BridgeError | None) -> None:
        if complaint is not None:
            self._log("error", str(complaint))

    def _run(self, worker: int, work: Callable[[], object], then: Callable[..., None]) -> None:
        self._at_disk[worker] += 1

        def over(outcome: object) -> None:
            self._at_disk[worker] -= 1
            if not self._at_disk[worker]:
                del self._at_disk[worker]
            then(outcome)

        self._stock.disk.run("what a job made", work, over)


def _names_damage(outcome: Finished) -> bool:
    """Whether an error is about something that lies damaged on the disk."""
    if outcome.ok:
        return False
    error: Term = outcome.term
    context = error.get(atom("context")) if isinstance(error, Mapping) else None
    return isinstance(context, Mapping) and context.get(atom("reason")) == atom("damaged")
