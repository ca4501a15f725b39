"""A short soak: what `scripts/soak` runs for as long as asked."""

from __future__ import annotations

import os

import pytest

from soak.run import soak


@pytest.mark.timeout(300)
def test_under_full_load_and_random_faults_every_request_is_answered_once() -> None:
    seconds = float(os.environ.get("ERLBRIDGE_SOAK_S", "8"))
    soaked = soak(seconds, seed=int(os.environ.get("ERLBRIDGE_SOAK_SEED", "1")))
    assert soaked.broken() == [], soaked
    assert soaked.sent > 10 * seconds
    assert sum(soaked.faults.values()) >= 3
