"""The audit log's files: whole whatever ends a node, rotated, one chain for each node that writes."""

from __future__ import annotations

import json
import os
import resource
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from erlbridge.core.audit import Record
from erlbridge.core.audit_check import Checked, End, check
from erlbridge.node.audit_files import AuditFiles, chains, opened_to_read, read_lines
from erlbridge.node.audit_log import AuditLog

EVENT: Record = {"event": "request", "outcome": "ok"}


def opened(directory: Path, max_bytes: int = 2**20, keep: int = 3) -> AuditFiles:
    files = AuditFiles(directory, max_bytes, keep, {"os_pid": 1})
    files.open()
    return files


def put(files: AuditFiles, count: int = 1) -> None:
    files.put(deque([(0, EVENT)] * count))


def killed(files: AuditFiles) -> None:
    """What the kernel does when a node dies: its descriptors are closed, its lock with them."""
    files.close()
    os.close(files._lock)


def check_all(directory: Path) -> list[Checked]:
    found = []
    for files in chains(directory).values():
        before: End | None = None
        for path in files:
            found.append(check(read_lines(opened_to_read(path)), before))
            before = found[-1].end
    return found


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_next_node_goes_on_with_the_chain(tmp_path: Path) -> None:
    for _ in range(3):
        files = opened(tmp_path / "new" / "audit")
        put(files)
        killed(files)
    (path,) = (tmp_path / "new" / "audit").glob("*.jsonl")
    assert [record["event"] for record in records(path)] == ["opened", "request", "request", "request"]
    assert [found.fault for found in check_all(path.parent)] == [None]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_nodes_on_one_directory_write_a_chain_each(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    for _ in range(3):
        put(first)
        put(second)
    assert list(chains(tmp_path)) == ["audit", "audit-2"]
    assert [(found.fault, found.lines) for found in check_all(tmp_path)] == [(None, 4), (None, 4)]
    killed(first)
    third = opened(tmp_path)
    assert list(chains(tmp_path)) == ["audit", "audit-2"], "the chain that is free again is gone on with"
    killed(second)
    killed(third)


def test_full_files_are_followed_by_new_ones_and_the_oldest_go(tmp_path: Path) -> None:
    files = opened(tmp_path, max_bytes=4096, keep=3)
    for _ in range(100):
        put(files)
    killed(files)
    (paths,) = chains(tmp_path).values()
    assert len(paths) == 3
    assert paths[-1].name == "audit.jsonl"
    assert all(path.stat().st_size <= 4096 for path in paths)
    found = check_all(tmp_path)
    assert [one.fault for one in found] == [None, None, None]
    assert found[-1].last == files.chain.sequence > 100
    again = opened(tmp_path, max_bytes=4096, keep=1)
    for _ in range(20):
        put(again)
    killed(again)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["audit.jsonl"]
    assert [one.fault for one in check_all(tmp_path)] == [None]


def test_a_line_cut_off_by_a_crash_stays_and_is_told_of_in_a_new_file(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    put(whole)
    killed(whole)
    content = (tmp_path / "whole" / "audit.jsonl").read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == 0x0A]
    for length in (0, 1, 100, *(end + by for end in ends for by in (-2, -1, 0, 1) if end + by <= len(content))):
        directory = tmp_path / str(length)
        directory.mkdir()
        (directory / "audit.jsonl").write_bytes(content[:length])
        files = opened(directory)
        put(files)
        killed(files)
        (paths,) = chains(directory).values()
        torn = length > 0 and not content[:length].endswith(b"\n")
        assert len(paths) == 1 + torn
        if torn:
            assert paths[0].read_bytes() == content[:length], "what was written is never changed"
        assert [found.fault for found in check_all(directory)] == [None] * len(paths)


@pytest.mark.parametrize("damage", [b"", b"garbage", b"garbage\n", b"\x00" * 200_000, b"\n\n\n", b"{}\n{}\n"])
def test_a_damaged_file_is_named_by_the_check_and_does_not_stop_the_log(tmp_path: Path, damage: bytes) -> None:
    files = opened(tmp_path)
    for _ in range(5):
        put(files)
    killed(files)
    path = tmp_path / "audit.jsonl"
    kept = path.read_bytes()
    path.write_bytes(kept[:-20] + damage)
    again = opened(tmp_path)
    put(again)
    killed(again)
    written = b"".join(path.read_bytes() for path in chains(tmp_path)["audit"])
    assert kept[:-20] + damage in written
    found = check_all(tmp_path)
    assert found[-1].lines >= 2
    if b"\n" in damage:
        assert found[0].fault is not None
        assert found[0].fault.line == 6
        assert found[-1].fault is None or len(found) == 1, "what was written behind the damage is whole"


def test_a_file_that_somebody_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    files = opened(tmp_path)
    put(files)
    (tmp_path / "audit.jsonl").rename(tmp_path / "elsewhere")
    files.sync()
    assert not files.is_open
    files.open()
    put(files)
    killed(files)
    elsewhere = check(read_lines(opened_to_read(tmp_path / "elsewhere")), None)
    found = check(read_lines(opened_to_read(tmp_path / "audit.jsonl")), elsewhere.end)
    assert (elsewhere.fault, found.fault, found.first) == (None, None, 3)


@pytest.mark.parametrize("kind", ["symlink", "directory", "pipe"])
def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "audit.jsonl", tmp_path / "other"
    other.write_text("precious")
    match kind:
        case "symlink":
            path.symlink_to(other)
        case "directory":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(OSError, match="audit"):
        opened(tmp_path)
    assert other.read_text() == "precious"


# -- the thread -------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(path: Path, spare_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this one's size and some bytes: a write is cut short, then refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + spare_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_full_disk_costs_lines_that_the_chain_tells_of_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(AuditFiles(tmp_path, 2**20, 3, {}))
    log.add(EVENT)
    wait_for(lambda: log.synced.sequence == 2)
    with full_disk(path, 100):
        for _ in range(5):
            log.add(EVENT)
        wait_for(lambda: log.lost == 5)
        assert check_all(tmp_path)[0].torn_bytes == 0, "the part of a line that the disk took is cut off again"
    wait_for(lambda: log.synced.sequence == 3)
    log.add(EVENT)
    log.close()
    (found,) = check_all(tmp_path)
    assert found.fault is None
    assert [record["event"] for record in records(path)] == ["opened", "request", "lost", "request"]
    assert records(path)[2]["count"] == 5
    assert [complaint[:33] for complaint in log.complaints] == [
        "the audit log cannot be written: ",
        "the audit log is written again; 5",
    ]
    assert (log.synced.sequence, log.synced.head) == (found.last, found.end.head)


def test_a_log_that_cannot_be_opened_is_told_once_and_opened_as_soon_as_it_can(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    directory.write_text("in the way")
    log = AuditLog(AuditFiles(directory, 2**20, 3, {}))
    for _ in range(100):
        log.add(EVENT)
    wait_for(lambda: log.lost == 100)
    assert len(log.complaints) == 1
    directory.unlink()
    wait_for(lambda: log.synced.sequence == 2)
    log.close()
    assert [(record["event"], record.get("count")) for record in records(directory / "audit.jsonl")] == [
        ("opened", None),
        ("lost", 100),
    ]


def test_a_record_that_cannot_be_written_costs_itself_alone(tmp_path: Path) -> None:
    log = AuditLog(AuditFiles(tmp_path, 2**20, 3, {}))
    log.add({**EVENT, "cost_usd": float("nan")})
    wait_for(lambda: log.lost == 1)
    wait_for(lambda: log.synced.sequence == 2)
    log.add(EVENT)
    log.close()
    assert [record["event"] for record in records(tmp_path / "audit.jsonl")] == ["opened", "lost", "request"]
    assert check_all(tmp_path)[0].fault is None


def test_a_disk_that_hangs_costs_lines_beyond_a_bound_and_does_not_hold_the_end_up(tmp_path: Path) -> None:
    """The disk hangs in its first call: what is opened is a pipe that nobody writes."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    class Hanging(AuditFiles):
        def open(self) -> None:
            gate.open("rb").close()  # until somebody writes

    log = AuditLog(Hanging(tmp_path, 2**20, 3, {}))
    for _ in range(10_200):
        log.add(EVENT)
    assert 0 < log.lost <= 200
    assert [complaint[:46] for complaint in log.complaints] == ["the disk of the audit log does not keep up; re"]
    before = time.monotonic()
    log.close(within_s=0.1)
    assert time.monotonic() - before < 10
    gate.open("wb").close()
