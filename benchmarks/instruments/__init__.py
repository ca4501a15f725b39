"""What benchmarks measure with. They drive nodes as the tests do: who imports this finds `node_client` and its kin."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path += [str(TESTS), str(TESTS / "node"), str(TESTS / "programs")]
