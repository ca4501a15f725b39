"""A request by its verb: answered at once, put on the disk's list, or handed to the intake of jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from erlbridge.core import events
from erlbridge.core.jobs import WORKER_VERBS
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import DuplicateId, UnknownVerb
from erlbridge.limits import MAX_SPAN_MS
from erlbridge.node import program_verbs, stock, transfer_verbs
from erlbridge.node.capture import Capture
from erlbridge.node.disk import Disk, Errand
from erlbridge.node.host import Host, key_of
from erlbridge.node.intake import Intake
from erlbridge.wire.messages import Request, Term
from erlbridge.wire.place import Place, nearest
from erlbridge.wire.vocabulary import VERBS, atom, atom_keys


class Reception:
    """Knows who does what a request asks for.

    Args:
        step: Tells the scheduler of an event.
        health: What health_check answers.
        grace_s: How long jobs may go on after a `:shutdown` that does not say.
    """

    def __init__(
        self,
        *,
        host: Host,
        scheduler: Scheduler,
        disk: Disk,
        stock: stock.Stock,
        data: transfer_verbs.DataDesk,
        capture: Capture,
        intake: Intake,
        step: Callable[[events.Event], None],
        health: Callable[[], Mapping[Term, Term]],
        grace_s: float,
    ) -> None:
        self._host = host
        self._scheduler = scheduler
        self._disk = disk
        self._stock = stock
        self._data = data
        self._capture = capture
        self._intake = intake
        self._step = step
        self._health = health
        self._grace_s = grace_s

    def take(self, key: bytes, request: Request, frame: bytes | memoryview) -> None:
        """Answers the request with this key, hands it on, or raises the `BridgeError` that refuses it."""
        if failure := self._scheduler.admission.duplicate(key):
            self._host.refuse(request.id, failure)
            return
        if self._disk.holds(key) or self._host.sends(key):
            in_flight = DuplicateId("this id is still in flight; use a fresh one for each request")
            self._host.refuse(request.id, in_flight)
            return
        match request.verb:
            case "health_check":
                self._host.answer(request.id, self._health(), key)
            case "cancel":
                target = Place(request.payload, "payload")
                wanted = target.required(target.only(("id",)), "id").term
                wanted_key = key_of(wanted)
                if self._disk.holds(wanted_key):
                    self._host.answer(request.id, atom_keys({"status": atom("cancelling")}), key)
                    self._disk.cancel(wanted_key)
                    return
                if self._host.sends(wanted_key):
                    self._host.answer(request.id, atom_keys({"status": atom("cancelling")}), key)
                    self._host.stop_sending(wanted)
                    return
                self._step(events.CancelAsked(request.id, wanted_key))
            case "shutdown":
                grace_s = _grace_s(Place(request.payload, "payload"), self._grace_s)
                self._step(events.ShutdownAsked((request.id,), grace_s, (key,)))
            case verb if verb in stock.VERBS:
                errand = Errand(self._stock.work(verb, request.payload, self._scheduler.in_flight.sharing))
                self._disk.put(key, request.id, verb, errand, request.meta.deadline_ms)
            case verb if verb in program_verbs.ANSWERS:
                payload = request.payload
                errand = Errand(lambda: self._stock.shelves.ask(verb, payload), len(frame))
                self._disk.put(key, request.id, verb, errand, request.meta.deadline_ms)
            case verb if verb in transfer_verbs.VERBS:
                errand = self._data.work(verb, request.payload, self._disk.lanes)
                self._disk.put(key, request.id, verb, errand, request.meta.deadline_ms)
            case "capture":
                errand = self._capture.errand(request.payload)
                self._disk.put(key, request.id, "capture", errand, request.meta.deadline_ms)
            case verb if verb in WORKER_VERBS:
                self._intake.take(key, request, frame)
            case verb:
                raise UnknownVerb(f"unknown verb `{verb}`{nearest(verb, VERBS)}; known are {', '.join(VERBS)}")


def _grace_s(place: Place, default_s: float) -> float:
    entries = place.only(("mode", "grace_ms"))
    if "mode" in entries and entries["mode"].choice(("drain", "now")) == "now":
        return 0.0
    grace = entries.get("grace_ms")
    return default_s if grace is None or grace.term is None else grace.integer(minimum=0, maximum=MAX_SPAN_MS) / 1000
