"""Views of datasets: shares that meet without a gap, orders that a seed decides, refusals with their path."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.codec import Atom
from erlbridge.core.datasets import Dataset, with_datasets
from erlbridge.core.jobs import OptimizeSignature, parse_job
from erlbridge.core.results import identity
from erlbridge.core.views import Order, Shuffle, View, parse_view
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place

NAME = "sha256:" + "a" * 64


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_a_shuffle_is_a_permutation_of_any_size(size: int, seed: int) -> None:
    shuffle = Shuffle(size, seed)
    assert sorted(map(shuffle.place, range(size))) == list(range(size))


def test_a_shuffle_of_ten_billion_takes_neither_room_nor_time() -> None:
    order = View(seed=3, take=5).of(10**10)
    assert len(set(order)) == 5
    assert all(0 <= place < 10**10 for place in order)


def test_the_order_of_a_seed_never_changes() -> None:
    """Programs that were optimized with a sample name it by its seed: another order would be another sample."""
    assert list(View(seed=7).of(10)) == [2, 7, 0, 5, 9, 3, 1, 8, 4, 6]
    assert list(View(seed=0, take=3).of(1_000_000)) == [861419, 711663, 218543]


def test_every_place_comes_first_as_often_as_every_other() -> None:
    """Chi-squared with 9 degrees of freedom is above 27.9 once in a thousand times; the seeds are always these."""
    for position in (0, 5, 9):
        found = Counter(View(seed=seed).of(10)[position] for seed in range(2000))
        assert sum((found[place] - 200) ** 2 / 200 for place in range(10)) < 27.9
    pairs = Counter(tuple(View(seed=seed).of(5)[:2]) for seed in range(2000))
    assert len(pairs) == 20
    assert max(pairs.values()) < 2 * min(pairs.values())


@settings(max_examples=50)
@given(st.integers(1, 500), st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(0, 99))
def test_shares_that_follow_each_other_miss_nothing_and_share_nothing(
    examples: int, weights: list[int], seed: int
) -> None:
    edges = [sum(weights[:at]) / sum(weights) for at in range(len(weights) + 1)]
    parts = [View(seed, low, high - low) for low, high in pairwise(edges)]
    found = [place for part in parts for place in part.of(examples)]
    assert sorted(found) == list(range(examples))


@pytest.mark.parametrize("parts", range(1, 41))
def test_parts_meet_where_an_example_is_cut_in_half(parts: int) -> None:
    """5/12 and 5/12 of 3 examples end in the middle of the last, and floats do not say 10/12 exactly."""
    for examples in range(1, 60):
        for skipped in range(parts + 1):
            for taken in range(parts + 1 - skipped):
                here = View(skip=skipped / parts, take=taken / parts).of(examples).span
                behind = View(skip=(skipped + taken) / parts).of(examples).span
                assert here.stop == behind.start, f"{skipped} and {taken} of {parts} parts of {examples}"


def test_shares_may_be_added_up_step_by_step() -> None:
    for steps in (10, 12, 100):
        skip, places = 0.0, []
        for _ in range(steps):
            places += View(seed=0, skip=min(skip, 1.0), take=1 / steps).of(1_050)
            skip += 1 / steps
        assert sorted(places) == list(range(1_050))


@pytest.mark.parametrize(
    ("view", "places"),
    [
        (View(), range(10)),
        (View(skip=3), range(3, 10)),
        (View(skip=3, take=4), range(3, 7)),
        (View(skip=0.25, take=2), range(3, 5)),
        (View(skip=8, take=0.5), range(8, 10)),
        (View(take=0.8, limit=3), range(3)),
        (View(skip=11), range(0)),
        (View(take=1), range(1)),
        (View(take=1.0), range(10)),
        (View(skip=1.0), range(0)),
    ],
)
def test_integers_are_counts_and_floats_are_shares(view: View, places: range) -> None:
    assert list(view.of(10)) == list(places)


def test_a_slice_of_an_order_is_one_too() -> None:
    order = View(seed=5).of(100)
    assert list(order[10:20][2:4]) == list(order)[12:14]
    assert order[-1] == list(order)[-1]
    assert order[10:20] == order[10:20]
    assert order != Order.of_all(100)
    with pytest.raises(IndexError):
        order[100]


@pytest.mark.parametrize(
    ("view", "path"),
    [
        ({Atom("seed"): -1}, "payload.data[2].seed"),
        ({Atom("seed"): 2**32}, "payload.data[2].seed"),
        ({Atom("seed"): 1.0}, "payload.data[2].seed"),
        ({Atom("skip"): 1.5}, "payload.data[2].skip"),
        ({Atom("skip"): float("nan")}, "payload.data[2].skip"),
        ({Atom("take"): True}, "payload.data[2].take"),
        ({Atom("take"): -2}, "payload.data[2].take"),
        ({Atom("take"): 2**63}, "payload.data[2].take"),
        ({Atom("limit"): 0}, "payload.data[2].limit"),
        ({Atom("sed"): 1}, "payload.data[2]"),
        ([], "payload.data[2]"),
        (7, "payload.data[2]"),
        ({Atom("take"): 0}, "payload.data[2]"),
        ({Atom("skip"): 10}, "payload.data[2]"),
    ],
)
def test_a_view_that_is_none_is_refused_with_its_path(view: Any, path: str) -> None:
    payload = {Atom("data"): (Atom("dataset"), NAME.encode(), view)}
    with pytest.raises(ValidationError) as refusal:
        with_datasets(payload, lambda name: Dataset(name, 10, 1000, b"/nowhere"))
    assert refusal.value.path == path


def test_a_job_counts_the_examples_of_a_view() -> None:
    view = {Atom("seed"): 7, Atom("skip"): 0.8}
    payload = {
        "signature": {"input_fields": ["q"], "output_fields": ["a"]},
        "training_data": (Atom("dataset"), NAME.encode(), {Atom("take"): 0.8}),
        "validation_data": (Atom("dataset"), NAME.encode(), view),
        "config": {"lm": Atom("offline")},
    }
    named = {key.encode(): value for key, value in payload.items()}
    job = parse_job("optimize_signature", with_datasets(named, lambda name: Dataset(name, 50, 1000, b"/nowhere")))
    assert isinstance(job, OptimizeSignature)
    assert job.validation_data is not None
    assert (len(job.training_data), len(job.validation_data)) == (40, 10)
    assert parse_view(Place(view, "view")) == View(seed=7, skip=0.8)


def test_another_part_of_the_same_dataset_is_another_question() -> None:
    def asked(**view: object) -> bytes:
        seen = (Atom("dataset"), NAME.encode(), {Atom(key): value for key, value in view.items()})
        return identity("evaluate_pipeline", {Atom("data"): seen}).fingerprint

    assert asked(seed=7, take=5) == asked(take=5, seed=7)
    assert len({asked(), asked(seed=7), asked(seed=8), asked(take=1), asked(take=1.0)}) == 5
