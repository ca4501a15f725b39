"""One point tried: a conversation in which a fault happens, and what must be true of what is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from node_client import NodeGone
from streams import chunks, framed, rows

from faultpoints.breaker import Breaker, Fault, Operation, Point, faults_at, points
from faultpoints.conversations import Conversation
from faultpoints.host import BEAM, Broken, Crashed, Host

Victim = Literal["who does it", "guardian", "BEAM", "owner"]

OURS: Final = re.compile(r"(?!(audit|tmp)(/|$))")
"""The audit log keeps promises of its own, and has tests of them; workers' temporary directories hold nothing."""
_PASSING: Final = re.compile(r"-(wal|shm|journal)$")
"""What SQLite keeps beside a file while somebody has it open."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial's outcome. `broken` is empty when every promise was kept; `met` is false when the point did not come."""

    conversation: str
    point: Point
    fault: Fault
    victim: Victim
    met: bool
    broken: str
    seconds: float

    def __str__(self) -> str:
        what = f"{self.conversation}: {self.point}: {self.fault}"
        return (
            f"{what} ({self.victim})" + ("" if self.met else ": not met") + (f": {self.broken}" if self.broken else "")
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A conversation without a fault: its operations, how many requests it takes and the files that it leaves, in which
    nothing else is left behind; where there are none, nobody looks."""

    conversation: Conversation
    operations: list[Operation]
    requests: int
    files: frozenset[str]

    @property
    def points(self) -> list[Point]:
        """Where a fault may happen, in order."""
        return [point for point in points(self.operations) if OURS.match(point.name)]

    @property
    def plan(self) -> list[tuple[Point, Fault]]:
        """Everything that may happen."""
        return [(point, fault) for point in self.points for fault in faults_at(point)]

    def attempt(self, point: Point, fault: Fault, victim: Victim = "who does it") -> Tried:
        """Tries a point."""

        def suffer(host: Host, breaker: Breaker) -> bool:
            return _suffer(host, breaker, self.conversation, (point, fault), victim)

        return _tried(self, point, fault, victim, suffer)

    def cut(self, number: int) -> Tried:
        """Tries what a BEAM loses whose port's owner is killed while a request, the `number`th, is on its way."""

        def suffer(host: Host, _breaker: Breaker) -> bool:
            host.cut_at = number
            with host.with_node() as node:
                node.note_tree()
                try:
                    self.conversation.say(host)
                except (NodeGone, BrokenPipeError):
                    return True
            return False

        return _tried(self, Point("request", "", number), "killed after it", "owner", suffer)


@contextmanager
def _room() -> Iterator[tuple[Path, Breaker]]:
    room = Path(tempfile.mkdtemp(prefix="faultpoints-"))
    data = room / "data"
    data.mkdir(mode=0o700)
    breaker = Breaker(data, room / "control")
    try:
        yield data, breaker
    finally:
        breaker.close()
        shutil.rmtree(room)


def record(conversation: Conversation) -> Recorded:
    """Holds a conversation, and another node's rest of it, without a fault."""
    with _room() as (data, breaker):
        host = Host(data)
        with host.with_node(**breaker.environment):
            conversation.say(host)
            host.check()
            operations, requests = breaker.operations(), host.requests
        go_on(host, conversation)
        return Recorded(conversation, operations, requests, frozenset(files(data)))


def _tried(
    recorded: Recorded, point: Point, fault: Fault, victim: Victim, suffer: Callable[[Host, Breaker], bool]
) -> Tried:
    begun = time.monotonic()
    met, broken = False, ""
    with _room() as (data, breaker):

        def make_room() -> bool:
            was = breaker.fired
            breaker.disarm()
            return was

        host = Host(data, make_room, BEAM if victim in ("BEAM", "owner") else ())
        try:
            met = suffer(host, breaker)
            go_on(host.successor(), recorded.conversation)
            if recorded.files and (strange := sorted(set(files(data)) - recorded.files)):
                raise Broken(f"left behind: {', '.join(strange)}")
        except (Broken, AssertionError, NodeGone, BrokenPipeError, subprocess.TimeoutExpired) as error:
            broken = f"{type(error).__name__}: {error}"
    return Tried(recorded.conversation.name, point, fault, victim, met, broken, time.monotonic() - begun)


def _suffer(
    host: Host, breaker: Breaker, conversation: Conversation, trial: tuple[Point, Fault], victim: Victim
) -> bool:
    """Holds the conversation until the fault has had its effect; gives whether it came."""
    point, fault = trial
    killed = fault.startswith("killed")
    with host.with_node(**breaker.environment) as node:
        node.note_tree()
        breaker.arm(point, fault, 0 if victim == "who does it" else node.process.pid)
        try:
            conversation.say(host)
            if killed:
                host.check()
        except (NodeGone, BrokenPipeError):
            if not killed or not breaker.fired:
                raise
            return True
        except Crashed:
            if not killed or not breaker.fired:
                raise
            return True  # a worker was killed; the request may be made again
        met = breaker.fired or host.refusals > 0
        breaker.disarm()
        if not killed:
            host.check(results_last=False)
            conversation.say(host)  # at the same node, which has lived on
            host.check(results_last=False)
        return met


def go_on(host: Host, conversation: Conversation) -> None:
    """What a new node must be able to do: give all that was acknowledged, go on, and tidy up."""
    with host.with_node():
        host.check(results_last=False)
        conversation.say(host)
        host.check()
    age(host.data)
    tidy(host.data)
    with host.with_node():
        stream = framed(rows(2))
        host.send("another", stream, chunks("another", stream))  # with which a node looks at what is old
        host.check()


def tidy(data: Path) -> None:
    """What an operator's node does hourly, where the command line has it."""
    told = subprocess.run(
        [sys.executable, "-m", "erlbridge", "store", "gc", "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode and "invalid choice" not in told.stderr:
        raise Broken(f"store gc: {told.stderr}")


def age(data: Path) -> None:
    """Two days go by, for every file."""
    then = time.time() - 2 * 86_400.0
    for path in [*data.rglob("*"), data]:
        os.utime(path, (then, then), follow_symlinks=False)


def files(data: Path) -> Iterator[str]:
    """The files by name, without what differs from run to run; those that SQLite has while somebody reads are none."""
    for path in data.rglob("*"):
        name = str(path.relative_to(data))
        if path.is_file() and not name.startswith("audit") and not _PASSING.search(name):
            yield re.sub(r"[0-9a-f]{16,}", "*", name)
