"""A real BEAM and a real node: whatever term the BEAM sends, the node gives back identical."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SEED, COUNT = 20240301, 5000


@pytest.mark.timeout(180)
def test_5000_random_terms_go_through_the_node_and_come_back_identical(root: Path, tmp_path: Path) -> None:
    script = root / "tests" / "interop" / "node_echo.exs"
    command = ["elixir", str(script), str(SEED), str(COUNT), sys.executable, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert ran.stdout.splitlines()[-2:] == [
        f"{COUNT} of {COUNT} terms came back identical",
        "the node exited with 0",
    ], ran.stdout[-2000:]
