"""The programs that a node keeps, by way of the wire: listed, given, put, deleted, and a disk that refuses."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient
from tickets import optimization, prediction

from erlbridge.codec import Atom

ID, PROGRAM, PROGRAMS = Atom("program_id"), Atom("program"), Atom("programs")


def optimized(node: NodeClient, count: int = 4, **config: object) -> dict[Any, Any]:
    tag, result = node.ask("optimize_signature", optimization(count, optimizer=Atom("labeled_few_shot"), **config))
    assert tag == "ok", result
    return result


def put(node: NodeClient, program: object) -> tuple[str, Any]:
    return node.ask("put_program", {PROGRAM: program})


def listed(node: NodeClient, **payload: object) -> dict[Any, Any]:
    tag, result = node.ask("list_programs", {Atom(key): value for key, value in payload.items()})
    assert tag == "ok", result
    return result


def renamed(program: dict[Any, Any], name: bytes) -> dict[Any, Any]:
    """The same program under another name, so that it is another one."""
    return {**program, Atom("signature"): {**program[Atom("signature")], Atom("name"): name}}


def error_of(answer: tuple[str, Any]) -> tuple[str, Any]:
    tag, error = answer
    assert tag == "error", error
    return str(error[Atom("error_type")]), error


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's node keeps its programs."""
    return tmp_path_factory.mktemp("data") / "programs"


@pytest.fixture(scope="module")
def node(directory: Path) -> Iterator[NodeClient]:
    client = NodeClient("--workers", "1", data=directory.parent)
    client.ready()
    yield client
    client.close()


@pytest.fixture(scope="module")
def program(node: NodeClient) -> dict[Any, Any]:
    """An optimization's result on the module's node."""
    return optimized(node)


def test_a_program_is_listed_given_deleted_and_put_back(node: NodeClient, program: dict[Any, Any]) -> None:
    program_id = program[ID]
    (entry,) = [entry for entry in listed(node)[PROGRAMS] if entry[ID] == program_id]
    assert (entry[Atom("name")], entry[Atom("module")]) == (b"TicketTriage", b"predict")
    assert entry[Atom("optimizer")] == b"labeled_few_shot"
    assert entry[Atom("scores")][Atom("score_after")] == program[Atom("optimization_metrics")][Atom("score_after")]
    assert entry[Atom("bytes")] > 500
    assert entry[Atom("stored_at_ms")] > 1_700_000_000_000

    tag, given = node.ask("get_program", {ID: program_id})
    assert (tag, given[PROGRAM]) == ("ok", program[PROGRAM])

    assert node.ask("delete_program", {ID: program_id}) == ("ok", {Atom("status"): Atom("success"), ID: program_id})
    for verb in ("get_program", "delete_program"):
        assert error_of(node.ask(verb, {ID: program_id}))[0] == "not_found"
    assert program_id not in [entry[ID] for entry in listed(node)[PROGRAMS]]

    tag, result = put(node, given[PROGRAM])
    assert (tag, result[ID]) == ("ok", program_id)
    payload = {**prediction(), PROGRAM: program_id}
    del payload[Atom("signature")]
    assert node.ask("predict", payload)[0] == "ok"


def test_a_long_list_comes_in_pages_newest_first(node: NodeClient, program: dict[Any, Any]) -> None:
    ids = [put(node, renamed(program[PROGRAM], b"Program%d" % number))[1][ID] for number in range(7)]
    seen: list[bytes] = []
    page = listed(node, limit=3)
    while True:
        seen += [entry[ID] for entry in page[PROGRAMS]]
        if page[Atom("next")] is None:
            break
        assert len(page[PROGRAMS]) == 3
        # What goes and comes meanwhile moves nothing.
        node.ask("delete_program", {ID: seen[-1]})
        put(node, renamed(program[PROGRAM], b"Newer%d" % len(seen)))
        page = listed(node, limit=3, after=page[Atom("next")])
    assert seen[:7] == ids[::-1]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("payload", [{"limit": 0}, {"limit": 1001}, {"after": b"program:ab"}, {"after": b"1/../x"}])
def test_a_wrong_page_is_refused_with_its_path(node: NodeClient, payload: dict[str, object]) -> None:
    (key,) = payload
    kind, error = error_of(node.ask("list_programs", {Atom(key): value for key, value in payload.items()}))
    assert (kind, error[Atom("context")][Atom("path")]) == ("validation_error", f"payload.{key}".encode())


