"""An index in PostgreSQL: what it means is what the file's means, and a server that is away is no riddle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from claim_holder import holder
from postgres_server import PostgresServer

from erlbridge.core.results import Stored
from erlbridge.store import kept as kept_module
from erlbridge.store import postgres as postgres_module
from erlbridge.store.blobs import Blob, LocalBlobs
from erlbridge.store.claims import Claims
from erlbridge.store.engine import IndexRefused, Statements
from erlbridge.store.index import Entry, Index, reindex
from erlbridge.store.kept import Bounds, Kept, make_up_kept
from erlbridge.store.postgres import PostgresEngine
from erlbridge.store.schema import VERSION

ONE = Entry("a", 10, 100, 100, b"about\0\xff")
TWO = Entry("B", 2**40, 200, 200)
THREE = Entry("c", 30, 200, 150)


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def engine(address: str) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(address)
    yield engine
    engine.close()


@pytest.fixture
def other(address: str) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(address)
    yield engine
    engine.close()


def test_entries_are_the_same_as_in_a_file(engine: PostgresEngine, other: PostgresEngine) -> None:
    index = Index(engine, "program")
    for entry in (ONE, TWO, THREE):
        index.put(entry)
    seen = Index(other, "program")
    assert seen.get("a") == ONE
    assert seen.newest(10) == [TWO, THREE, ONE]  # names in the order of their bytes: `B` before `c`
    assert seen.newest(10, (200, "B")) == [THREE, ONE]
    seen.put(Entry("a", 11, 500, 500))
    assert index.get("a") == Entry("a", 11, 100, 500)
    index.used("a", 900)
    assert seen.unused_since(300, 10) == [THREE, TWO]
    assert seen.totals() == (3, 2**40 + 41)
    assert type(engine.read(lambda statements: statements.rows("SELECT sum(size) FROM entries"))[0][0]) is int
    assert seen.drop("c")
    assert index.get("c") is None


def test_what_an_index_was_not_told_is_made_up_for_in_parts(engine: PostgresEngine) -> None:
    index = Index(engine, "program")
    index.add_all(Entry(f"{number:04}", 1, number, number) for number in range(1001))
    assert index.totals() == (1001, 1001)


def test_claims_of_two_nodes_exclude_each_other(engine: PostgresEngine, other: PostgresEngine) -> None:
    mine, theirs = Claims(engine), Claims(other)
    assert mine.take("work", "a", 60)
    assert not theirs.take("work", "b", 60)
    assert holder(theirs, "work") == "a"
    assert mine.keep(["work", "none"], "a", 0) == {"work"}
    assert holder(theirs, "work") is None
    assert theirs.take("work", "b", 60)
    assert not mine.release("work", "a")
    assert theirs.release_all("b") == 1


def test_the_clock_is_the_servers_in_nanoseconds(engine: PostgresEngine) -> None:
    assert abs(engine.read(lambda statements: statements.now_ns()) - time.time_ns()) < 60 * 10**9


def test_a_transaction_that_fails_changes_nothing(engine: PostgresEngine) -> None:
    index = Index(engine, "program")

    def work(statements: Statements) -> None:
        reindex(statements, "program", [ONE])
        raise KeyError("no more")

    with pytest.raises(KeyError):
        engine.write(work)
    assert index.newest(10) == []


def test_nodes_that_start_at_once_make_the_tables_once(address: str) -> None:
    made: list[int] = []
    engines = [PostgresEngine(address, renewed=lambda _: made.append(1)) for _ in range(4)]
    _at_once([lambda engine=engine: Index(engine, "program").put(ONE) for engine in engines])
    assert made == [1]
    for engine in engines:
        engine.close()


def test_what_a_first_node_finds_in_blobs_is_in_the_index(address: str) -> None:
    engine = PostgresEngine(address, renewed=lambda statements: reindex(statements, "program", [ONE]))
    assert Index(engine, "program").get("a") == ONE
    engine.close()


def test_tables_that_could_not_be_filled_are_not_made(address: str) -> None:
    def away(_: Statements) -> None:
        raise OSError("the blobs are away")

    engine = PostgresEngine(address, renewed=away)
    with pytest.raises(OSError, match="the blobs are away"):
        Index(engine, "program").get("a")
    test_what_a_first_node_finds_in_blobs_is_in_the_index(address)


def test_tables_of_a_newer_bridge_are_left_alone(engine: PostgresEngine, address: str) -> None:
    Index(engine, "program").put(ONE)
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE erlbridge_schema SET version = 99")
    late = PostgresEngine(address)
    with pytest.raises(IndexRefused, match=f"has version 99, this erlbridge reads up to {VERSION}"):
        Index(late, "program").get("a")


def test_what_came_into_each_others_way_is_done_again(address: str) -> None:
    """Each adds to what it has read; were one of these lost, the sum would tell."""
    engines = [PostgresEngine(address) for _ in range(4)]
    Index(engines[0], "program").put(Entry("sum", 0, 1, 1))

    def add(statements: Statements) -> None:
        ((size,),) = statements.rows("SELECT size FROM entries WHERE name = ?", ("sum",))
        statements.run("UPDATE entries SET size = ? WHERE name = ?", (size + 1, "sum"))

    def add_many(engine: PostgresEngine) -> None:
        for _ in range(10):
            engine.write(add)

    _at_once([lambda engine=engine: add_many(engine) for engine in engines])
    assert Index(engines[0], "program").get("sum") == Entry("sum", 40, 1, 1)
    for engine in engines:
        engine.close()


def test_connections_that_the_server_cut_are_made_again(engine: PostgresEngine, address: str) -> None:
    index = Index(engine, "program")
    index.put(ONE)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert index.get("a") == ONE


def test_a_cut_while_it_works_is_met_by_another_try(engine: PostgresEngine, address: str) -> None:
    tries: list[int] = []

    def work(statements: Statements) -> None:
        tries.append(1)
        statements.run("DELETE FROM entries")
        if len(tries) == 1:
            ((pid,),) = statements.rows("SELECT pg_backend_pid()")
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            statements.run("DELETE FROM claims")

    Index(engine, "program").put(ONE)
    engine.write(work)
    assert len(tries) == 2


def test_a_commit_that_was_cut_is_not_done_twice_and_says_that_nobody_knows(
    engine: PostgresEngine, address: str
) -> None:
    index = Index(engine, "program")
    index.put(ONE)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION cut()"
        )
        tries: list[int] = []

        def work(statements: Statements) -> None:
            tries.append(1)
            reindex(statements, "program", [TWO])

        with pytest.raises(IndexRefused, match="whether it did is not known"):
            engine.write(work)
        assert tries == [1]
        connection.execute("DROP TRIGGER at_commit ON entries")
    assert index.get("a") == ONE
    index.put(TWO)


def test_a_server_that_is_away_refuses_soon_and_is_used_again_when_it_is_back(postgres: PostgresServer) -> None:
    now = [0.0]
    engine = PostgresEngine(postgres.new_database(), clock=lambda: now[0])
    index = Index(engine, "program")
    index.put(ONE)
    postgres.stop()
    try:
        with pytest.raises(IndexRefused, match="connection"):
            index.get("a")
        with pytest.raises(IndexRefused, match="did not answer a moment ago"):
            index.get("a")
    finally:
        postgres.start()
    with pytest.raises(IndexRefused, match="did not answer a moment ago"):
        index.get("a")
    now[0] += 10
    assert index.get("a") == ONE
    engine.close()


def test_a_server_that_was_stopped_in_the_midst_of_it_is_not_waited_for(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    Index(engine, "program").put(ONE)
    ((pid,),) = engine.read(lambda statements: statements.rows("SELECT pg_backend_pid()"))
    monkeypatch.setattr(postgres_module, "_TRANSACTION_S", 0.2)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(IndexRefused):
            Index(engine, "program").get("a")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_lock_of_somebody_elses_ends_in_a_refusal(
    engine: PostgresEngine, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Index(engine, "program").put(ONE)
    short = postgres_module._BEGIN.replace("lock_timeout = '5s'", "lock_timeout = '100ms'")
    monkeypatch.setattr(postgres_module, "_BEGIN", short)
    with psycopg.connect(address) as connection:
        connection.execute("LOCK TABLE entries")
        with pytest.raises(IndexRefused, match="due to lock timeout"):
            Index(engine, "program").put(TWO)
    Index(engine, "program").put(TWO)


def test_a_password_shows_in_no_refusal(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = PostgresEngine("postgresql://app:s3cret@127.0.0.1:1/erlbridge?sslpassword=al%2Fso")
    with pytest.raises(IndexRefused) as refused:
        Index(engine, "program").get("a")
    assert "s3cret" not in str(refused.value)
    assert "al" not in str(refused.value).split("connection")[0]
    assert str(refused.value).startswith("postgresql://app@127.0.0.1:1/erlbridge: ")


@pytest.mark.parametrize("size", [10, 100_000])
def test_results_of_one_node_are_the_others(
    engine: PostgresEngine, other: PostgresEngine, tmp_path: Path, size: int
) -> None:
    """Small ones in their row, large ones as blobs; bounds are kept by whoever puts."""
    bounds = Bounds(3600.0, 3, 2**20)
    mine, theirs = (Kept(one, LocalBlobs(tmp_path), "cache", bounds, print) for one in (engine, other))
    for number in range(5):
        result = Stored("predict", b"same", b"%d" % number * size)
        mine.put(f"name{number}", mine.packed(f"name{number}", result))
        theirs.used("name0")
    found = theirs.get("name4")
    assert found is not None
    assert found.stored.result == b"4" * size
    theirs.prune()
    assert theirs.totals()[0] == 3
    assert mine.get("name9") is None
    theirs.drop("name4")
    assert mine.get("name4") is None
    assert theirs.clear()[0] == 2
    assert mine.totals() == (0, 0)


def test_what_is_listed_slowly_or_is_much_still_gets_into_the_index_and_out_of_it(
    engine: PostgresEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction has seconds, a list of an object store and thousands of rows of a server far away take longer."""
    blobs = LocalBlobs(tmp_path)
    monkeypatch.setattr(kept_module, "_BATCH", 20)
    kept = Kept(engine, blobs, "result", Bounds(3600.0, 10_000, 2**30), print)
    for number in range(50):
        blobs.put("results", f"{number}.result", b"large", durable=False)
    all_of_them = blobs.all

    def slowly(kind: str) -> Iterator[Blob]:
        assert not engine._lock.locked(), "a transaction is under way"
        return all_of_them(kind)

    most_runs = 0
    run = postgres_module._Postgres.run
    begun = postgres_module._transaction

    def counted(*arguments: Any) -> Any:
        nonlocal most_runs
        runs = 0

        def count(*given: Any) -> int:
            nonlocal runs, most_runs
            runs += 1
            most_runs = max(most_runs, runs)
            return run(*given)

        monkeypatch.setattr(postgres_module._Postgres, "run", count)
        return begun(*arguments)

    monkeypatch.setattr(blobs, "all", slowly)
    monkeypatch.setattr(postgres_module, "_transaction", counted)
    make_up_kept(engine, blobs)
    assert kept.totals()[0] == 50
    make_up_kept(engine, blobs)
    Kept(engine, blobs, "result", Bounds(3600.0, 10, 2**30), print).prune()
    assert kept.totals()[0] == 10
    Kept(engine, blobs, "result", Bounds(0.0, 10, 2**30), print).prune()
    assert kept.totals()[0] == 0
    assert list(all_of_them("results")) == []
    assert most_runs <= 20


def _at_once(works: list) -> None:  # type: ignore[type-arg]
    failures: list[BaseException] = []

    def run(work) -> None:  # type: ignore[no-untyped-def]
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
