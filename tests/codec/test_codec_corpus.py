"""The inputs that the fuzzer kept, the fewest that reach all it has reached: every claim holds of each."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("erlbridge.codec._compiled", reason="the compiled twin was not built")

from codec_claims import hold

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def test_there_are_inputs() -> None:
    assert len(CORPUS) > 50


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name[:12])
def test_every_claim_holds_of_a_kept_input(file: Path) -> None:
    hold(file.read_bytes())
