"""Two nodes, each with a host of its own, on one data directory: both write, read and delete the same things at once.

What lies there is a handful of programs, datasets and keys, so that the two meet all the time. Now and then one of the
nodes is killed and another takes its place; beside them the command line verifies and tidies, where it can.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node_client import NodeGone
from streams import chunks, framed, name_of, rows
from tickets import OFFLINE, optimization, prediction

from erlbridge.codec import Atom
from faultpoints.host import Broken, Host, plain

STREAMS: Final = [framed(rows(20 + number, 100)) for number in range(4)]
NOTES: Final = 4
KEYS: Final = 6


@dataclass(slots=True)
class Loaded:
    """What came of it: how often each thing was done, and every promise that was not kept."""

    done: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    kills: int = 0


@dataclass(slots=True)
class _Common:
    """What both hosts know."""

    programs: list[tuple[bytes, Any]]
    sent: set[int] = field(default_factory=set)
    """Streams that somebody was told are whole."""
    predicted: dict[int, Any] = field(default_factory=dict)


class _Busy:
    """One host with its node, until the time is over."""

    def __init__(self, data: Path, common: _Common, loaded: Loaded, seed: int, kill_every_s: float) -> None:
        self._data = data
        self._common = common
        self._loaded = loaded
        self._random = random.Random(seed)
        self._kill_every_s = kill_every_s
        self._seed = seed
        self._seconds = 0.0
        self._until = 0.0
        self._deeds: list[Callable[[], None]] = [
            self.put,
            self.get,
            self.delete,
            self.list,
            self.send,
            self.send_together,
            self.read,
            self.predict,
            self.fetch,
        ]

    def run(self, seconds: float) -> None:
        """Works for so long, from when a worker is there."""
        self._seconds = seconds
        try:
            while not self._until or time.monotonic() < self._until:
                self._live()
        except (Broken, AssertionError, NodeGone, BrokenPipeError) as error:
            self._loaded.broken.append(f"{type(error).__name__}: {error}")

    def _live(self) -> None:
        """Works with one node until the time is over, or the node's."""
        self._host = Host(self._data)
        with self._host.with_node() as node:
            node.wait_until_healthy()
            node.note_tree()
            until = self._until = self._until or time.monotonic() + self._seconds
            dies_at = time.monotonic() + self._random.uniform(0.5, 1.5) * self._kill_every_s
            killer = threading.Timer(dies_at - time.monotonic(), os.kill, (node.node_pid, signal.SIGKILL))
            if dies_at < until:
                killer.start()
                self._loaded.kills += 1
            try:
                while time.monotonic() < until:
                    deed = self._random.choice(self._deeds)
                    deed()
                    self._loaded.done[deed.__name__] += 1
            except (NodeGone, BrokenPipeError):
                if time.monotonic() < dies_at:
                    raise
            finally:
                killer.cancel()

    # -- what it does

    def put(self) -> None:
        program_id, program = self._random.choice(self._common.programs)
        if self._host.ask("put_program", program=program)["program_id"] != program_id:
            raise Broken("a program has another id than before")

    def get(self) -> None:
        program_id, program = self._random.choice(self._common.programs)
        found = self._if_there("get_program", program_id=program_id)
        if found is not None and plain(found["program"]) != plain(program):
            raise Broken(f"{program_id!r} is not what was put")

    def delete(self) -> None:
        program_id, _ = self._random.choice(self._common.programs)
        self._if_there("delete_program", program_id=program_id)

    def list(self) -> None:
        listed = [entry[Atom("program_id")] for entry in self._host.ask("list_programs", limit=1000)["programs"]]
        if len(set(listed)) != len(listed) or not set(listed) <= {
            program_id for program_id, _ in self._common.programs
        }:
            raise Broken(f"listed: {listed}")

    def send(self) -> None:
        number = self._random.randrange(len(STREAMS))
        name = f"{self._seed} {time.monotonic_ns()}"
        self._host.send(name, STREAMS[number], chunks(name, STREAMS[number], chunk_bytes=700))
        self._common.sent.add(number)

    def send_together(self) -> None:
        """Under a name that the other one uses too: one of them is refused, or both go on with the same."""
        number = self._random.randrange(len(STREAMS))
        payloads = chunks(f"both {number}", STREAMS[number], chunk_bytes=700)
        for payload in payloads:
            tag, answer = self._host.node.ask("data_chunk", payload)
            if tag == "error":
                if str(answer[Atom("error_type")]) != "transfer_error":
                    raise Broken(f"data_chunk was answered {answer}")
                if str(answer[Atom("context")][Atom("reason")]) not in ("busy", "gap"):
                    raise Broken(f"data_chunk was answered {answer}")
                return
        if answer[Atom("status")] == Atom("finished"):
            self._common.sent.add(number)

    def read(self) -> None:
        number = self._random.randrange(len(STREAMS))
        was_sent = number in self._common.sent
        name = name_of(STREAMS[number])
        if not was_sent and self._host.is_missing("get_dataset", dataset=name.encode()):
            return
        if self._host.read_dataset(name) != STREAMS[number]:
            raise Broken(f"dataset {name} is not what was sent")

    def predict(self) -> None:
        """Each key's request is another one; its result is the same wherever and whenever it is asked for."""
        key = self._random.randrange(KEYS)
        payload = {str(name): value for name, value in prediction({**OFFLINE, Atom("seed"): key}).items()}
        result = self._host.keyed("predict", f"key {key}", **payload)["prediction"]
        if self._common.predicted.setdefault(key, plain(result)) != plain(result):
            raise Broken(f"the prediction of key {key} is another one now")

    def fetch(self) -> None:
        key = self._random.randrange(KEYS)
        was_done = key in self._common.predicted
        found = self._if_there("fetch_result", idempotency_key=f"key {key}".encode())
        if found is None and was_done:
            raise Broken(f"the result of key {key} is lost")

    def _if_there(self, verb: str, **fields: object) -> dict[str, Any] | None:
        tag, answer = self._host.node.ask(verb, {Atom(key): value for key, value in fields.items()})
        if tag == "ok":
            return {str(key): value for key, value in answer.items()}
        if str(answer[Atom("error_type")]) != "not_found":
            raise Broken(f"{verb} was answered {answer}")
        if b"damaged" in answer[Atom("message")]:
            raise Broken(answer[Atom("message")].decode())
        return None


