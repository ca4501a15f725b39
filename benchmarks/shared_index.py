"""What a question to the result cache costs an index that machines share, by the number of nodes that ask at once.

    python benchmarks/shared_index.py

Each node of this benchmark is a thread with a connection of its own to one PostgreSQL, which is started for it. A
question is what one takes that nobody has asked before: it is looked up, claimed, its result kept, the claim given
back. Cost is the server's processor time, which bounds how many nodes one server serves; "again" is how many of the
transactions came into each other's way and were done once more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from instruments.costs import cpu_s
from node_client import descendants
from postgres_server import PostgresServer, programs
from report import markdown, publish, takes_flags

from erlbridge.core.results import Stored, name_of
from erlbridge.node.claiming import LEASE_S
from erlbridge.store.blobs import LocalBlobs
from erlbridge.store.claims import Claims
from erlbridge.store.kept import Bounds, Kept
from erlbridge.store.postgres import PostgresEngine
from erlbridge.tools.bench import EXIT_CANNOT

NODES = (1, 4, 16)
QUESTIONS = 320
ANSWER = Stored("predict", bytes(32), b"x" * 2000)


def ask(engine: PostgresEngine, blobs: LocalBlobs, owner: str, questions: int) -> None:
    kept = Kept(engine, blobs, "cache", Bounds(3600.0, 2000, 2**28), print)
    claims = Claims(engine)
    for number in range(questions):
        name = name_of(f"{owner} {number}")
        assert kept.get(name) is None
        assert claims.take(f"cache:{name}", owner, LEASE_S)
        kept.put(name, kept.packed(name, ANSWER))
        assert claims.release(f"cache:{name}", owner)


def measure(server: PostgresServer, nodes: int, questions: int) -> tuple[str, ...]:
    """The table's row for so many nodes."""
    address = server.new_database()
    with tempfile.TemporaryDirectory() as directory:
        engines = [PostgresEngine(address) for _ in range(nodes)]
        for engine in engines:
            ask(engine, LocalBlobs(Path(directory)), f"first {id(engine)}", 1)
        threads = [
            threading.Thread(
                target=ask, args=(engine, LocalBlobs(Path(directory)), f"node {number}", questions // nodes)
            )
            for number, engine in enumerate(engines)
        ]
        processes = [server.pid, *descendants(server.pid)]
        before, began = sum(map(cpu_s, processes)), time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        cost = sum(map(cpu_s, processes)) - before
        done, again = engines[0].read(
            lambda statements: statements.rows(
                "SELECT xact_commit, xact_rollback FROM pg_stat_database WHERE datname = current_database()"
            )[0]
        )
        for engine in engines:
            engine.close()
    return str(nodes), f"{questions / took:,.0f}/s", f"{cost / questions * 1000:.2f} ms", f"{again / done:.0%}"


def main() -> int:
    parser = argparse.ArgumentParser()
    takes_flags(parser, gate=False)
    given = parser.parse_args()
    found = programs()
    if found is None:
        print("shared_index: there is no PostgreSQL here to be started", file=sys.stderr)
        return EXIT_CANNOT
    server = PostgresServer(found)
    try:
        rows = [measure(server, nodes, 64 if given.short else QUESTIONS) for nodes in NODES]
    finally:
        server.close()
    heads = ("nodes", "questions, all together", "the server's processor, for each", "transactions done again")
    publish("shared_index", markdown(heads, rows), write=given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
