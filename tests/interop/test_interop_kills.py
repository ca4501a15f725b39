"""A real BEAM as the host: however it, its port or the node ends, nothing of the node is left, and it knows in time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from measures import record
from node_client import PATIENCE_S, descendants
from victims import UNRULY, record_gone

ROW = "the host ends"


class BeamHost:
    """A BEAM with one node; `tree` holds the port's program and everything under it."""

    def __init__(self, root: Path, data: Path) -> None:
        self.process = subprocess.Popen(
            ["elixir", str(root / "tests" / "interop" / "beam_host.exs"), sys.executable, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": UNRULY},
        )
        self.guardian = int(self.heard().removeprefix("ready "))
        self.tree = {self.guardian} | descendants(self.guardian)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], "the BEAM says nothing"
        return self.process.stdout.readline().decode().strip()

    def await_workers(self) -> None:
        """Until the worker and the two processes that it starts are there."""
        deadline = time.monotonic() + PATIENCE_S
        while len(tree := {self.guardian} | descendants(self.guardian)) < 6:
            assert time.monotonic() < deadline, tree
            select.select([], [], [], 0.005)
        self.tree = tree

    @property
    def node(self) -> int:
        (child,) = Path(f"/proc/{self.guardian}/task/{self.guardian}/children").read_text().split()
        return int(child)

    def beam(self) -> int:
        """The BEAM itself: `elixir` may be a shell that waits for it."""
        pid = self.guardian
        while Path(f"/proc/{pid}/comm").read_text().strip() != "beam.smp":
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return pid

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def start_beam(root: Path, tmp_path: Path) -> Iterator[Callable[[], BeamHost]]:
    hosts: list[BeamHost] = []

    def start() -> BeamHost:
        hosts.append(BeamHost(root, tmp_path))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


@pytest.mark.parametrize("fault", ["kill -9", "halt"])
def test_a_beam_that_ends_leaves_nothing_of_its_node(start_beam: Callable[[], BeamHost], fault: str) -> None:
    host = start_beam()
    host.await_workers()
    beam = host.beam()
    since = time.monotonic()
    if fault == "halt":
        host.tell("halt")
    else:
        os.kill(beam, signal.SIGKILL)
    record_gone(ROW, f"BEAM: {fault}", host.tree, since)


def test_a_port_whose_owner_is_killed_leaves_nothing_of_its_node(start_beam: Callable[[], BeamHost]) -> None:
    host = start_beam()
    since = time.monotonic()
    host.tell("kill owner")
    record_gone(ROW, "the port's owner killed", host.tree, since)


def test_a_port_closed_with_output_queued_leaves_nothing_of_its_node(start_beam: Callable[[], BeamHost]) -> None:
    """The port lingers, and the guardian sees no end of it: the bridge kills it after a grace, here of 0.2 s."""
    host = start_beam()
    host.await_workers()
    os.kill(host.node, signal.SIGSTOP)
    host.tell("queue")
    assert host.heard() == "queued"
    since = time.monotonic()
    host.tell("stop")
    assert host.heard() == "stopped :ok"
    record_gone(ROW, "Port.close with output queued", host.tree, since)


@pytest.mark.parametrize("victim", ["node", "guardian"])
def test_a_beam_hears_in_time_that_its_node_was_killed(start_beam: Callable[[], BeamHost], victim: str) -> None:
    host = start_beam()
    since = time.monotonic()
    os.kill(host.node if victim == "node" else host.guardian, signal.SIGKILL)
    assert host.heard() == "down 137"
    record(f"kill -9 the {victim}", "under a BEAM", "host knows after", time.monotonic() - since, 0.5)
    record_gone(f"kill -9 the {victim}", "under a BEAM", host.tree, since)


def test_a_stopped_forkserver_is_ended_with_a_killed_guardian_under_a_beam(start_beam: Callable[[], BeamHost]) -> None:
    host = start_beam()
    host.await_workers()
    (forkserver,) = map(int, Path(f"/proc/{host.node}/task/{host.node}/children").read_text().split())
    os.kill(forkserver, signal.SIGSTOP)
    since = time.monotonic()
    os.kill(host.guardian, signal.SIGKILL)
    record_gone("kill -9 the guardian", "under a BEAM, the forkserver stopped", host.tree, since)
