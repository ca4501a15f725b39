"""A sample of what `scripts/faultpoints` tries whole, and the points at which something was once found."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from streams import chunks, framed, name_of, rows

from erlbridge.codec import Atom
from faultpoints.breaker import Breaker, Fault, Point, library
from faultpoints.conversations import JOBS, TRANSFERS
from faultpoints.host import Host
from faultpoints.load import load
from faultpoints.trial import Recorded, record

SEED = int(os.environ.get("ERLBRIDGE_FAULTPOINTS_SEED", "1"))
TRIALS = int(os.environ.get("ERLBRIDGE_FAULTPOINTS_TRIALS", "2"))


@pytest.fixture(scope="module", autouse=True)
def breaker_is_built() -> None:
    try:
        library()
    except LookupError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return record(TRANSFERS)


@pytest.mark.parametrize(
    ("operation", "name", "number", "fault"),
    [
        ("write", "transfers/*.chunks", 1, "refused once"),
        ("unlink", "transfers/*.chunks", 1, "refused once"),
        ("rename", "datasets/.new-*/stream", 2, "killed after it"),
        ("rename", "datasets/*", 2, "disk full from it on"),
    ],
)
def test_a_transfer_lives_through_what_once_ended_one(
    recorded: Recorded, operation: str, name: str, number: int, fault: Fault
) -> None:
    tried = recorded.attempt(Point(operation, name, number), fault)
    assert tried.met
    assert not tried.broken, tried


def test_whatever_happens_at_any_operation_of_a_transfer_nothing_acknowledged_is_lost(recorded: Recorded) -> None:
    for point, fault in random.Random(SEED).sample(recorded.plan, TRIALS):
        tried = recorded.attempt(point, fault)
        assert not tried.broken, tried


def test_a_node_that_is_killed_while_it_stores_a_job_s_outcome_loses_nothing_acknowledged() -> None:
    """The points of jobs are not counted first, which takes long: one change of many, whichever it is."""
    nothing_recorded = Recorded(JOBS, [], 0, frozenset())
    tried = nothing_recorded.attempt(Point("", "", random.Random(SEED).randrange(20, 80)), "killed after it")
    assert tried.met
    assert not tried.broken, tried


def test_another_host_goes_on_with_what_a_killed_beam_has_sent(recorded: Recorded) -> None:
    changes = [point for point in recorded.points if not point.reads]
    tried = recorded.attempt(random.Random(SEED).choice(changes), "killed after it", "BEAM")
    assert not tried.broken, tried


def test_another_host_goes_on_with_what_a_killed_owner_of_a_port_has_sent(recorded: Recorded) -> None:
    tried = recorded.cut(random.Random(SEED).randrange(1, recorded.requests))
    assert tried.met
    assert not tried.broken, tried


def test_two_nodes_on_one_store_keep_their_promises_under_load() -> None:
    loaded = load(2.0, SEED, kill_every_s=1.0)
    assert loaded.broken == []
    assert sum(loaded.done.values()) > 10


def test_a_single_read_that_the_disk_refuses_costs_no_index(tmp_path: Path) -> None:
    """SQLite calls it a damaged file; the index would have been set aside, and with it what cannot be rebuilt."""
    data = tmp_path / "data"
    data.mkdir()
    code = (
        "import sys; from pathlib import Path; from erlbridge.store.engine import SqliteEngine\n"
        "engine = SqliteEngine(Path(sys.argv[1]), print)\n"
        "for _ in range(3):\n"
        "    try: print(engine.read(lambda statements: statements.rows('SELECT count(*) FROM entries')))\n"
        "    except OSError as refusal: print(type(refusal).__name__)\n"
    )

    def run(**environment: str) -> list[str]:
        command = [sys.executable, "-c", code, str(data)]
        told = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        return told.stdout.splitlines()

    assert run() == ["[(0,)]"] * 3
    for number in range(1, 5):
        breaker = Breaker(data, tmp_path / "control")
        breaker.arm(Point("read", "store.sqlite3", number), "refused once")
        assert run(**breaker.environment)[1:] == ["[(0,)]"] * 2
        assert breaker.fired
        breaker.close()
    assert [path.name for path in data.glob("*.damaged*")] == []


@pytest.fixture(params=["a disk of 1 MiB", "files of 1 MiB at most"])
def tight(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A data directory in which a larger file has no room, and what starts a node there."""
    data = tmp_path / "data"
    data.mkdir()
    if request.param == "files of 1 MiB at most":
        yield data, ("sh", "-c", 'ulimit -f 2048 && exec "$@"', "sh")
        return
    how = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(data)]
    mounted = subprocess.run(how, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield data, ()
    finally:
        subprocess.run(["umount", "-l", data], check=True)


def test_a_transfer_that_has_no_room_is_refused_and_the_next_one_is_taken(
    tight: tuple[Path, tuple[str, ...]],
) -> None:
    data, launcher = tight
    large, small = framed(rows(800, 2000)), framed(rows(50, 200))
    host = Host(data, launcher=launcher)
    with host.with_node("--audit", "false") as node:
        refused = [answer for tag, answer in answered(node, requested(node, "large", large)) if tag == "error"]
        assert refused, "1.6 MB into 1 MiB"
        assert refused[0][Atom("error_type")] == Atom("storage_error")
        assert refused[0][Atom("context")] == {Atom("reason"): Atom("disk_full")}
        goes_on_at = host.ask("transfer_status", transfer=b"large")["next_index"]
        assert 0 < goes_on_at < len(refused) + goes_on_at
        host.ask("cancel_transfer", transfer=b"large")
        host.send("small", small, chunks("small", small))
        host.check()
        assert host.read_dataset(name_of(small)) == small


def answered(node: NodeClient, numbers: list[int]) -> list[tuple[str, Any]]:
    """The answers to all requests, which come in any order: a chunk above the window is refused before the others."""
    found: dict[int, tuple[str, Any]] = {}
    while len(found) < len(numbers):
        tag, number, answer = node.until(lambda term: str(term[0]) in ("ok", "error"))[:3]
        found[number] = (str(tag), answer)
    return [found[number] for number in numbers]


def requested(node: NodeClient, transfer: str, stream: bytes) -> list[int]:
    payloads = chunks(transfer, stream, compression="none", chunk_bytes=100_000)
    return [node.request("data_chunk", payload) for payload in payloads]
