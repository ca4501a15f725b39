"""What every test may use: the repository's places and a client that talks to a real node over real pipes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import erlbridge.programs.environment  # noqa: F401 - before a test imports DSPy, whose bars would draw over pytest's summary

# isort: split
import pytest
from node_client import NodeClient
from postgres_server import PostgresServer, programs

# Test modules, as pytest rewrites them, are kept: more than half of the time that finding the tests takes.
sys.dont_write_bytecode = False

# A run that a script began in the background ignores Ctrl-C, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a test that waits for a process or a deadline leaves its core to another."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    """What all tests have imported, DSPy among it, is no longer gone through whenever one looks for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeClient]]:
    """Starts nodes with the given arguments; each is ended, and found to leave no process behind, after the test."""
    clients: list[NodeClient] = []

    def start(*arguments: str, **environment: str) -> NodeClient:
        client = NodeClient(*arguments, data=tmp_path / "data", environment=environment)
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """One node with two workers, shared by the tests of a module that leave it as they found it."""
    client = NodeClient("--workers", "2", data=tmp_path_factory.mktemp("data"))
    yield client
    client.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of this process. It must be there: see `setup_postgres` in scripts/setup."""
    found = programs()
    assert found, "no PostgreSQL server is installed: on Debian, apt-get install postgresql"
    server = PostgresServer(found)
    yield server
    server.close()
