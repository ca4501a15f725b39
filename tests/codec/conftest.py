"""What the codec's tests share: the vectors that a BEAM wrote, and a BEAM to ask."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from codec_frames import write_frames

INTEROP = Path(__file__).resolve().parent.parent / "interop"


def _vectors(name: str) -> list[dict[str, str]]:
    for parent in Path(__file__).resolve().parents:
        path = parent / "shared" / "vectors" / name
        if path.is_file():
            return [json.loads(line) for line in path.read_text().splitlines()]
    pytest.fail(f"no shared/vectors/{name} in any folder above {Path(__file__).name}")


@pytest.fixture(scope="session")
def valid() -> list[dict[str, str]]:
    """Terms that a BEAM wrote, as `name`, `hex`, `inspect`, `options`."""
    return _vectors("valid.jsonl")


@pytest.fixture(scope="session")
def hostile() -> list[dict[str, str]]:
    """Odd and broken encodings with the BEAM's verdict in `beam`."""
    return _vectors("hostile.jsonl")


@pytest.fixture(scope="session")
def elixir() -> Callable[..., list[str]]:
    """Runs a script of tests/interop and gives the lines it prints."""
    program = shutil.which("elixir")
    if program is None:
        pytest.fail("elixir is not on the PATH: these tests compare with a real BEAM, install it first")

    def run(script: str, *args: str | Path) -> list[str]:
        done = subprocess.run(
            [program, INTEROP / script, *map(str, args)], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.fixture
def beam_verdicts(elixir: Callable[..., list[str]], tmp_path: Path) -> Callable[..., list[str]]:
    """The BEAM's verdict on each pair of encodings: `same`, `different ...` or `badarg ...`."""

    def compare(originals: Iterable[bytes], ours: Iterable[bytes]) -> list[str]:
        write_frames(tmp_path / "originals", originals)
        write_frames(tmp_path / "ours", ours)
        return elixir("compare_frames.exs", tmp_path / "originals", tmp_path / "ours")

    return compare
