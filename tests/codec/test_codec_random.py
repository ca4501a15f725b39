"""Random terms: from a BEAM, through the codec, back to the BEAM."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from codec_frames import read_frames, write_frames

from erlbridge.codec import binary_to_term, term_to_binary

# scripts/long sets them.
SEED = int(os.environ.get("ERLBRIDGE_RANDOM_SEED", "20240229"))
COUNT = int(os.environ.get("ERLBRIDGE_RANDOM_TERMS", "5000"))


@pytest.fixture(scope="module")
def from_beam(elixir: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path: Path = tmp_path_factory.mktemp("random") / "terms"
    print(*elixir("write_random_terms.exs", SEED, COUNT, path))
    return list(read_frames(path))


def test_random_terms_of_every_kind_come_back_identical(
    from_beam: list[bytes], beam_verdicts: Callable[..., list[str]]
) -> None:
    ours = [term_to_binary(binary_to_term(frame)) for frame in from_beam]
    verdicts = beam_verdicts(from_beam, ours)
    wrong = [(index, verdict) for index, verdict in enumerate(verdicts) if verdict != "same"]
    assert not wrong[:5]
    assert len(verdicts) == COUNT


def test_random_terms_hold_every_tag_that_otp_25_writes(from_beam: list[bytes]) -> None:
    seen = b"".join(frame[1:2] for frame in from_beam)
    assert {b"P"[0], 70, 97, 98, 100, 104, 107, 108, 109, 110, 116, 119} <= set(seen)


def test_random_terms_written_deterministically_are_in_the_order_of_the_beam(
    from_beam: list[bytes], elixir: Callable[..., list[str]], tmp_path: Path
) -> None:
    ours = [term_to_binary(binary_to_term(frame), deterministic=True) for frame in from_beam]
    write_frames(tmp_path / "ours", ours)
    different = elixir("check_deterministic.exs", tmp_path / "ours")
    assert different == [f"{COUNT} frames, 0 in another order"]


def test_deterministic_bytes_do_not_depend_on_the_order_of_insertion(from_beam: list[bytes]) -> None:
    for frame in from_beam[:1000]:
        term = binary_to_term(frame)
        once = term_to_binary(term, deterministic=True)
        again = term_to_binary(_reversed(term), deterministic=True)
        assert once == again


def _reversed(term: object) -> object:
    if isinstance(term, dict):
        return {key: _reversed(value) for key, value in reversed(term.items())}
    if isinstance(term, list):
        return [_reversed(value) for value in term]
    if isinstance(term, tuple):
        return tuple(_reversed(value) for value in term)
    return term
