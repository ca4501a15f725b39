"""What the tests of programs share: the shipped tickets, jobs on them, and a real endpoint."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.resources import files

import pytest
from program_jobs import Endpoint, Jobs


@pytest.fixture(scope="session")
def tickets() -> list[dict[str, str]]:
    """The shipped support tickets: 104 rows of subject, body and category."""
    text = (files("erlbridge") / "data" / "support_tickets.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@pytest.fixture
def jobs(tickets: list[dict[str, str]]) -> Jobs:
    return Jobs(tickets)


@pytest.fixture
def hosted(jobs: Jobs) -> Jobs:
    """Jobs whose host executes the steps of workflows."""
    jobs.watcher.functions["execute_step"] = lambda step, context: {"text": f"for {context['steps']['classify']}"}
    return jobs


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()
    yield served
    served.close()
