"""Chunks over the wire: in order, under credit, complete before the answer; and a worker that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_client import NodeClient

from erlbridge.codec import Atom

WORDS = b"a port is a pipe to a program of the operating system"
STREAMED = {
    Atom("signature"): {Atom("input_fields"): [b"question"], Atom("output_fields"): [Atom("answer")]},
    Atom("input"): {b"question": WORDS},
    Atom("stream"): True,
    Atom("config"): {Atom("lm"): Atom("offline"), Atom("module"): Atom("chain_of_thought")},
}
FEW = 3
"""Credit for less than the answer has pieces."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    client = NodeClient(
        "--workers", "1", "--spare-workers", "0", "--credit", str(FEW), data=tmp_path_factory.mktemp("data")
    )
    yield client
    client.close()


def chunks(node: NodeClient, number: int) -> list[dict[Any, Any]]:
    return [event[2] for event in node.events if str(event[0]) == "chunk" and event[1] == number]


def texts(found: list[dict[Any, Any]]) -> dict[object, bytes]:
    joined: dict[object, bytes] = {}
    for chunk in found:
        joined[chunk[Atom("field")]] = joined.get(chunk[Atom("field")], b"") + chunk[Atom("text")]
    return joined


def streamed(node: NodeClient) -> list[dict[Any, Any]]:
    """The chunks of one prediction, which together are its answer."""
    number = node.request("predict", STREAMED, {Atom("progress"): False})
    tag, result = node.answer(number)
    assert tag == "ok", result
    found = chunks(node, number)
    assert texts(found) == result[Atom("prediction")]
    assert list(texts(found)) == [b"reasoning", Atom("answer")]
    assert sum(chunk[Atom("is_last")] for chunk in found) == 2
    return found


def test_the_chunks_before_the_answer_are_the_answer_with_credit_or_without(node: NodeClient) -> None:
    found = streamed(node)
    assert len(found) <= FEW + 2, "what goes beyond the credit is one chunk for each field"
    # The next credit pays for what went beyond the last.
    node.send((Atom("credit"), len(found) - FEW))
    assert len(streamed(node)) == 2
    node.send((Atom("credit"), 1000))
    assert len(streamed(node)) > 10


def test_a_host_that_does_not_ask_gets_no_chunks(node: NodeClient) -> None:
    number = node.request("predict", {**STREAMED, Atom("stream"): False})
    assert node.answer(number)[0] == "ok"
    assert chunks(node, number) == []


def test_a_worker_stays_as_large_as_it_is_over_thousands_of_predictions(node: NodeClient) -> None:
    config = {Atom("lm"): Atom("offline")}

    def run(requests: int) -> int:
        """Asks for batches of 200 and a streamed prediction each; the worker's size in bytes afterwards."""
        for _ in range(requests):
            inputs = [{b"question": b"%d %s" % (number, WORDS)} for number in range(200)]
            batch = {Atom("signature"): b"question -> answer", Atom("inputs"): inputs, Atom("config"): config}
            tag, result = node.ask("predict", batch)
            assert (tag, len(result[Atom("predictions")])) == ("ok", 200)
            assert node.ask("predict", STREAMED)[0] == "ok"
        (worker,) = node.health()[Atom("workers")]
        status = Path(f"/proc/{worker[Atom('os_pid')]}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    warm = run(2)
    assert run(10) < warm * 1.05
