"""The codec against the vectors that a BEAM wrote and judged."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable

import pytest

from erlbridge.codec import DecodeError, binary_to_term, term_to_binary

Vectors = list[dict[str, str]]
Verdicts = Callable[..., list[str]]

# Where we say otherwise than the BEAM, and why.
DELIBERATE = {
    "smallint trailing byte": "bytes after a term mean that framing is lost; the BEAM ignores them",
    "COMPRESSED trailing byte": "the same, after the compressed stream",
}

# Right in a BEAM's eyes, and 20 million lists: judged in a test of its own.
LARGE = "COMPRESSED bomb 20MB of NIL list -> 20M cons"


def test_every_valid_vector_comes_back_identical_for_the_beam(valid: Vectors, beam_verdicts: Verdicts) -> None:
    originals = [bytes.fromhex(vector["hex"]) for vector in valid]
    ours = [term_to_binary(binary_to_term(original)) for original in originals]
    verdicts = beam_verdicts(originals, ours)
    wrong = [(vector["name"], verdict) for vector, verdict in zip(valid, verdicts, strict=True) if verdict != "same"]
    assert not wrong
    assert len(verdicts) > 150


@pytest.mark.parametrize(
    "options", [{"compressed": True}, {"compressed": 1}, {"compressed": 9}, {"deterministic": True}]
)
def test_every_valid_vector_comes_back_identical_with_every_option(
    valid: Vectors, beam_verdicts: Verdicts, options: dict[str, int]
) -> None:
    originals = [bytes.fromhex(vector["hex"]) for vector in valid]
    ours = [term_to_binary(binary_to_term(original), **options) for original in originals]  # type: ignore[arg-type]
    assert set(beam_verdicts(originals, ours)) == {"same"}


def test_every_hostile_vector_gets_the_verdict_of_the_beam(hostile: Vectors, beam_verdicts: Verdicts) -> None:
    accepted: list[tuple[str, bytes, bytes]] = []
    wrong = []
    for vector in hostile:
        name, data = vector["name"], bytes.fromhex(vector["hex"])
        if name == LARGE:
            continue
        try:
            accepted.append((name, data, term_to_binary(binary_to_term(data))))
            verdict = "ok"
        except DecodeError:
            verdict = "badarg"
        expected = "badarg" if name in DELIBERATE else vector["beam"].split()[0]
        if verdict != expected:
            wrong.append((name, verdict, vector["beam"]))
    assert not wrong
    verdicts = beam_verdicts([data for _, data, _ in accepted], [ours for _, _, ours in accepted])
    assert set(verdicts) == {"same"}


def test_every_deliberate_difference_is_one(hostile: Vectors) -> None:
    beam = {vector["name"]: vector["beam"] for vector in hostile}
    assert all(beam[name].startswith("ok") for name in DELIBERATE)


def test_every_hostile_vector_is_judged_at_once(hostile: Vectors) -> None:
    for vector in hostile:
        if vector["name"] != LARGE:
            data = bytes.fromhex(vector["hex"])
            start = time.perf_counter()
            with contextlib.suppress(DecodeError):
                binary_to_term(data)
            assert time.perf_counter() - start < 0.5, vector["name"]


def test_a_bomb_that_the_beam_unpacks_is_refused_under_a_smaller_limit(hostile: Vectors) -> None:
    (data,) = (bytes.fromhex(vector["hex"]) for vector in hostile if vector["name"] == LARGE)
    with pytest.raises(DecodeError, match="compressed term of 20000006 bytes, limit 16777216"):
        binary_to_term(data, max_bytes=16 * 1024 * 1024)


def test_a_bomb_that_the_beam_unpacks_is_unpacked_under_the_default_limit(hostile: Vectors) -> None:
    (data,) = (bytes.fromhex(vector["hex"]) for vector in hostile if vector["name"] == LARGE)
    gc.disable()  # which would go through the millions again and again
    try:
        term = binary_to_term(data)
    finally:
        gc.enable()
    assert isinstance(term, list)
    assert len(term) == 20_000_000
    assert term[-1] == []
