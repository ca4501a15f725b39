"""A disk that does not answer: the node's loop does. Requests that need nothing of it are served, and those that wait
for it keep every promise: one answer, their deadlines, cancels, ids, and one job for all who ask for the same.

The disk is the store's index, which the test has locked: a request that empties the cache waits for the lock, and all
that needs the disk waits behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from tickets import optimization, prediction, slow

from erlbridge.codec import Atom
from erlbridge.store.engine import INDEX_FILE

KEY, DEADLINE, ID, METRICS = Atom("idempotency_key"), Atom("deadline_ms"), Atom("id"), Atom("metrics")
CACHED, CALLS = Atom("cached"), Atom("lm_calls")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def node(data: Path) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "2", "--spare-workers", "0", data=data)
    client.ready()
    assert client.ask("predict", prediction(), keyed("first"))[0] == "ok"
    yield client
    client.close()


@pytest.fixture
def lock(data: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's lock on the index, until it is rolled back; the node waits 5 s for it."""
    with closing(sqlite3.connect(data / INDEX_FILE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def keyed(key: str, **meta: object) -> dict[Any, Any]:
    return {KEY: key.encode(), **{Atom(name): value for name, value in meta.items()}}


def answers(node: NodeClient, *numbers: object) -> list[tuple[str, Any]]:
    """The answers to these requests, in whatever order they come."""
    found: dict[object, tuple[str, Any]] = {}
    while len(found) < len(numbers):
        term = node.until(lambda term: str(term[0]) in ("ok", "error") and term[1] in numbers)
        assert term[1] not in found, "answered twice"
        found[term[1]] = str(term[0]), term[2]
    return [found[number] for number in numbers]


def tags(node: NodeClient, *numbers: object) -> list[str]:
    return [tag for tag, _ in answers(node, *numbers)]


def error_type(answer: tuple[str, Any]) -> str:
    tag, error = answer
    assert tag == "error", error
    return str(error[Atom("error_type")])


def blocked(node: NodeClient) -> int:
    """Has the disk's thread wait for the lock; gives the id of the request that does it."""
    return node.request("clear_cache", {})


def test_a_request_that_needs_nothing_of_the_disk_is_answered_while_it_hangs(
    node: NodeClient, lock: sqlite3.Connection
) -> None:
    blocker = blocked(node)
    kept = node.request("predict", prediction(), keyed("kept while it hangs"))
    assert node.ask("predict", prediction())[0] == "ok"
    lock.execute("ROLLBACK")
    assert tags(node, blocker, kept) == ["ok", "ok"]
    assert node.ask("fetch_result", {KEY: b"kept while it hangs"})[0] == "ok"


def test_who_waits_for_the_disk_can_be_cancelled_and_runs_out_of_time(
    node: NodeClient, lock: sqlite3.Connection
) -> None:
    blocker = blocked(node)
    waiting = node.request("predict", prediction(), keyed("cancelled"))
    late = node.request("predict", prediction(), keyed("late", deadline_ms=50))
    cancel = node.request("cancel", {ID: waiting})
    found = answers(node, cancel, waiting, late)
    assert found[0][0] == "ok"
    assert [error_type(answer) for answer in found[1:]] == ["cancelled", "timeout_error"]
    listed = node.request("list_programs", {})
    lock.execute("ROLLBACK")
    assert tags(node, blocker, listed) == ["ok", "ok"]
    assert error_type(node.ask("fetch_result", {KEY: b"cancelled"})) == "not_found", "nobody wanted it any more"


@pytest.mark.parametrize(
    ("verb", "payload"),
    [
        ("list_programs", {}),
        ("stats", {}),
        ("fetch_result", {KEY: b"first"}),
        ("transfer_status", {Atom("transfer"): b"a transfer"}),
        ("list_datasets", {}),
    ],
)
def test_what_the_node_itself_looks_up_is_cancelled_and_runs_out_of_time_too(
    node: NodeClient, lock: sqlite3.Connection, verb: str, payload: dict[Any, Any]
) -> None:
    blocker = blocked(node)
    waiting, late = node.request(verb, payload), node.request(verb, payload, {DEADLINE: 50})
    cancel = node.request("cancel", {ID: waiting})
    found = answers(node, cancel, waiting, late)
    assert found[0][0] == "ok"
    assert [error_type(answer) for answer in found[1:]] == ["cancelled", "timeout_error"]
    assert lock.in_transaction
    lock.execute("ROLLBACK")
    assert tags(node, blocker) == ["ok"]


def test_a_deletion_that_was_cancelled_before_the_disk_came_to_it_is_not_done(
    node: NodeClient, lock: sqlite3.Connection
) -> None:
    lock.execute("ROLLBACK")
    tag, made = node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
    assert tag == "ok"
    program = {Atom("program_id"): made[Atom("program_id")]}
    lock.execute("BEGIN IMMEDIATE")
    blocker = blocked(node)
    deletion = node.request("delete_program", program)
    cancel = node.request("cancel", {ID: deletion})
    assert [tag for tag, _ in answers(node, cancel, deletion)] == ["ok", "error"]
    lock.execute("ROLLBACK")
    assert tags(node, blocker) == ["ok"]
    assert node.ask("get_program", program)[0] == "ok"


def test_an_id_that_waits_for_the_disk_is_in_flight(node: NodeClient, lock: sqlite3.Connection) -> None:
    blocker = blocked(node)
    node.send((Atom("predict"), b"an id", prediction(), keyed("the id")))
    node.send((Atom("predict"), b"an id", prediction()))
    assert error_type(node.answer(b"an id")) == "duplicate_id"
    lock.execute("ROLLBACK")
    assert tags(node, b"an id", blocker) == ["ok", "ok"]


def test_who_asks_for_the_same_joins_what_waits_for_the_disk_and_inherits_it(
    node: NodeClient, lock: sqlite3.Connection
) -> None:
    blocker = blocked(node)
    first, second, third = (node.request("predict", prediction(), keyed("shared")) for _ in range(3))
    assert error_type(answers(node, node.request("cancel", {ID: first}), first)[1]) == "cancelled"
    lock.execute("ROLLBACK")
    found = answers(node, blocker, second, third)
    assert {tag for tag, _ in found} == {"ok"}
    assert [result[METRICS].get(CACHED) for _, result in found[1:]] == [None, True]


def test_a_program_that_was_made_is_there_for_whoever_is_told_of_it(node: NodeClient, lock: sqlite3.Connection) -> None:
    """What a job has made waits for the disk too, and its answer behind it."""
    blocker = blocked(node)
    made = node.request("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
    assert node.ask("predict", prediction(slow(1)))[0] == "ok"
    lock.execute("ROLLBACK")
    (tag, result), (blocker_tag, _) = answers(node, made, blocker)
    assert (tag, blocker_tag) == ("ok", "ok")
    named = {**prediction(), Atom("program"): result[Atom("program_id")]}
    del named[Atom("signature")]
    assert node.ask("predict", named)[0] == "ok"


def test_a_shutdown_stores_what_was_done_and_answers_what_waits(start_node: Any, tmp_path: Path) -> None:
    node = start_node("--workers", "2")
    node.ready()
    assert node.ask("predict", prediction(), keyed("before"))[0] == "ok"
    with closing(sqlite3.connect(tmp_path / "data" / INDEX_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        blocked(node)
        waits = node.request("predict", prediction(), keyed("waits"))
        end = node.request("shutdown", {})
        refused = node.request("predict", prediction(), keyed("too late"))
        assert error_type(node.answer(refused)) == "shutting_down"
        other.execute("ROLLBACK")
    assert tags(node, waits, end) == ["ok", "ok"], "what was taken may finish"
    assert node.wait() == 0
    again = start_node("--workers", "1")
    again.ready()
    assert again.ask("fetch_result", {KEY: b"waits"})[0] == "ok"
