"""A /proc that hides processes from their own user leaves a node nothing to hold its workers' memory by."""

from __future__ import annotations

import pytest

from erlbridge.node.watchdog import hides_workers

ROOT = "21 1 0:19 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a,upperdir=/b\n"
OPEN = "22 21 0:21 / /proc rw,relatime - proc proc rw\n"
HIDDEN = "31 22 0:44 / /proc rw,nosuid shared:9 - proc proc rw,gid=4,hidepid=invisible\n"


@pytest.mark.parametrize(
    ("mounts", "hidden"),
    [
        (ROOT + OPEN, False),
        (ROOT + HIDDEN, True),
        (ROOT + OPEN + HIDDEN, True),
        (ROOT + HIDDEN + OPEN, False),
        (ROOT + HIDDEN.replace("hidepid=invisible", "hidepid=2"), True),
        (ROOT + HIDDEN.replace("hidepid=invisible", "hidepid=off"), False),
        (ROOT + HIDDEN.replace("/proc", "/mnt/proc"), False),
        ("", False),
    ],
)
def test_workers_are_hidden_where_the_last_mount_of_proc_hides_processes(mounts: str, hidden: bool) -> None:
    assert hides_workers(mounts) is hidden
