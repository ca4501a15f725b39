"""What workers are told of their share, and which processor the next of them is given."""

from __future__ import annotations

import pytest

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.core.allotment import WorkerSettings, cpus_of_next


@pytest.mark.parametrize(
    "settings",
    [
        WorkerSettings(1, "/data"),
        WorkerSettings(
            4711, "/d\udcff\u00e4", nice=5, cpus=(1, 300), pin=True, threads=4, memory_bytes=2**40, sandbox="required"
        ),
        WorkerSettings(1, "", sandbox="on", sandbox_ports=(80, 443, 11434)),
    ],
)
def test_settings_come_back_from_their_term_as_they_were(settings: WorkerSettings) -> None:
    assert WorkerSettings.from_term(binary_to_term(term_to_binary(settings.to_term()))) == settings


@pytest.mark.parametrize(
    ("allowed", "pin", "taken", "given"),
    [
        ({0, 1, 2}, False, [0], {0, 1, 2}),
        ({0, 1, 2}, True, [], {0}),
        ({0, 1, 2}, True, [0, 1], {2}),
        ({4, 7}, True, [4, 7, 4], {7}),
        ({4, 7}, True, [9, 9], {4}),
        (set(), True, [1], set()),
    ],
)
def test_a_pinned_worker_gets_the_processor_that_fewest_have(
    allowed: set[int], pin: bool, taken: list[int], given: set[int]
) -> None:
    assert cpus_of_next(allowed, pin, taken) == given
