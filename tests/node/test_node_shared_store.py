"""Two nodes with data directories of their own, as on two machines, over one PostgreSQL and one place for blobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from node_client import NodeClient
from postgres_server import PostgresServer
from streams import chunks, framed, name_of
from tickets import TICKETS, optimization, prediction

from erlbridge.codec import Atom

ID, PROGRAMS, DATASET = Atom("program_id"), Atom("programs"), Atom("dataset")
ERROR, MESSAGE = Atom("error_type"), Atom("message")
METRICS, CACHED = Atom("metrics"), Atom("cached")

Start = Callable[[str], NodeClient]


@pytest.fixture(scope="module")
def start(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a node with the data directory of this name, and the store that all have."""
    place = tmp_path_factory.mktemp("shared")
    shared = {"ERLBRIDGE_STORE_INDEX": postgres.new_database(), "ERLBRIDGE_STORE_BLOBS": f"file://{place}/blobs"}
    clients: list[NodeClient] = []

    def begin(name: str) -> NodeClient:
        client = NodeClient("--workers", "1", "--spare-workers", "0", data=place / name, environment=shared)
        clients.append(client)
        client.ready()
        client.send((Atom("credit"), 1_000_000))
        return client

    yield begin
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def here(start: Start) -> NodeClient:
    return start("here")


@pytest.fixture(scope="module")
def there(start: Start) -> NodeClient:
    return start("there")


def ok(answer: tuple[str, Any]) -> Any:
    tag, result = answer
    assert tag == "ok", result
    return result


def run(program: bytes) -> dict[Any, Any]:
    """A payload of predict with a stored program."""
    payload = prediction()
    del payload[Atom("signature")]
    return {**payload, Atom("program"): program}


def ids(node: NodeClient) -> list[bytes]:
    return [program[ID] for program in ok(node.ask("list_programs", {}))[PROGRAMS]]


def test_a_program_that_one_node_optimized_another_one_lists_and_runs(here: NodeClient, there: NodeClient) -> None:
    made = ok(here.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot"))))
    assert ids(there) == [made[ID]]
    ok(there.ask("predict", run(made[ID])))
    ok(there.ask("delete_program", {ID: made[ID]}))
    assert ids(here) == []
    tag, error = here.ask("get_program", {ID: made[ID]})
    assert (tag, str(error[ERROR])) == ("error", "not_found")


def test_a_dataset_that_one_node_was_sent_another_one_learns_from(here: NodeClient, there: NodeClient) -> None:
    stream = framed(TICKETS[:24])
    for payload in chunks(name_of(stream), stream):
        ok(here.ask("data_chunk", payload))
    request = optimization(24, optimizer=Atom("labeled_few_shot"), seed=1)
    expected = ok(here.ask("optimize_signature", request))
    request[Atom("training_data")] = (DATASET, name_of(stream).encode())
    assert ok(there.ask("optimize_signature", request))[ID] == expected[ID]


def test_what_one_node_was_paid_for_another_one_knows_while_it_is_asked_and_after(
    here: NodeClient, there: NodeClient
) -> None:
    """Both are asked at once: one of them has the claim, and the other one waits for its result."""
    asked = prediction(
        {Atom("lm"): {Atom("model"): Atom("offline"), Atom("latency_ms"): 500}, Atom("result_cache"): True}
    )
    requests = [(node, node.request("predict", asked)) for node in (here, there)]
    results = [ok(node.answer(number)) for node, number in requests]
    assert sorted(result[METRICS].get(CACHED, False) for result in results) == [False, True]
    assert results[0][Atom("prediction")] == results[1][Atom("prediction")]
    assert ok(there.ask("predict", asked))[METRICS][CACHED]


def test_while_the_server_is_away_jobs_and_lists_go_on(
    here: NodeClient, there: NodeClient, postgres: PostgresServer
) -> None:
    postgres.stop()
    try:
        made = ok(here.ask("optimize_signature", optimization(6, optimizer=Atom("labeled_few_shot"))))
        ok(there.ask("predict", run(made[ID])))
        assert made[ID] in ids(here), "read from the blobs"
        tag, error = here.ask("stats", {})
        assert (tag, str(error[ERROR])) == ("error", "storage_error")
        assert b"postgresql://" in error[MESSAGE]
    finally:
        postgres.start()
    deadline = time.monotonic() + 20
    while here.ask("stats", {})[0] != "ok":  # a server that was away is not asked again at once
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert made[ID] in ids(here)  # what the index was not told is made up for
    assert made[ID] in ids(there)
