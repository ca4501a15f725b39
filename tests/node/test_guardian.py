"""The guardian: whatever dies or is stopped, in whatever order, nothing outlives the node or its host."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from measures import record
from node_client import NodeClient, NodeGone, await_gone
from tickets import prediction
from victims import (
    UNRULY,
    busy_worker,
    family_of,
    forkserver_of,
    idle_workers,
    open_descriptors,
    record_gone,
    slow_job,
)

from erlbridge.kinship import children, end_descendants

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def unruly(start_node: Callable[..., NodeClient]) -> NodeClient:
    """A node whose one worker has descendants in sessions of their own; all are known to the client."""
    node = start_node("--workers", "1", "--spare-workers", "0", PYTHONPATH=UNRULY)
    node.ready()
    node.wait_until_healthy()
    (worker,) = idle_workers(node)
    family_of(worker)
    assert len(node.note_tree()) == 6, "guardian, node, forkserver, worker and the two that it started"
    return node


def close_both_ends(node: NodeClient) -> None:
    """As a BEAM that ends, or closes the port."""
    node.close_wire()
    assert node.process.stdout is not None
    node.process.stdout.close()


def test_a_killed_node_leaves_nothing_and_its_signal_is_the_exit_code(unruly: NodeClient) -> None:
    number = unruly.request("optimize_signature", slow_job(30))
    busy_worker(unruly, number)
    since = time.monotonic()
    os.kill(unruly.node_pid, signal.SIGKILL)
    with pytest.raises(NodeGone) as gone:
        unruly.answer(number)
    record("kill -9 the node", "a job runs", "host knows after", time.monotonic() - since, 0.5)
    record_gone("kill -9 the node", "a job runs", unruly.tree, since)
    assert gone.value.code == 128 + signal.SIGKILL


def test_a_killed_guardian_takes_everything_with_it(unruly: NodeClient) -> None:
    number = unruly.request("optimize_signature", slow_job(30))
    busy_worker(unruly, number)
    since = time.monotonic()
    unruly.process.kill()
    with pytest.raises(NodeGone) as gone:
        unruly.answer(number)
    record("kill -9 the guardian", "a job runs", "host knows after", time.monotonic() - since, 0.5)
    record_gone("kill -9 the guardian", "a job runs", unruly.tree, since)
    assert gone.value.code == -signal.SIGKILL


@pytest.mark.parametrize("stopped", ["node", "forkserver and worker"])
def test_a_killed_guardian_takes_what_is_stopped_with_it(unruly: NodeClient, stopped: str) -> None:
    for pid in {unruly.node_pid} if stopped == "node" else {forkserver_of(unruly)} | idle_workers(unruly):
        os.kill(pid, signal.SIGSTOP)
    since = time.monotonic()
    unruly.process.kill()
    unruly.wait()
    record_gone("kill -9 the guardian", f"the {stopped} stopped", unruly.tree, since)


@pytest.fixture
def adopter() -> Iterator[None]:
    """This process adopts orphans, so that they stay within its session. What is left of them is ended."""
    libc = ctypes.CDLL(None)
    own = children()
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    end_descendants(spare=own)


def test_a_stopped_forkserver_is_ended_whoever_adopts_it(adopter: None, unruly: NodeClient) -> None:
    """The kernel continues a stopped group that is orphaned, and this one is not. No more does it continue one that is
    told to stop and has not done so when its node ends."""
    os.kill(forkserver_of(unruly), signal.SIGSTOP)
    since = time.monotonic()
    unruly.process.kill()
    unruly.wait()
    record_gone("kill -9 the guardian", "the forkserver stopped, and adopted nearby", unruly.tree, since)


@pytest.mark.parametrize("stopped", ["node", "guardian"])
def test_a_host_that_goes_away_ends_what_is_stopped(unruly: NodeClient, stopped: str) -> None:
    os.kill(unruly.node_pid if stopped == "node" else unruly.process.pid, signal.SIGSTOP)
    since = time.monotonic()
    close_both_ends(unruly)
    record_gone("SIGSTOP, then the host ends", stopped, unruly.tree, since)


def test_a_node_that_was_stopped_goes_on_where_it_was(unruly: NodeClient) -> None:
    for pid in (unruly.node_pid, unruly.process.pid):
        os.kill(pid, signal.SIGSTOP)
    number = unruly.request("predict", prediction())
    assert unruly.process.stdout is not None
    assert select.select([unruly.process.stdout], [], [], 0.1)[0] == []
    since = time.monotonic()
    for pid in (unruly.node_pid, unruly.process.pid):
        os.kill(pid, signal.SIGCONT)
    assert unruly.answer(number)[0] == "ok"
    record("SIGSTOP and SIGCONT", "node and guardian", "answered after SIGCONT", time.monotonic() - since, 1.0)
    since = time.monotonic()
    unruly.process.terminate()
    assert unruly.wait() == 0
    record_gone("SIGTERM", "idle", unruly.tree, since)


def test_a_signal_before_the_node_is_ready_is_not_lost(tmp_path: Path) -> None:
    client = NodeClient("--workers", "1", data=tmp_path)
    deadline = time.monotonic() + 20
    while not (blocked := signals_of(client.process.pid, "SigCgt") & 1 << signal.SIGTERM - 1):
        assert time.monotonic() < deadline, blocked
    client.note_tree()
    client.process.terminate()
    assert client.wait() == 0
    client.close()


def signals_of(pid: int, which: str) -> int:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status[which], 16)


def test_the_guardian_is_small_and_holds_no_more_than_it_needs(start_node: Callable[..., NodeClient]) -> None:
    node = start_node("--workers", "1")
    node.ready()
    guardian = node.process.pid
    assert open_descriptors(guardian) == 8, (
        "0 and 1 on nothing, 2, the node's pidfd, the wire's two and the two that wake it"
    )
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{guardian}/smaps_rollup").read_text().splitlines()[1:])
    bytes_used = int(rollup["Pss"].split()[0]) * 1024
    record("the guardian", "beside its node", "proportional memory", bytes_used, 12_000_000, unit="bytes")


def test_a_host_on_a_socket_is_served_and_its_end_noticed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    descriptor = str(theirs.fileno())
    process = subprocess.Popen(
        [sys.executable, "-m", "erlbridge", "serve", "--data", str(tmp_path), f"--fds={descriptor},{descriptor}"],
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    assert ours.recv(4)
    (node,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    os.kill(node, signal.SIGSTOP)
    ours.close()
    assert process.wait(20) == 128 + signal.SIGKILL
    await_gone({node})


def test_a_host_that_only_stops_asking_still_gets_its_answers(start_node: Callable[..., NodeClient]) -> None:
    """Its end of the wire hangs up while what it has asked lies in the pipe, before a node that takes its time."""
    node = start_node("--workers", "1")
    node.ready()
    os.kill(node.node_pid, signal.SIGSTOP)
    number = node.request("health_check", {})
    node.close_wire()
    time.sleep(0.6)  # longer than a node is given whose host is gone
    os.kill(node.node_pid, signal.SIGCONT)
    assert node.answer(number)[0] == "ok"
    assert node.wait() == 0


@pytest.mark.parametrize("incoming", ["/dev/null", "file", "terminal"])
def test_a_wire_that_is_no_pipe_is_guarded_too(tmp_path: Path, incoming: str) -> None:
    with contextlib.ExitStack() as stack:
        if incoming == "terminal":
            ours, descriptor = os.openpty()
            stack.callback(os.close, descriptor)
            os.write(ours, b"\x04")  # the end of what is typed
            stack.callback(os.close, ours)
        else:
            path = Path(incoming) if incoming == "/dev/null" else tmp_path / "frames"
            if incoming == "file":
                path.write_bytes(b"")
            descriptor = stack.enter_context(path.open("rb")).fileno()
        ran = subprocess.run(
            [sys.executable, "-m", "erlbridge", "serve", "--workers", "1", "--data", str(tmp_path / "data")],
            stdin=descriptor,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize(("broken", "arguments", "code"), [("selectors.PollSelector", [], 70), ("", ["--wrong"], 2)])
def test_a_fault_of_the_node_and_a_wrong_argument_pass_through_as_exit_codes(
    tmp_path: Path, broken: str, arguments: list[str], code: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import selectors\n{broken} = None\n" if broken else "")
    ran = subprocess.run(
        [sys.executable, "-m", "erlbridge", "serve", "--workers", "1", "--data", str(tmp_path / "data"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert ran.returncode == code, ran.stderr
    assert ran.stderr, "it says why"
