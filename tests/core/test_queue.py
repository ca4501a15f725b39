"""The waiting queue: priorities, turns between sources, quotas that others pass by, and nothing that waits for ever."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.core.queue import PICKS_OF_THE_HIGHEST, Entry, FairQueue
from erlbridge.core.quotas import Quota, Quotas
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_PRIORITY
from erlbridge.wire.messages import Meta, Request, parse_incoming
from erlbridge.wire.vocabulary import atom, atom_keys

OPENAI: tuple[Quota, ...] = (("endpoint", "openai"),)


def anything(_quotas: tuple[Quota, ...]) -> bool:
    return True


def entry(name: str, source: str | None = None, priority: int = 0, quotas: tuple[Quota, ...] = ()) -> Entry:
    request = Request("predict", name, {}, Meta(source=source, priority=priority))
    return Entry(name.encode(), request, b"", 0.0, None, quotas=quotas)


def filled(*entries: Entry) -> FairQueue:
    queue = FairQueue()
    for one in entries:
        queue.add(one)
    return queue


def taken(queue: FairQueue, count: int | None = None) -> list[object]:
    found = [queue.take(anything) for _ in range(len(queue) if count is None else count)]
    return [one.request.id for one in found if one is not None]


def test_without_sources_and_priorities_the_first_come_is_the_first_served() -> None:
    assert taken(filled(*(entry(name) for name in "abc"))) == ["a", "b", "c"]


def test_a_higher_priority_goes_first() -> None:
    queue = filled(entry("low", priority=-1), entry("usual"), entry("high", priority=2), entry("higher", priority=3))
    assert queue.by_priority() == {3: 1, 2: 1, 0: 1, -1: 1}
    assert taken(queue) == ["higher", "high", "usual", "low"]
    assert queue.by_priority() == {}


def test_one_that_waits_alone_is_held_back_by_its_quotas_and_keeps_its_place_when_others_come() -> None:
    held, later = entry("held", quotas=OPENAI), entry("later", quotas=OPENAI)
    queue = filled(held)
    assert queue.take(lambda quotas: not quotas) is None
    assert (len(queue), queue.by_priority()) == (1, {0: 1})
    queue.add(later)
    assert taken(queue) == ["held", "later"]
    queue.add(held)
    queue.remove(held)
    assert (len(queue), queue.by_priority(), queue.take(anything)) == (0, {}, None)


def test_a_source_with_a_thousand_requests_does_not_starve_one_with_one() -> None:
    queue = filled(*(entry(f"flood {number}", "flood") for number in range(1000)))
    taken(queue, 10)
    queue.add(entry("alone", "quiet"))
    assert "alone" in taken(queue, 2)


def test_sources_take_turns_and_each_keeps_its_own_order() -> None:
    queue = filled(*(entry(f"{source}{number}", source) for source in "abc" for number in (1, 2)))
    assert taken(queue) == ["a1", "b1", "c1", "a2", "b2", "c2"]


def test_requests_without_a_source_are_one_source() -> None:
    queue = filled(*(entry(f"unnamed {number}") for number in range(50)), entry("named", "a"))
    assert taken(queue, 2) == ["unnamed 0", "named"]


def test_ever_new_sources_do_not_starve_one_that_waits() -> None:
    queue = filled(entry("first", "old"), entry("second", "old"))
    served = []
    for number in range(10):
        queue.add(entry(f"new {number}", f"source {number}"))
        served += taken(queue, 1)
    assert served.index("second") <= 3


def test_a_source_that_comes_back_each_time_does_not_starve_one_that_waits() -> None:
    queue = filled(*(entry(f"flood {number}", "flood") for number in range(10)))
    served = []
    for number in range(10):
        queue.add(entry(f"again {number}", "again"))
        served += taken(queue, 1)
    assert sum(str(name).startswith("flood") for name in served) == 5


def test_of_eight_picks_one_goes_to_the_lower_priority_that_has_gone_longest_without() -> None:
    queue = filled(
        *(entry(f"high {number}", priority=5) for number in range(100)),
        *(entry(f"low {number}") for number in range(10)),
        *(entry(f"lowest {number}", priority=-5) for number in range(10)),
    )
    served = [str(name).split()[0] for name in taken(queue, 32)]
    assert [(place, name) for place, name in enumerate(served, 1) if name != "high"] == [
        (8, "low"),
        (16, "lowest"),
        (24, "low"),
        (32, "lowest"),
    ]


def test_what_a_quota_holds_back_is_passed_by_what_is_behind_it_and_keeps_its_place() -> None:
    queue = filled(entry("held", "a", quotas=OPENAI), entry("free", "a"), entry("held too", "b", quotas=OPENAI))
    found = queue.take(lambda quotas: quotas != OPENAI)
    assert found is not None
    assert found.request.id == "free"
    assert queue.take(lambda quotas: quotas != OPENAI) is None
    assert sorted(map(str, taken(queue))) == ["held", "held too"]


def test_a_source_that_was_held_back_for_long_does_not_get_all_the_turns_that_it_missed() -> None:
    queue = filled(*(entry(f"held {number}", "held", quotas=OPENAI) for number in range(10)))
    for number in range(20):
        queue.add(entry(f"other {number}", "other"))
    for _ in range(10):
        queue.take(lambda quotas: quotas != OPENAI)
    assert taken(queue, 4) == ["held 0", "held 1", "other 10", "held 2"]


def test_an_entry_that_is_removed_leaves_nothing_behind() -> None:
    queue = FairQueue()
    for number in range(1000):  # ever new sources and quotas, as a host can name them
        one = entry(f"{number}", f"source {number}", quotas=(("endpoint", f"{number}"),))
        queue.add(one)
        queue.remove(one)
        assert one.number is None
    assert len(queue) == 0
    assert queue._levels == {}
    queue.add(entry("held", quotas=OPENAI))
    for number in range(1000):
        one = entry(f"{number}", f"source {number}", quotas=OPENAI)
        queue.add(one)
        queue.remove(one)
    assert len(queue._levels[0].classes[OPENAI].heap) < 50


@pytest.mark.parametrize("priority", [-MAX_PRIORITY, 0, MAX_PRIORITY])
def test_a_priority_in_range_is_taken(priority: int) -> None:
    request = parse_incoming((atom("predict"), 1, {}, atom_keys({}) | {b"priority": priority}))
    assert isinstance(request, Request)
    assert request.meta.priority == priority


@pytest.mark.parametrize("priority", [-MAX_PRIORITY - 1, MAX_PRIORITY + 1, 2**70])
def test_a_priority_out_of_range_is_refused_with_its_path(priority: int) -> None:
    with pytest.raises(ValidationError, match=r"at (most 10|least -10)") as caught:
        parse_incoming((atom("predict"), 1, {}, {b"priority": priority}))
    assert caught.value.path == "meta.priority"


def test_an_endpoint_limit_for_each_other_one_counts_each_for_itself() -> None:
    quotas = Quotas({}, {"openai": 2, "*": 1})
    one, other, named = (quotas.of("predict", (name,)) for name in ("groq", "http://a/v1", "openai"))
    for job in (one, other, named, named):
        assert quotas.allows(job)
        quotas.take(job)
    assert not any(map(quotas.allows, (one, other, named)))
    quotas.give(one)
    assert quotas.allows(one)


def test_an_address_is_limited_however_the_operator_spells_it() -> None:
    quotas = Quotas({}, {"HTTP://GPU:8000/v1/": 1})
    assert quotas.of("predict", ("http://gpu:8000/v1",)) == (("endpoint", "http://gpu:8000/v1"),)


CLASSES = st.sampled_from([(), OPENAI, (("verb", "predict"),), (("verb", "predict"), *OPENAI)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcd"), st.integers(-2, 2), CLASSES),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("take"), st.frozensets(st.sampled_from([OPENAI[0], ("verb", "predict")]))),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_what_is_taken_may_run_and_is_the_first_of_its_source_and_nothing_is_lost(
    steps: list[tuple[object, ...]],
) -> None:
    queue = FairQueue()
    waiting: list[Entry] = []
    for number, step in enumerate(steps):
        match step:
            case ("add", str(source), int(priority), tuple(quotas)):
                waiting.append(entry(str(number), source, priority, quotas))
                queue.add(waiting[-1])
            case ("remove", int(which)) if waiting:
                queue.remove(waiting.pop(which % len(waiting)))
            case ("take", frozenset(full)):
                can_run = [one for one in waiting if full.isdisjoint(one.quotas)]
                found = queue.take(full.isdisjoint)
                assert (found is None) == (not can_run)
                if found is not None:
                    assert found is next(one for one in can_run if one.request.meta == found.request.meta)
                    waiting.remove(found)
        assert len(queue) == len(waiting)
        assert queue.by_priority() == Counter(one.request.meta.priority for one in waiting)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=60), st.sampled_from("abcd"))
def test_whoever_comes_waits_at_most_two_turns_of_each_other_source(
    arrivals: list[tuple[str, int]], newcomer: str
) -> None:
    queue = FairQueue()
    for number, (source, takes) in enumerate(arrivals):
        queue.add(entry(f"{number}", source))
        taken(queue, takes)
    queue.add(entry("newcomer", newcomer))
    order = taken(queue)
    before = Counter(arrivals[int(str(number))][0] for number in order[: order.index("newcomer")])
    turns = before.pop(newcomer, 0) + 1  # its own that came earlier have theirs first
    assert all(count <= 2 * turns for count in before.values())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-MAX_PRIORITY, MAX_PRIORITY), min_size=1, max_size=8, unique=True))
def test_no_priority_waits_longer_than_eight_picks_for_each_other_one(priorities: list[int]) -> None:
    queue = FairQueue()
    since = dict.fromkeys(priorities, 0)
    for priority in priorities:
        queue.add(entry("first", priority=priority))
    for _ in range(300):
        found = queue.take(anything)
        assert found is not None
        served = found.request.meta.priority
        queue.add(entry("next", priority=served))
        since = {priority: 0 if priority == served else waited + 1 for priority, waited in since.items()}
        assert max(since.values()) <= (PICKS_OF_THE_HIGHEST + 1) * len(priorities)
