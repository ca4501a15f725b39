"""Who is served when, over the wire: priorities, callers that take turns, a verb's limit, spares and recycling."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from node_client import NodeClient
from tickets import optimization, prediction, slow

from erlbridge.codec import Atom


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """Two workers and a spare, of which one predicts at a time and each is replaced after six jobs."""
    settings = ("--workers", "2", "--spare-workers", "1", "--verb-limits", "predict=1", "--recycle-after-jobs", "6")
    client = NodeClient(*settings, "--credit", "0", data=tmp_path_factory.mktemp("data"))
    client.ready()
    client.wait_until_healthy()
    yield client
    client.close()


def answered(node: NodeClient, count: int) -> list[int]:
    """The next requests that are answered with a result, in that order."""
    return [node.until(lambda term: str(term[0]) == "ok")[1] for _ in range(count)]


def pool(node: NodeClient) -> dict[str, int]:
    return {str(key): value for key, value in node.health()[Atom("pool")].items()}


def meta(**entries: object) -> dict[Any, Any]:
    return {Atom(name): value for name, value in entries.items()}


def test_priorities_and_turns_decide_who_is_next_and_other_verbs_pass_by(limited: NodeClient) -> None:
    running = limited.request("predict", prediction(slow(1000)))
    flood = [limited.request("predict", prediction(), meta(source=b"flood")) for _ in range(3)]
    alone = limited.request("predict", prediction(), meta(source=b"alone"))
    urgent = limited.request("predict", prediction(), meta(source=b"flood", priority=1))
    queue = limited.health()[Atom("queue")]
    assert queue[Atom("priorities")] == {1: 1, 0: 4}
    other = limited.request("optimize_signature", optimization(8))
    assert set(answered(limited, 2)) == {running, other}
    assert answered(limited, 5) == [urgent, flood[0], alone, *flood[1:]]


def test_a_priority_out_of_range_is_refused(limited: NodeClient) -> None:
    tag, error = limited.ask("predict", prediction(), meta(priority=11))
    assert (tag, error[Atom("error_type")]) == ("error", Atom("validation_error"))
    assert error[Atom("context")][Atom("path")] == b"meta.priority"


def test_a_spare_serves_at_once_in_the_place_of_a_killed_worker(limited: NodeClient) -> None:
    limited.wait_until_healthy()
    number = limited.request("predict", prediction(slow(60_000)))
    waiting = limited.request("predict", prediction())
    (busy,) = (one for one in limited.health()[Atom("workers")] if one[Atom("job")] is not None)
    os.kill(busy[Atom("os_pid")], signal.SIGKILL)
    tag, error = limited.answer(number)
    assert (tag, error[Atom("error_type")]) == ("error", Atom("process_crashed"))
    assert limited.answer(waiting)[0] == "ok"


def test_workers_are_recycled_and_no_request_notices(limited: NodeClient) -> None:
    before = pool(limited)["recycled"]
    restarts = limited.health()[Atom("restarts")]
    for _ in range(3 * 6 + 1):  # the three take turns
        assert limited.ask("predict", prediction())[0] == "ok"
    limited.wait_until_healthy()
    assert pool(limited)["recycled"] > before
    assert limited.health()[Atom("restarts")] == restarts
