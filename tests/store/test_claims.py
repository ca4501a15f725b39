"""Claims: one node of a store does the work, the others know of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from claim_holder import holder

from erlbridge.store.claims import Claims
from erlbridge.store.engine import SqliteEngine

_LEASE_S = 60.0


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    engine = SqliteEngine(tmp_path, say=print)
    yield Claims(engine)
    engine.close()


def test_a_claim_is_one_owners_until_it_gives_it_back(claims: Claims) -> None:
    assert claims.take("work", "a", _LEASE_S)
    assert not claims.take("work", "b", _LEASE_S)
    assert holder(claims, "work") == "a"
    assert not claims.release("work", "b")
    assert claims.release("work", "a")
    assert claims.take("work", "b", _LEASE_S)


def test_an_owner_takes_its_own_claim_again(claims: Claims) -> None:
    assert claims.take("work", "a", _LEASE_S)
    assert claims.take("work", "a", _LEASE_S)


def test_a_lease_that_is_over_is_anybodys(claims: Claims) -> None:
    assert claims.take("work", "a", 0)
    assert holder(claims, "work") is None
    assert claims.take("work", "b", _LEASE_S)
    assert claims.keep(["work"], "a", _LEASE_S) == set()
    assert holder(claims, "work") == "b"


def test_a_late_owner_keeps_what_nobody_took(claims: Claims) -> None:
    assert claims.take("work", "a", 0)
    assert claims.keep(["work", "another"], "a", _LEASE_S) == {"work"}
    assert holder(claims, "work") == "a"


def test_a_node_that_ends_gives_back_all_that_it_has(claims: Claims) -> None:
    for name in ("one", "two"):
        claims.take(name, "a", _LEASE_S)
    claims.take("three", "b", _LEASE_S)
    assert claims.release_all("a") == 2
    assert [holder(claims, name) for name in ("one", "two", "three")] == [None, None, "b"]


def test_two_nodes_of_one_file_see_each_others_claims(tmp_path: Path, claims: Claims) -> None:
    other = SqliteEngine(tmp_path, say=print)
    assert claims.take("work", "a", _LEASE_S)
    assert not Claims(other).take("work", "b", _LEASE_S)
    other.close()


def test_what_a_dead_node_left_is_forgotten_by_a_sweep_and_by_no_other_claim(tmp_path: Path, claims: Claims) -> None:
    """Claims that each looked at all others met: of sixteen nodes at once, in four of ten transactions."""
    claims.take("left", "dead", 0)
    claims.take("work", "a", _LEASE_S)
    engine = SqliteEngine(tmp_path, say=print)
    assert engine.read(lambda statements: statements.rows("SELECT name FROM claims")) == [("left",), ("work",)]
    assert claims.sweep() == 1
    assert engine.read(lambda statements: statements.rows("SELECT name FROM claims")) == [("work",)]
    engine.close()


def test_a_clock_that_is_set_back_has_nobody_wait_for_a_dead_node_until_it_has_caught_up(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + 3600 * 10**9)
    assert claims.take("work", "killed", _LEASE_S)
    monkeypatch.setattr(time, "time_ns", true_ns)
    assert claims.take("work", "b", _LEASE_S)
    assert holder(claims, "work") == "b"
