"""Shutdowns under full load, twice at once, by a signal, with time and without: each request is answered once."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from measures import record
from node_client import NodeClient, NodeGone
from tickets import optimization, prediction, slow

from erlbridge.codec import Atom

ROW = "shutdown"
GRACE_MS = 1500


@pytest.fixture
def loaded(start_node: Callable[..., NodeClient]) -> tuple[NodeClient, set[int]]:
    """A node with more than it can do within the grace, of every kind of request that is waited for."""
    node = start_node("--workers", "2", "--credit", "100000")
    node.ready()
    node.wait_until_healthy()
    sent = {node.request("optimize_signature", optimization(8, optimizer=Atom("labeled_few_shot"))) for _ in range(2)}
    sent |= {node.request("predict", prediction(slow(30))) for _ in range(20)}
    sent |= {node.request("predict", prediction(slow(400))) for _ in range(12)}
    return node, sent


def outcomes(node: NodeClient) -> tuple[Counter[int], Counter[str], dict[int, Any], int | None]:
    """Until the node is gone: how often each id was answered, with what, the answers, and the node's exit code."""
    times: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    answers: dict[int, Any] = {}
    try:
        while True:
            tag, number, outcome, *_ = (*node.receive(), None)
            if str(tag) in ("ok", "error"):
                times[number] += 1
                answers[number] = outcome
                kinds["ok" if str(tag) == "ok" else str(outcome[Atom("error_type")])] += 1
    except NodeGone as gone:
        return times, kinds, answers, gone.code


def test_a_shutdown_under_full_load_answers_everything_within_its_grace(loaded: tuple[NodeClient, set[int]]) -> None:
    node, sent = loaded
    begun = time.monotonic()
    stop = node.request("shutdown", {Atom("grace_ms"): GRACE_MS})
    times, kinds, answers, code = outcomes(node)
    record(ROW, "under full load", "the node is gone after", time.monotonic() - begun, GRACE_MS / 1000 + 1.0)
    assert times == Counter(dict.fromkeys(sent | {stop}, 1))
    assert code == 0
    assert set(kinds) == {"ok", "shutting_down"}
    assert kinds["ok"] > 5, "what could be done within the grace was done"
    assert answers[stop][Atom("unfinished")] == kinds["shutting_down"] > 0


def test_two_shutdowns_at_once_are_both_answered_and_the_sooner_one_holds(loaded: tuple[NodeClient, set[int]]) -> None:
    node, sent = loaded
    begun = time.monotonic()
    stops = {node.request("shutdown", {Atom("grace_ms"): grace_ms}) for grace_ms in (60_000, GRACE_MS)}
    times, kinds, answers, code = outcomes(node)
    record(ROW, "two at once", "the node is gone after", time.monotonic() - begun, GRACE_MS / 1000 + 1.0)
    assert times == Counter(dict.fromkeys(sent | stops, 1))
    assert code == 0
    assert {answers[stop][Atom("unfinished")] for stop in stops} == {kinds["shutting_down"]}


def test_a_shutdown_and_a_signal_at_once_lose_no_answer(loaded: tuple[NodeClient, set[int]]) -> None:
    node, sent = loaded
    stop = node.request("shutdown", {Atom("grace_ms"): GRACE_MS})
    for _ in range(3):
        os.kill(node.process.pid, signal.SIGTERM)
    times, kinds, _, code = outcomes(node)
    assert times == Counter(dict.fromkeys(sent | {stop}, 1))
    assert (code, set(kinds)) == (0, {"ok", "shutting_down"})


def test_a_grace_that_is_long_enough_lets_everything_finish(loaded: tuple[NodeClient, set[int]]) -> None:
    node, sent = loaded
    stop = node.request("shutdown", {Atom("grace_ms"): 60_000})
    late = node.request("predict", prediction())
    times, kinds, answers, code = outcomes(node)
    assert times == Counter(dict.fromkeys(sent | {stop, late}, 1))
    assert kinds == Counter({"ok": len(sent) + 1, "shutting_down": 1})
    assert answers[late][Atom("error_type")] == Atom("shutting_down")
    assert (answers[stop][Atom("unfinished")], code) == (0, 0)
