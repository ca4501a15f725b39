"""Requests that Elixir functions make while jobs wait for them: they never wait for those who wait for them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from erlbridge.core.events import (
    Action,
    Booted,
    Called,
    CancelAsked,
    Finished,
    Fork,
    Joined,
    Kill,
    Refuse,
    Send,
    ShutdownAsked,
    Submitted,
    Tick,
)
from erlbridge.core.results import Identity
from erlbridge.core.scheduler import Scheduler
from erlbridge.errors import Cancelled, DeadlineExceeded, Overloaded
from erlbridge.wire.messages import Meta, Request


class Machine:
    """A scheduler whose workers boot as soon as they are forked. Jobs are named by letters."""

    def __init__(self, workers: int = 1, **settings: object) -> None:
        self.scheduler = Scheduler(workers, **settings)  # type: ignore[arg-type]
        self.runs: dict[str, int] = {}
        self.refused: dict[str, object] = {}
        self.forks = 0
        self.kills = 0
        self.do(self.scheduler.start(0.0))

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Fork(number):
                    self.forks += 1
                    self.do(self.scheduler.step(Booted(number), 0.0))
                case Send(number, frame):
                    self.runs[frame.decode()] = number
                case Refuse(name, failure):
                    self.refused[str(name)] = failure
                case Kill():
                    self.kills += 1

    def submit(self, name: str, parent: str | None = None, deadline_ms: int | None = None) -> None:
        request = Request("predict", name, None, Meta(deadline_ms=deadline_ms))
        key = None if parent is None else parent.encode()
        self.do(self.scheduler.step(Submitted(name.encode(), request, name.encode(), (), ("offline",), key), 0.0))
        if parent in self.runs:
            self.do(self.scheduler.step(Called(self.runs[parent], 1, b"f", []), 0.0))

    def share(self, name: str, *followers: str) -> None:
        """A request begins a job that others join."""
        first, *others = (Request("predict", asker, None, Meta(idempotency_key="k")) for asker in (name, *followers))
        begun = Submitted(name.encode(), first, name.encode(), (), ("offline",), identity=Identity(b"same"))
        self.do(self.scheduler.step(begun, 0.0))
        for follower, request in zip(followers, others, strict=True):
            self.do(self.scheduler.step(Joined(follower.encode(), request, Identity(b"same")), 0.0))

    def cancel(self, name: str) -> None:
        self.do(self.scheduler.step(CancelAsked("c", name.encode()), 0.0))

    def finish(self, name: str) -> None:
        self.do(self.scheduler.step(Finished(self.runs.pop(name), True, None), 0.0))


def test_a_nested_request_runs_beside_the_only_worker_whose_job_waits_for_it() -> None:
    machine = Machine()
    machine.submit("a")
    machine.submit("a1", "a")
    assert set(machine.runs) == {"a", "a1"}


def test_a_nested_request_passes_those_that_wait_and_is_taken_where_the_queue_is_full() -> None:
    machine = Machine(max_queue=1)
    machine.submit("a")
    machine.submit("b")
    machine.submit("a1", "a")
    assert set(machine.runs) == {"a", "a1"}
    machine.finish("a1")
    assert set(machine.runs) == {"a"}, "the place that is lent is not for others"
    machine.finish("a")
    assert set(machine.runs) == {"b"}


def test_a_nested_request_is_not_held_back_by_a_limit_that_its_parent_fills() -> None:
    machine = Machine(workers=2, verb_limits={"predict": 1}, endpoint_limits={"offline": 1})
    machine.submit("a")
    machine.submit("a1", "a")
    machine.submit("b")
    assert set(machine.runs) == {"a", "a1"}


def test_nested_requests_take_no_place_from_those_that_wait() -> None:
    machine = Machine(workers=2)
    machine.submit("a")
    machine.submit("a1", "a")
    machine.submit("b")
    assert set(machine.runs) == {"a", "a1", "b"}


def test_many_nested_requests_of_one_job_share_the_one_place_that_it_lends() -> None:
    machine = Machine()
    machine.submit("a")
    for name in ("a1", "a2", "a3"):
        machine.submit(name, "a")
    assert set(machine.runs) == {"a", "a1"}
    machine.finish("a1")
    machine.finish("a2")
    assert set(machine.runs) == {"a", "a3"}
    assert machine.forks == 2, "the worker stays for as long as the parent does"


def test_a_worker_that_was_there_for_nested_requests_goes_with_the_last_who_lent_a_place() -> None:
    machine = Machine(spare_workers=1)
    machine.submit("a")
    machine.submit("a1", "a")
    machine.finish("a1")
    assert machine.kills == 0
    machine.finish("a")
    assert machine.kills == 1
    assert len(machine.scheduler.roster.lasting()) == 2
    assert machine.scheduler.roster.restarts == 0
    assert machine.scheduler.nesting.lent == 0


def test_a_request_within_a_request_within_a_request_runs() -> None:
    machine = Machine()
    for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "c")):
        machine.submit(name, parent)
    assert set(machine.runs) == set("abcd")


def test_where_nothing_is_left_to_lend_and_all_wait_for_each_other_the_newest_is_refused_at_once() -> None:
    machine = Machine(nested_workers=2)
    for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "c")):
        machine.submit(name, parent)
    assert set(machine.runs) == set("abc")
    failure = machine.refused["d"]
    assert isinstance(failure, Overloaded)
    assert "raise nested_workers, which is 2" in failure.message
    assert failure.context == {"waiting": 1, "running": 3, "workers": 1, "limit": 2}


def test_a_nested_request_waits_where_somebody_else_will_end() -> None:
    machine = Machine(workers=2, nested_workers=0)
    machine.submit("a")
    machine.submit("b")
    machine.submit("a1", "a")
    assert not machine.refused
    machine.finish("b")
    assert set(machine.runs) == {"a", "a1"}


def test_the_last_who_could_have_made_room_finds_out_that_all_wait() -> None:
    machine = Machine(workers=2, nested_workers=0)
    machine.submit("a")
    machine.submit("b")
    machine.submit("a1", "a")
    machine.submit("b1", "b")
    assert set(machine.refused) == {"b1"}
    machine.finish("b")
    assert "a1" in machine.runs


def test_a_shared_job_that_goes_to_another_asker_lends_its_place_no_longer_than_it_runs() -> None:
    machine = Machine()
    machine.share("a", "b")
    machine.submit("a1", "a")
    machine.finish("a1")
    machine.cancel("a")
    assert machine.scheduler.nesting.lent == 1, "the job runs, and its function may ask again"
    machine.finish("a")
    assert machine.scheduler.nesting.lent == 0
    assert machine.kills == 1


def test_a_shared_job_that_goes_to_another_asker_waits_for_what_was_nested_in_it() -> None:
    machine = Machine(nested_workers=1)
    machine.share("a", "b")
    machine.submit("a1", "a")
    machine.cancel("a")
    machine.submit("a1x", "a1")
    assert isinstance(machine.refused["a1x"], Overloaded), "all who run wait for it"


def test_a_parent_in_another_node_lends_a_place_as_well() -> None:
    machine = Machine()
    machine.submit("a")
    machine.submit("x1", "elsewhere")
    assert set(machine.runs) == {"a", "x1"}
    machine.finish("x1")
    assert machine.scheduler.nesting.lent == 0


def test_nested_requests_that_wait_are_cancelled_and_time_out_like_others() -> None:
    machine = Machine()
    machine.submit("a")
    machine.submit("a1", "a")
    machine.submit("a2", "a")
    machine.submit("a3", "a", deadline_ms=1000)
    machine.do(machine.scheduler.step(CancelAsked("c", b"a2"), 0.5))
    assert isinstance(machine.refused["a2"], Cancelled)
    machine.do(machine.scheduler.step(Tick(), 1.0))
    assert isinstance(machine.refused["a3"], DeadlineExceeded)
    machine.finish("a1")
    machine.finish("a")
    assert not machine.scheduler.nesting.waiting
    assert machine.scheduler.nesting.lent == 0
    assert machine.scheduler.in_flight.frame_bytes == 0


def test_a_job_that_may_finish_before_a_shutdown_may_have_what_it_needs_for_that() -> None:
    machine = Machine()
    machine.submit("a")
    machine.do(machine.scheduler.step(ShutdownAsked((), 10.0), 0.0))
    machine.submit("a1", "a")
    assert set(machine.runs) == {"a", "a1"}
    machine.submit("b")
    machine.submit("x1", "elsewhere")
    assert set(machine.refused) == {"b", "x1"}


def test_a_shutdown_answers_nested_requests_that_wait() -> None:
    machine = Machine()
    machine.submit("a")
    machine.submit("a1", "a")
    machine.submit("a2", "a")
    machine.do(machine.scheduler.step(ShutdownAsked((), 0.0), 0.0))
    assert set(machine.refused) == {"a", "a1", "a2"}


@settings(max_examples=150, deadline=None)
@given(
    workers=st.integers(1, 3),
    nested_workers=st.integers(0, 3),
    spares=st.integers(0, 1),
    moves=st.lists(st.tuples(st.sampled_from(["submit", "nest", "finish", "cancel"]), st.integers(0, 9)), max_size=40),
)
def test_whatever_comes_something_that_runs_can_end_and_all_are_answered(
    workers: int, nested_workers: int, spares: int, moves: list[tuple[str, int]]
) -> None:
    machine = Machine(workers, nested_workers=nested_workers, spare_workers=spares, max_queue=5)
    parents: dict[str, str] = {}

    def waited_for() -> set[str]:
        """Jobs that cannot end: an unanswered request was made for them."""
        unanswered = {entry.request.id for entry in machine.scheduler.in_flight.entries.values()}
        return {parent for child, parent in parents.items() if child in unanswered}

    def finish(which: int) -> None:
        able = sorted(machine.runs.keys() - waited_for())
        assert able or not machine.runs, "all that run wait for each other"
        if able:
            machine.finish(able[which % len(able)])

    for number, (move, which) in enumerate(moves):
        name = f"job {number}"
        match move:
            case "submit":
                machine.submit(name)
            case "nest" if machine.runs:
                parents[name] = sorted(machine.runs)[which % len(machine.runs)]
                machine.submit(name, parents[name])
            case "finish":
                finish(which)
            case "cancel" if machine.scheduler.nesting.waiting:
                machine.do(
                    machine.scheduler.step(CancelAsked(name, next(iter(machine.scheduler.nesting.waiting))), 0.0)
                )
        assert len(machine.runs) <= workers + nested_workers
        assert len(machine.scheduler.roster.lasting()) <= workers + spares + nested_workers
    while machine.runs:
        finish(0)
    assert not machine.scheduler.in_flight.entries
    assert machine.scheduler.nesting.lent == 0
    assert len(machine.scheduler.roster.lasting()) == workers + spares
