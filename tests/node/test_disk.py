"""What waits for the disk: bounded for each transfer, so that none takes all the room."""

from __future__ import annotations

import selectors
import threading
import time

import pytest

from erlbridge.errors import Overloaded
from erlbridge.limits import MAX_TRANSFER_WINDOW, MAX_WAITING_DISK_REQUESTS
from erlbridge.node.disk import Disk, Errand
from erlbridge.node.transfer_verbs import window


def test_a_transfer_that_ignores_its_window_is_overloaded_and_others_are_not() -> None:
    go_on = threading.Event()
    answered: list[object] = []
    with selectors.PollSelector() as selector:
        disk = Disk(selector, lambda request_id, _outcome: answered.append(request_id))
        greedy = Errand(go_on.wait, 1, "greedy")
        for number in range(MAX_TRANSFER_WINDOW):
            disk.put(b"%d" % number, number, "data_chunk", greedy)
        with pytest.raises(Overloaded, match="no more than `window`"):
            disk.put(b"more", -1, "data_chunk", greedy)
        disk.put(b"other", -2, "data_chunk", Errand(go_on.wait, 1, "other"))
        assert disk.lanes == 2
        go_on.set()
        disk.finish(30)
        assert answered == [*range(MAX_TRANSFER_WINDOW), -2]
        assert disk.lanes == 0
        disk.put(b"more", -1, "data_chunk", greedy)
        disk.finish(30)


def test_ten_transfers_together_may_send_what_fits_into_the_room() -> None:
    assert [window(transfers) for transfers in (0, 1, 4, 10, 100)] == [16, 16, 16, 6, 1]


def test_what_comes_again_while_the_disk_hangs_is_bounded_and_what_the_node_needs_is_done() -> None:
    go_on = threading.Event()
    heard: list[object] = []
    with selectors.PollSelector() as selector:
        disk = Disk(selector, lambda _request_id, _outcome: None)
        disk.run("hanging", go_on.wait, heard.append)
        for _ in range(MAX_WAITING_DISK_REQUESTS):
            disk.run_if_room("a look", lambda: "seen", heard.append)
        assert [type(outcome) for outcome in heard] == [Overloaded]
        disk.run("a claim", lambda: "released", heard.append)
        go_on.set()
        disk.finish(30)
    assert (heard.count("seen"), heard[-1]) == (MAX_WAITING_DISK_REQUESTS - 1, "released")


def test_what_is_cancelled_or_late_before_the_thread_has_it_is_over_once_and_its_id_is_free() -> None:
    go_on = threading.Event()
    done: list[object] = []
    answered: list[tuple[object, str]] = []

    def work(number: int) -> Errand:
        return Errand(lambda: (go_on.wait(), done.append(number)), 1)

    with selectors.PollSelector() as selector:
        disk = Disk(selector, lambda number, outcome: answered.append((number, type(outcome).__name__)))
        for number in range(MAX_TRANSFER_WINDOW):  # as many as the thread has at once
            disk.put(b"%d" % number, number, "list_programs", work(number))
        disk.put(b"cancelled", -1, "list_programs", work(-1))
        disk.put(b"late", -2, "list_programs", work(-2), deadline_ms=0)
        disk.cancel(b"cancelled")
        disk.look(time.monotonic())
        assert answered == [(-1, "Cancelled"), (-2, "DeadlineExceeded")]
        disk.put(b"cancelled", -3, "list_programs", work(-3))
        go_on.set()
        disk.finish(30)
    assert done == [*range(MAX_TRANSFER_WINDOW), -3]
    assert [number for number, _ in answered[2:]] == done
