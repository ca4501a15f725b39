"""A PostgreSQL for the tests of shared stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all of a process's tests. It must be there: see `setup_postgres` in scripts/setup."""
    found = programs()
    assert found, "no PostgreSQL server is installed: on Debian, apt-get install postgresql"
    server = PostgresServer(found)
    yield server
    server.close()
