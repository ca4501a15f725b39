"""What is too much, by table: samples and times in, facts out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from erlbridge.core.events import LimitPassed, Stalled
from erlbridge.core.meter import Meter
from erlbridge.core.vigil import LEAST_INTERVAL_S, Bounds, Fact, Running, Sample, Vigil

MIB = 2**20
JOB, OTHER_JOB = object(), object()


def facts(bounds: Bounds, *looks: tuple[float, dict[int, Sample], dict[int, Running]]) -> list[list[Fact]]:
    """What each look brings."""
    vigil = Vigil(bounds)
    return [vigil.look(samples, running, now) for now, samples, running in looks]


def sizes(*rss_bytes: int) -> dict[int, Sample]:
    return {number: Sample(size, 0.0) for number, size in enumerate(rss_bytes, 1)}


def hard(worker: int, rss_bytes: int, limit: int) -> LimitPassed:
    return LimitPassed(worker, "hard", "memory_limit", {"rss_bytes": rss_bytes, "limit": limit})


def soft(worker: int, rss_bytes: int, limit: int) -> LimitPassed:
    return LimitPassed(worker, "soft", "memory_limit", {"rss_bytes": rss_bytes, "limit": limit})


def total(worker: int, rss_bytes: int, total_bytes: int, limit: int) -> LimitPassed:
    context = {"rss_bytes": rss_bytes, "total_bytes": total_bytes, "limit": limit}
    return LimitPassed(worker, "hard", "total_memory_limit", context)


@pytest.mark.parametrize(
    ("bounds", "seen", "told"),
    [
        (Bounds(), [sizes(10**12)], [[]]),
        (Bounds(hard_bytes=100), [sizes(100)], [[]]),
        (Bounds(hard_bytes=100), [sizes(101), sizes(150)], [[hard(1, 101, 100)], []]),
        (Bounds(hard_bytes=100), [sizes(50, 120)], [[hard(2, 120, 100)]]),
        (Bounds(soft_bytes=100), [sizes(101), sizes(150)], [[soft(1, 101, 100)], []]),
        (
            Bounds(soft_bytes=100, hard_bytes=200),
            [sizes(150), sizes(250), sizes(50)],
            [[soft(1, 150, 100)], [hard(1, 250, 200)], []],
        ),
        (Bounds(soft_bytes=100, hard_bytes=200), [sizes(250)], [[hard(1, 250, 200)]]),
        (Bounds(total_bytes=100), [sizes(40, 60)], [[]]),
        (Bounds(total_bytes=100), [sizes(40, 61)], [[total(2, 61, 101, 100)]]),
        (Bounds(total_bytes=100), [sizes(90, 80, 70)], [[total(1, 90, 240, 100), total(2, 80, 150, 100)]]),
        (Bounds(total_bytes=100), [sizes(60, 50), sizes(60, 50)], [[total(1, 60, 110, 100)], []]),
        (Bounds(total_bytes=100, hard_bytes=70), [sizes(80, 60)], [[hard(1, 80, 70)]]),
    ],
)
def test_memory(bounds: Bounds, seen: list[dict[int, Sample]], told: list[list[Fact]]) -> None:
    looks = [(at, samples, {number: Running(JOB, at) for number in samples}) for at, samples in enumerate(seen)]
    assert facts(bounds, *looks) == told


def test_a_fat_worker_is_told_of_once_it_has_worked() -> None:
    looks = [(at, sizes(150), {1: Running(JOB, at)} if at == 1 else {}) for at in range(3)]
    assert facts(Bounds(soft_bytes=100), *looks[:1], looks[2]) == [[], []]
    assert facts(Bounds(soft_bytes=100), *looks) == [[], [soft(1, 150, 100)], []]


def usage(percent: float, seconds: Iterable[int], job: object = JOB) -> list[tuple[float, dict, dict]]:
    return [(at, {1: Sample(0, at * percent / 100)}, {1: Running(job, float(at))}) for at in seconds]


@pytest.mark.parametrize(
    ("bounds", "looks", "told"),
    [
        (Bounds(cpu_percent=0), usage(400, range(100)), []),
        (Bounds(cpu_percent=90, cpu_s=10), usage(89, range(30)), []),
        (Bounds(cpu_percent=90, cpu_s=10), usage(100, range(10)), []),
        (Bounds(cpu_percent=90, cpu_s=10), usage(100, range(30)), [(10, {"cpu_percent": 100.0, "limit": 90})]),
        (Bounds(cpu_percent=150, cpu_s=10), usage(160, range(30)), [(10, {"cpu_percent": 160.0, "limit": 150})]),
        # A burst between quiet times is no sustained use, and one job's use is not the next one's.
        (
            Bounds(cpu_percent=90, cpu_s=10),
            [(at, {1: Sample(0, min(at, 9.0))}, {1: Running(JOB, float(at))}) for at in range(40)],
            [],
        ),
        (Bounds(cpu_percent=90, cpu_s=10), [*usage(100, range(9)), *usage(100, range(9, 18), OTHER_JOB)], []),
        (Bounds(cpu_percent=90, cpu_s=10), [(at, {1: Sample(0, float(at))}, {}) for at in range(40)], []),
    ],
)
def test_processor_use(bounds: Bounds, looks: list, told: list[tuple[int, dict]]) -> None:
    found = [(look[0], fact) for look, told in zip(looks, facts(bounds, *looks), strict=True) for fact in told]
    assert found == [(at, LimitPassed(1, "hard", "cpu_limit", context)) for at, context in told]


def still(at: float, cpu_s: float = 0.0, heard_at: float = 0.0, waits: bool = False) -> tuple[float, dict, dict]:
    return at, {1: Sample(0, cpu_s)}, {1: Running(JOB, heard_at, waits)}


@pytest.mark.parametrize(
    ("stall_s", "looks", "told"),
    [
        (0, [still(at) for at in range(0, 1000, 10)], {}),
        (60, [still(at) for at in range(0, 300, 10)], {60: 60}),
        (60, [still(at, heard_at=max(0, at - 30)) for at in range(0, 300, 10)], {}),
        (60, [still(at, heard_at=min(at, 35)) for at in range(0, 300, 10)], {100: 60}),
        (60, [still(at, cpu_s=at * 0.02) for at in range(0, 300, 10)], {}),
        (60, [still(at, cpu_s=at * 0.005) for at in range(0, 300, 10)], {60: 60}),
        (60, [still(at, waits=at < 200) for at in range(0, 300, 10)], {250: 60}),
        (60, [(at, {1: Sample(0, 0.0)}, {}) for at in range(0, 300, 10)], {}),
    ],
)
def test_stillness(stall_s: float, looks: list, told: dict[float, float]) -> None:
    found = {
        look[0]: fact for look, told in zip(looks, facts(Bounds(stall_s=stall_s), *looks), strict=True) for fact in told
    }
    assert found == {at: Stalled(1, seconds) for at, seconds in told.items()}


def test_a_node_that_was_stopped_itself_takes_no_job_for_stalled() -> None:
    looks = [still(0), still(1), still(300), still(301), still(330), still(359), still(361)]
    assert facts(Bounds(stall_s=60), *looks) == [[], [], [], [], [], [], [Stalled(1, 61)]]


def test_each_job_of_a_worker_may_stall_anew() -> None:
    looks = [(at, {1: Sample(0, 0.0)}, {1: Running(JOB if at < 100 else OTHER_JOB, 0.0)}) for at in range(0, 200, 20)]
    assert [fact for told in facts(Bounds(stall_s=50), *looks) for fact in told] == [Stalled(1, 60), Stalled(1, 60)]


@pytest.mark.parametrize(
    ("bounds", "samples", "wait_s"),
    [
        (Bounds(), sizes(10**12), 0.1),
        (Bounds(hard_bytes=2**30), sizes(60 * MIB), 0.1),
        (Bounds(hard_bytes=2**30), sizes(1024 * MIB), 0.05),
        (Bounds(hard_bytes=400 * MIB), sizes(399 * MIB), 0.02),
        (Bounds(hard_bytes=64 * MIB), sizes(64 * MIB), LEAST_INTERVAL_S),
        (Bounds(hard_bytes=400 * MIB), sizes(500 * MIB), 0.1),  # it is being killed
        (Bounds(total_bytes=400 * MIB), sizes(200 * MIB, 199 * MIB), 0.02),
        (Bounds(interval_s=5), sizes(1), 5),
        (Bounds(interval_s=5, hard_bytes=2**30), sizes(1000 * MIB), 0.06),
    ],
)
def test_the_next_look_comes_before_a_runaway_could_be_far_beyond_its_limit(
    bounds: Bounds, samples: dict[int, Sample], wait_s: float
) -> None:
    vigil = Vigil(bounds)
    vigil.look(samples, {}, now=100.0)
    assert vigil.next_look() == pytest.approx(100 + wait_s, abs=0.003)


def test_only_the_worker_near_its_limit_is_looked_at_more_often() -> None:
    vigil = Vigil(Bounds(hard_bytes=400 * MIB))
    assert vigil.due([1, 2], 0.0) == [1, 2]
    vigil.look(sizes(399 * MIB, 60 * MIB), {}, now=0.0)
    assert vigil.due([1, 2], 0.05) == [1]
    assert vigil.due([1, 2, 3], 0.1) == [1, 2, 3]


def test_a_worker_that_is_gone_is_forgotten_and_asks_for_no_look() -> None:
    vigil = Vigil(Bounds(total_bytes=100))
    vigil.look(sizes(60, 30), {}, now=0.0)
    vigil.keep_only([2])
    assert vigil.look({2: Sample(90, 0.0)}, {}, now=1.0) == []
    vigil.keep_only([])
    assert vigil.next_look() is None


def test_processor_use_is_that_of_the_last_second() -> None:
    meter = Meter()
    assert meter.percent() == 0.0
    for tenth in range(101):
        meter.add(tenth / 10, 0.0 if tenth < 90 else (tenth - 90) / 20)
    assert meter.percent() == pytest.approx(50, abs=10)
