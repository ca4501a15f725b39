"""Requests on their way to the scheduler, beside what other nodes of the store do in the same moment."""

from __future__ import annotations

import gc
import selectors
import threading
from pathlib import Path
from typing import Any

import pytest
from tickets import prediction, slow

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.events import Event, Held, Submitted, Unfit
from erlbridge.core.results import Identity
from erlbridge.core.scheduler import Scheduler
from erlbridge.node.config import NodeConfig
from erlbridge.node.disk import Disk
from erlbridge.node.intake import Intake
from erlbridge.node.stock import stock_of
from erlbridge.store.store import open_store
from erlbridge.wire.messages import Meta, Request


class Door:
    """An intake with a disk of its own; `heard` is what the scheduler has heard."""

    def __init__(self, data: Path, *, caches: bool = True) -> None:
        self.heard: list[Event] = []
        self.selector = selectors.PollSelector()
        disk = Disk(self.selector, lambda _id, _outcome: None)
        self.stock = stock_of(open_store(data, print), disk, NodeConfig(data=data), print)
        self.scheduler = Scheduler(1)
        self.intake = Intake(
            Any,  # type: ignore[arg-type]
            self.scheduler,
            self.stock,
            self.step,
            caches=caches,
            library="1",
            max_frame_bytes=2**20,
        )

    def step(self, event: Event) -> None:
        self.heard.append(event)
        self.scheduler.step(event, 1.0)

    def take(self, number: int, key: str | None) -> None:
        request = Request("predict", number, prediction(slow(0)), Meta(idempotency_key=key))
        meta = {} if key is None else {Atom("idempotency_key"): key.encode()}
        frame = term_to_binary((Atom("predict"), number, request.payload, meta), compressed=9)
        self.intake.take(b"%d" % number, request, memoryview(frame))
        assert isinstance(self.heard[-1], Held)

    def hear(self) -> Event:
        """What the scheduler hears next, once the disk has spoken."""
        before = len(self.heard)
        while len(self.heard) == before and (ready := self.selector.select(2.0)):
            for found, events in ready:
                found.data(events)
        return self.heard[-1]

    def ask(self, number: int, key: str | None) -> Event:
        self.take(number, key)
        return self.hear()


def test_a_request_that_is_refused_behind_its_claim_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node stores something else under its key in the moment in which it takes the claim."""
    door = Door(tmp_path)
    take = door.stock.claiming.take

    def with_another(name: str) -> bool:
        monkeypatch.undo()
        door.stock.results.put("key", "predict", {Atom("answer"): 1}, Identity(b"another question"))
        return take(name)

    monkeypatch.setattr(type(door.stock.claiming), "take", lambda _self, name: with_another(name))
    refused = door.ask(1, "key")
    assert isinstance(refused, Unfit)
    assert "meta.idempotency_key" in str(refused.failure.context)
    assert isinstance(door.ask(2, None), Submitted), "nobody waits for a claim that nobody has"


def test_of_many_that_wait_for_the_disk_one_is_held_as_a_value(tmp_path: Path) -> None:
    door, unblock = Door(tmp_path, caches=False), threading.Event()
    door.stock.disk.run("the test", unblock.wait, lambda _: None)
    for number in range(4):
        door.take(number, f"held key {number}")
    gc.collect()
    requests = [found for found in gc.get_objects() if type(found) is Request and found.payload is not None]
    held = [found for found in requests if (found.meta.idempotency_key or "").startswith("held key")]
    assert len(held) == 1
    del held, requests
    unblock.set()
    for _ in range(4):
        if len(door.heard) < 8:  # several may be heard of at once
            door.hear()
    assert [type(found) for found in door.heard[4:]] == [Submitted] * 4
