"""A capture on a disk: written by a thread, rotated, followed, and given up where the disk refuses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from erlbridge.codec import term_to_binary
from erlbridge.node.capture_files import CaptureFiles, older_files
from erlbridge.node.capture_log import CaptureLog
from erlbridge.tools.captures import read_capture
from erlbridge.wire.capture import FILE_HEADER, HOST, Damage, Entry, Note, Record
from erlbridge.wire.redaction import Redaction

KEY = b"sk-0123456789abcdef"


def log_to(
    path: Path, *, max_bytes: int = 1 << 20, keep: int = 4, frame_bytes: int = 1 << 16, secret: bytes = KEY
) -> CaptureLog:
    files = CaptureFiles(path, max_bytes, keep)
    files.open()
    return CaptureLog(files, Redaction([secret]), frame_bytes, {"os_pid": 7})


def records(entries: Iterator[Entry]) -> list[Record]:
    return [entry for entry in entries if isinstance(entry, Record)]


def notes(path: Path) -> list[tuple[str, dict[str, object]]]:
    return [(entry.name, dict(entry.facts)) for entry in read_capture(path) if isinstance(entry, Note)]


def test_frames_are_written_in_order_with_their_wires_and_times(tmp_path: Path) -> None:
    path = tmp_path / "made" / "x.ecap"
    log = log_to(path)
    log.add(HOST, "in", b"\x83a\x01")
    log.add(2, "out", memoryview(b"\x83a\x02"))
    log.close("done")
    first, second = records(read_capture(path))
    assert (first.number, first.wire, first.direction, first.frame) == (1, HOST, "in", b"\x83a\x01")
    assert (second.number, second.wire, second.direction, second.frame) == (2, 2, "out", b"\x83a\x02")
    assert 0 < first.monotonic_ns <= second.monotonic_ns
    assert 0 < first.wall_ns <= second.wall_ns
    assert notes(path) == [("opened", {"os_pid": 7}), ("closed", {"reason": "done"})]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["x.ecap"]


def test_a_long_frame_is_kept_in_part_and_no_secret_shows_at_its_cut(tmp_path: Path) -> None:
    log = log_to(tmp_path / "x.ecap", frame_bytes=100)
    log.add(HOST, "in", b"\x83" + b"a" * 89 + KEY + b"b" * 5000)
    log.close("done")
    (record,) = records(read_capture(tmp_path / "x.ecap"))
    assert (record.size, record.cut, record.redacted) == (90 + len(KEY) + 5000, True, True)
    assert record.frame == b"\x83" + b"a" * 89 + b"*" * 10


def test_a_known_secret_longer_than_any_slack_shows_no_part_at_a_cut(tmp_path: Path) -> None:
    secret = b"-----BEGIN PRIVATE KEY-----" + b"k" * 3000
    log = log_to(tmp_path / "x.ecap", frame_bytes=100, secret=secret)
    log.add(HOST, "in", b"\x83" + b"a" * 49 + secret)
    log.close("done")
    (record,) = records(read_capture(tmp_path / "x.ecap"))
    assert record.frame == b"\x83" + b"a" * 49 + b"*" * 50


def test_a_compressed_frame_that_was_unpacked_and_cut_says_that_it_is_cut(tmp_path: Path) -> None:
    log = log_to(tmp_path / "x.ecap", frame_bytes=1000)
    log.add(HOST, "in", term_to_binary({b"text": b"a" * 50_000, b"api_key": KEY}, compressed=True))
    log.close("done")
    (record,) = records(read_capture(tmp_path / "x.ecap"))
    assert record.cut
    assert record.redacted


def test_a_capture_goes_on_behind_what_a_crash_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "x.ecap"
    log = log_to(path)
    log.add(HOST, "in", b"\x83a\x01")
    log.close("done")
    os.truncate(path, path.stat().st_size - 3)
    log = log_to(path)
    log.add(HOST, "in", b"\x83a\x02")
    log.close("done")
    entries = list(read_capture(path))
    assert [record.frame for record in records(iter(entries))] == [b"\x83a\x01", b"\x83a\x02"]
    assert sum(isinstance(entry, Damage) for entry in entries) == 1
    path.write_bytes(FILE_HEADER[:5])
    log_to(path).close("done")
    assert [name for name, _ in notes(path)] == ["opened", "closed"]


def test_files_are_rotated_by_size_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "x.ecap"
    log = log_to(path, max_bytes=4096, keep=3)
    for number in range(40):
        log.add(HOST, "in", bytes([131, 109]) + number.to_bytes(4) + bytes(800))
    log.close("done")
    older = older_files(path)
    assert len(older) == 2
    assert all(file.stat().st_size <= 4096 for file in (*older, path))
    found = records(read_capture(path))
    assert [record.number for record in found] == list(range(found[0].number, 41))
    assert [name for name, _ in notes(older[0])] == ["opened"]


def test_a_capture_that_is_rotated_can_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.ecap"
    log = log_to(path, max_bytes=4096, keep=50)
    following = (entry for entry in read_capture(path, follow=True) if isinstance(entry, Record))
    frames = [bytes([131, 109]) + number.to_bytes(4) + bytes(1000) for number in range(12)]
    for frame in frames[:5]:
        log.add(HOST, "in", frame)
    assert [record.frame for record in islice(following, 5)] == frames[:5]
    for frame in frames[5:7]:
        log.add(HOST, "in", frame)
    log.close("done")
    assert [record.frame for record in islice(following, 2)] == frames[5:7]


def test_what_does_not_fit_is_lost_counted_and_told_of(tmp_path: Path) -> None:
    log = log_to(tmp_path / "x.ecap", max_bytes=1 << 30, frame_bytes=1 << 22)
    large = bytes(1 << 22)
    for _ in range(20):
        log.add(HOST, "in", large)
    log.close("done")
    lost = log.progress().lost
    assert 0 < lost < 20
    found = list(read_capture(tmp_path / "x.ecap"))
    assert len(records(iter(found))) == 20 - lost
    told = [entry.facts for entry in found if isinstance(entry, Note) and entry.name == "lost"]
    assert told == [{"frames": lost, "bytes": lost << 22}]


def test_two_writers_of_one_name_write_two_files(tmp_path: Path) -> None:
    first, second = log_to(tmp_path / "x.ecap"), log_to(tmp_path / "x.ecap")
    first.add(HOST, "in", b"1")
    second.add(HOST, "in", b"2")
    first.close("done")
    second.close("done")
    assert [record.frame for record in records(read_capture(tmp_path / "x.ecap"))] == [b"1"]
    assert [record.frame for record in records(read_capture(tmp_path / "x-2.ecap"))] == [b"2"]


@pytest.mark.parametrize("kind", ["text", "link", "pipe", "directory", "later"])
def test_what_is_no_capture_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "x.ecap", tmp_path / "other"
    other.write_bytes(b"precious")
    match kind:
        case "text":
            path.write_bytes(b"precious")
        case "link":
            path.symlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "later":
            path.write_bytes(FILE_HEADER[:8] + (2).to_bytes(4) + bytes(4))
    before = path.read_bytes() if kind in ("text", "later") else b""
    with pytest.raises(OSError, match=r".+"):
        CaptureFiles(path, 1 << 20, 3).open()
    assert other.read_bytes() == b"precious"
    assert not before or path.read_bytes() == before


def test_a_disk_that_refuses_ends_the_capture_and_says_why(tmp_path: Path) -> None:
    log = log_to(tmp_path / "x.ecap", max_bytes=64)
    (tmp_path / "x.ecap").unlink()  # so that it cannot be set aside
    log.add(HOST, "in", b"1" * 100)
    log.add(HOST, "in", b"2" * 100)
    log.close("done")
    assert log.trouble is not None
    assert "No such file" in log.trouble
    log.add(HOST, "in", b"3")