def load(seconds: float, seed: int, kill_every_s: float = 4.0) -> Loaded:
    """Two nodes under load for so long; one is killed every `kill_every_s` or so."""
    loaded = Loaded()
    with tempfile.TemporaryDirectory(prefix="faultpoints-") as room:
        data = Path(room) / "data"
        common = _Common(_programs(data))
        over = threading.Event()
        hosts = [_Busy(data, common, loaded, seed * 2 + number, kill_every_s) for number in range(2)]
        threads = [threading.Thread(target=host.run, args=(seconds,)) for host in hosts]
        tender = threading.Thread(target=_tend, args=(data, over, loaded))
        for thread in (*threads, tender):
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        tender.join()
        host = Host(data)
        host.ledger.datasets = {name_of(STREAMS[number]): STREAMS[number] for number in common.sent}
        with host.with_node():
            host.check()
        loaded.broken += [f"called damaged: {path.relative_to(data)}" for path in data.rglob("*.damaged*")]
    return loaded


def _programs(data: Path) -> list[tuple[bytes, Any]]:
    """Programs that differ in a note, put once and deleted."""
    host = Host(data)
    with host.with_node():
        asked = optimization(8, optimizer=Atom("labeled_few_shot"), max_labeled_demos=2)
        made = host.ask("optimize_signature", **{str(key): value for key, value in asked.items()})
        host.ask("delete_program", program_id=made["program_id"])
        found = []
        for number in range(NOTES):
            noted = {**made["program"], Atom("usage"): {b"note": b"%d" % number}}
            program_id = host.ask("put_program", program=noted)["program_id"]
            found.append((program_id, host.ask("get_program", program_id=program_id)["program"]))
        return found


def _tend(data: Path, over: threading.Event, loaded: Loaded) -> None:
    """What an operator does meanwhile; nothing of it may find fault with a store that is in use."""
    while not over.is_set():
        for command in ("verify", "gc"):
            asked = [sys.executable, "-m", "erlbridge", "store", command, "--data", str(data)]
            told = subprocess.run(asked, capture_output=True, text=True, check=False)
            if "invalid choice" in told.stderr:
                return
            loaded.done[f"store {command}"] += 1
            if told.returncode:
                loaded.broken.append(f"store {command}: {told.returncode}: {told.stdout} {told.stderr}")