@pytest.mark.parametrize("verb", ["get_program", "delete_program"])
@pytest.mark.parametrize("name", [b"../../etc/passwd", b"program:" + b"A" * 64, b"program:" + b"a" * 63, None, 3])
def test_nothing_but_an_id_names_a_program(node: NodeClient, verb: str, name: object) -> None:
    assert error_of(node.ask(verb, {ID: name}))[0] == "validation_error"


def test_a_program_with_anything_unknown_in_it_is_not_kept(node: NodeClient, program: dict[Any, Any]) -> None:
    good, before = program[PROGRAM], listed(node)
    state = good[Atom("state")]
    (name,) = state
    evil = {**state[name], b"lm": {b"api_base": b"http://evil"}}
    for wrong in ({}, {**good, b"extra": 1}, {**good, Atom("state"): {name: evil}}, {**good, Atom("format"): 99}, b"x"):
        kind, error = error_of(put(node, wrong))
        assert kind == "validation_error"
        assert error[Atom("context")][Atom("path")].startswith((b"payload", b"program"))
    assert listed(node) == before


def test_an_atom_of_the_one_who_put_a_program_reaches_nobody_else(node: NodeClient, program: dict[Any, Any]) -> None:
    changed = {**program[PROGRAM], Atom("usage"): {Atom("a_host_s_own_atom"): Atom("another_one")}}
    tag, result = put(node, changed)
    assert tag == "ok"
    given = node.ask("get_program", {ID: result[ID]})[1][PROGRAM]
    assert given[Atom("usage")] == {b"a_host_s_own_atom": b"another_one"}


def test_a_full_disk_is_an_error_and_loses_nothing(node: NodeClient, program: dict[Any, Any], directory: Path) -> None:
    """The kernel refuses the node a file above a limit; a disk that is full does so with another number."""
    before, files = listed(node), sorted(directory.iterdir())
    large = {**program[PROGRAM], Atom("usage"): {b"note": b"x" * 20_000}}
    unlimited = resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE, (8192, unlimited[1]))
    try:
        kind, error = error_of(put(node, large))
    finally:
        resource.prlimit(node.node_pid, resource.RLIMIT_FSIZE, unlimited)
    assert (kind, error[Atom("context")][Atom("reason")]) == ("storage_error", Atom("disk_full"))
    assert error[Atom("retryable")] is True
    assert (listed(node), sorted(directory.iterdir())) == (before, files)
    assert put(node, large)[0] == "ok"


def test_a_directory_that_cannot_be_written_is_an_error(
    node: NodeClient, program: dict[Any, Any], directory: Path
) -> None:
    aside = directory.rename(directory.with_name("aside"))
    directory.write_text("a file where the directory should be")
    try:
        kind, error = error_of(put(node, renamed(program[PROGRAM], b"Unkept")))
    finally:
        directory.unlink()
        aside.rename(directory)
    assert (kind, error[Atom("context")][Atom("reason")]) == ("storage_error", Atom("disk_refused"))


def test_two_nodes_on_one_directory_see_the_same_programs(
    node: NodeClient, program: dict[Any, Any], directory: Path
) -> None:
    nodes = [node, NodeClient("--workers", "1", data=directory.parent)]
    programs = [renamed(program[PROGRAM], b"Shared%d" % number) for number in range(10)]

    def put_all(node: NodeClient) -> list[bytes]:
        return [put(node, each)[1][ID] for each in programs]

    try:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(put_all, nodes)
        assert first == second
        assert listed(nodes[0]) == listed(nodes[1])
        assert nodes[0].ask("delete_program", {ID: first[0]})[0] == "ok"
        assert error_of(nodes[1].ask("get_program", {ID: first[0]}))[0] == "not_found"
    finally:
        nodes[1].close()


def test_a_damaged_program_is_named_and_leaves_the_list_when_it_is_read(
    node: NodeClient, program: dict[Any, Any], directory: Path
) -> None:
    damaged = put(node, renamed(program[PROGRAM], b"Damaged"))[1][ID]
    stored = directory / f"{damaged.decode().removeprefix('program:')}.etf"
    stored.write_bytes(stored.read_bytes()[:40])
    assert error_of(node.ask("get_program", {ID: damaged}))[0] == "not_found"
    assert damaged not in [entry[ID] for entry in listed(node)[PROGRAMS]]
    assert not stored.exists()
    assert stored.with_suffix(".damaged").exists()
    assert [event for event in node.events if event[0] == Atom("log") and damaged in event[2]]
