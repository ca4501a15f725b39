"""The fault matrix, storage: full and read-only disks, damaged and locked files cost no job, and are named."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faulty_endpoint import FaultyEndpoint
from measures import record
from node_client import NodeClient
from tickets import HELD_OUT, optimization, prediction

from erlbridge.codec import Atom

ROW = "disk and files"
ANSWERS, RATES = "answers-1.sqlite3", "rates-1.sqlite3"
CONTEXT, METRICS, CACHED = Atom("context"), Atom("metrics"), Atom("cached_calls")


@contextmanager
def small_disk(directory: Path, *options: str) -> Iterator[Path]:
    """A disk of 1 MiB at the directory."""
    directory.mkdir()
    how = ",".join(("size=1m", *options))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", directory], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(directory: Path) -> Path:
    """Takes all the room that is left, and gives the file that holds it."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


@pytest.fixture
def endpoint() -> Iterator[FaultyEndpoint]:
    with FaultyEndpoint() as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "1", "--spare-workers", "0", data=tmp_path_factory.mktemp("data") / "kept")
    try:
        client.ready()
        client.wait_until_healthy()
        yield client
    finally:
        client.close()


def data_of(node: NodeClient) -> Path:
    arguments = Path(f"/proc/{node.process.pid}/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(arguments[arguments.index(b"--data") + 1]))


def kept_predict(endpoint: FaultyEndpoint, ticket: int = 0, **config: object) -> dict[Any, Any]:
    """A prediction whose answer is kept, and whose calls are paced."""
    lm = endpoint.lm(rate_limit={Atom("requests_per_minute"): 100_000})
    chosen = {Atom("lm"): lm, **{Atom(key): value for key, value in config.items()}}
    given = {key: value for key, value in HELD_OUT[ticket].items() if key != Atom("category")}
    return {**prediction(chosen), Atom("input"): given}


def calls_of(node: NodeClient, payload: dict[Any, Any]) -> tuple[int, int]:
    """How many calls a prediction made, and how many the kept answers saved."""
    tag, result = node.ask("predict", payload)
    assert tag == "ok", result
    return result[METRICS][Atom("lm_calls")], result[METRICS][CACHED]


def logged(node: NodeClient) -> str:
    return "\n".join(event[2].decode() for event in node.events if str(event[0]) == "log")


def settles(node: NodeClient, payload: dict[Any, Any], what: str) -> None:
    """Asks until an answer comes from what is kept; the file that refused is asked again after a moment."""
    begun = time.monotonic()
    while calls_of(node, payload) != (0, 1):
        assert time.monotonic() < begun + 20, logged(node)
        time.sleep(0.05)
    record(ROW, what, "answers are kept again after", time.monotonic() - begun, 5.0)


def renew_worker(node: NodeClient) -> None:
    """Another worker, which has opened no file yet."""
    (worker,) = node.health()[Atom("workers")]
    os.kill(worker[Atom("os_pid")], signal.SIGKILL)
    while node.wait_until_healthy()[Atom("workers")][0][Atom("os_pid")] == worker[Atom("os_pid")]:
        time.sleep(0.005)


def test_a_full_disk_stops_nothing_and_is_forgotten_when_there_is_room(
    tmp_path: Path, endpoint: FaultyEndpoint
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        node = NodeClient("--workers", "1", "--spare-workers", "0", data=disk)
        try:
            node.ready()
            node.send((Atom("credit"), 10_000))
            assert calls_of(node, kept_predict(endpoint)) == (1, 0)
            tag, optimized = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
            assert (tag, optimized[Atom("warnings")]) == ("ok", [])
            program = optimized[Atom("program")]
            filler = fill(disk)

            assert calls_of(node, kept_predict(endpoint)) == (0, 1), "what was kept is still found"
            for ticket in range(1, 40):
                assert calls_of(node, kept_predict(endpoint, ticket % 30))[0] <= 1
            again = optimization(6, optimizer=Atom("labeled_few_shot"))
            tag, unkept = node.ask("optimize_signature", again)
            assert tag == "ok", unkept
            (warning,) = unkept[Atom("warnings")]
            assert unkept[Atom("program_id")] in warning
            assert b"No space left" in warning
            other = {**program, Atom("usage"): {b"note": b"x" * 20_000}}
            tag, error = node.ask("put_program", {Atom("program"): other})
            assert (tag, error[Atom("error_type")]) == ("error", Atom("storage_error"))
            assert error[CONTEXT][Atom("reason")] == Atom("disk_full")
            assert "keeps its own in memory" in logged(node)

            filler.unlink()
            assert node.ask("put_program", {Atom("program"): other})[0] == "ok"
            tag, kept = node.ask("optimize_signature", again)
            assert (tag, kept[Atom("warnings")]) == ("ok", [])
            settles_on_disk(node, endpoint, disk)
            assert "is used again" in logged(node)
            assert node.health()[Atom("restarts")] == 0
        finally:
            node.close()


def settles_on_disk(node: NodeClient, endpoint: FaultyEndpoint, disk: Path) -> None:
    """Asks what was never asked before until an answer arrives in the file."""
    before, begun = answers_in(disk), time.monotonic()
    for ticket in range(30):
        node.ask("predict", fresh(endpoint, ticket))
        if answers_in(disk) > before:
            break
        time.sleep(0.2)
    assert answers_in(disk) > before, logged(node)
    record(ROW, "full disk", "answers are kept again after", time.monotonic() - begun, 5.0)


def fresh(endpoint: FaultyEndpoint, number: int) -> dict[Any, Any]:
    payload = kept_predict(endpoint)
    return {**payload, Atom("input"): {Atom("subject"): b"Number %d" % number, Atom("body"): b"Never asked before"}}


def answers_in(disk: Path) -> int:
    with closing(sqlite3.connect(disk / "workers" / ANSWERS)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    return int(count)


def test_a_disk_that_may_not_be_written_stops_nothing(tmp_path: Path, endpoint: FaultyEndpoint) -> None:
    with small_disk(tmp_path / "disk", "ro") as disk:
        node = NodeClient("--workers", "1", "--spare-workers", "0", data=disk / "data")
        try:
            node.ready()
            node.send((Atom("credit"), 10_000))
            assert calls_of(node, kept_predict(endpoint)) == (1, 0)
            assert calls_of(node, kept_predict(endpoint)) == (0, 1), "kept in the worker's memory"
            tag, optimized = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
            assert (tag, len(optimized[Atom("warnings")])) == ("ok", 1)
            tag, error = node.ask("put_program", {Atom("program"): optimized[Atom("program")]})
            assert (tag, error[CONTEXT][Atom("reason")]) == ("error", Atom("disk_refused"))
            assert node.ask("list_programs", {})[1][Atom("programs")] == []
            assert f"{ANSWERS} cannot be used" in logged(node)

            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            assert node.ask("put_program", {Atom("program"): optimized[Atom("program")]})[0] == "ok"
        finally:
            node.close()


# -- damaged files -----------------------------------------------------------------------------------------------------


def scramble(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * (path.stat().st_size // 256))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 100])


def make_directory(path: Path) -> None:
    path.unlink()
    (path / "something in it").mkdir(parents=True)


def change_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE answers (something, else_entirely)")
        connection.execute("CREATE TABLE rates (something, else_entirely)")
        connection.commit()


@pytest.mark.parametrize("file", [ANSWERS, RATES])
@pytest.mark.parametrize("damage", [scramble, cut, make_directory, change_tables])
def test_a_damaged_database_is_set_aside_and_named(
    node: NodeClient, endpoint: FaultyEndpoint, file: str, damage: Callable[[Path], None]
) -> None:
    node.send((Atom("credit"), 1000))
    path = data_of(node) / "workers" / file
    for number in range(6):
        calls_of(node, fresh(endpoint, number))
    renew_worker(node)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    node.events.clear()
    begun = time.monotonic()
    for number in range(6):
        calls_of(node, fresh(endpoint, number))
        calls_of(node, fresh(endpoint, time.monotonic_ns()))
    record(ROW, f"{damage.__name__} {file}", "twelve jobs served in", time.monotonic() - begun, 3.0)
    assert path.with_suffix(".damaged").exists()
    assert f"{file} is damaged and is set aside as {path.with_suffix('.damaged').name}" in logged(node)
    assert calls_of(node, fresh(endpoint, 0)) == (0, 1)
    assert path.is_file()
    remove(path.with_suffix(".damaged"))


def remove(path: Path) -> None:
    if path.is_dir():
        (path / "something in it").rmdir()
        path.rmdir()
    else:
        path.unlink()


def test_a_database_that_somebody_keeps_locked_holds_up_no_job(node: NodeClient, endpoint: FaultyEndpoint) -> None:
    calls_of(node, fresh(endpoint, 1000))
    with (
        closing(sqlite3.connect(data_of(node) / "workers" / ANSWERS)) as one,
        closing(sqlite3.connect(data_of(node) / "workers" / RATES)) as two,
    ):
        for connection in (one, two):
            connection.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        for number in range(1001, 1011):
            assert calls_of(node, fresh(endpoint, number)) == (1, 0)
        record(ROW, "locked for long", "ten jobs served in", time.monotonic() - begun, 6.0)
    settles(node, fresh(endpoint, 1000), "locked for long")


@pytest.mark.parametrize("damage", [scramble, cut, make_directory])
def test_a_damaged_program_is_set_aside_and_can_be_put_again(node: NodeClient, damage: Callable[[Path], None]) -> None:
    tag, made = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    program_id = made[Atom("program_id")]
    path = data_of(node) / "programs" / f"{program_id.decode().removeprefix('program:')}.etf"
    damage(path)
    payload = {key: value for key, value in prediction().items() if key != Atom("signature")}
    tag, error = node.ask("predict", {**payload, Atom("program"): program_id})
    assert (tag, error[Atom("error_type")]) == ("error", Atom("not_found"))
    assert path.with_suffix(".damaged").name.encode() in error[Atom("message")]
    assert path.with_suffix(".damaged").exists()
    assert node.ask("put_program", {Atom("program"): made[Atom("program")]})[1][Atom("program_id")] == program_id
    assert node.ask("predict", {**payload, Atom("program"): program_id})[0] == "ok"
    remove(path.with_suffix(".damaged"))


def test_a_database_that_is_damaged_while_it_is_open_costs_no_job(
    start_node: Callable[..., NodeClient], endpoint: FaultyEndpoint
) -> None:
    node = start_node("--workers", "1", "--spare-workers", "0")
    node.ready()
    for number in range(2000, 2004):
        calls_of(node, fresh(endpoint, number))
    for path in (data_of(node) / "workers").glob("*.sqlite3*"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(os.urandom(size))
    for number in range(2000, 2008):
        calls_of(node, fresh(endpoint, number))
    settles(node, fresh(endpoint, 2003), "random bytes under an open database")
