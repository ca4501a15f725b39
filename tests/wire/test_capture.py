"""The format of captures: what survives cuts and damage, at whatever byte."""

from __future__ import annotations

import time
from dataclasses import replace
from struct import pack
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.wire.capture import (
    FILE_HEADER,
    HOST,
    MARKER,
    RECORD_HEADER_BYTES,
    CaptureError,
    CaptureReader,
    Damage,
    Entry,
    Note,
    Record,
    encoded,
)

RECORDS = [
    Record(1, HOST, "in", 10, 1_000, 5, b"\x83h\x02a\x01"),
    Record(2, 3, "out", 11, 1_001, 900, b"\x83" + b"long" * 20, redacted=True),
    Record(3, 2**32 - 1, "in", 2**63 - 1, -1, 0, b""),
]
ENTRIES: list[Record | Note] = [
    Note(1, "opened", {"node_version": "0.1.0", "os_pid": 4711}, 9, 999),
    *RECORDS,
    Note(4, "lost", {"frames": 2, "bytes": 70}, 12, 1_002),
]


def placed(entries: list[Record | Note]) -> list[Record | Note]:
    """The entries with the offsets that they have in a file."""
    found: list[Record | Note] = []
    offset = len(FILE_HEADER)
    for entry in entries:
        found.append(replace(entry, offset=offset))
        offset += len(encoded(entry))
    return found


FILE = FILE_HEADER + b"".join(map(encoded, ENTRIES))
ENTRIES = placed(ENTRIES)


def read(content: bytes, *, step: int | None = None) -> list[Entry]:
    reader = CaptureReader()
    found: list[Entry] = []
    for at in range(0, len(content), step or len(content) or 1):
        reader.feed(content[at : at + (step or len(content))])
        found += reader
    return [*found, *reader.finish()]


def test_what_was_written_is_read_whole_or_byte_by_byte() -> None:
    assert read(FILE) == ENTRIES
    assert read(FILE, step=1) == ENTRIES
    assert [RECORDS[1].cut, RECORDS[0].cut, RECORDS[1].wire_name, RECORDS[0].wire_name] == [
        True, False, "worker 3", "host",
    ]  # fmt: skip


def test_a_capture_cut_at_any_byte_still_opens() -> None:
    ends = [entry.offset for entry in ENTRIES[1:]] + [len(FILE)]
    for cut in range(len(FILE)):
        found = read(FILE[:cut])
        whole = [entry for entry, end in zip(ENTRIES, ends, strict=True) if end <= cut]
        assert found[: len(whole)] == whole
        start = ends[len(whole) - 1] if whole else len(FILE_HEADER)
        rest = [Damage(start, cut - start, "the file ends inside a record")] if cut > start else []
        assert found[len(whole) :] == rest


@pytest.mark.parametrize("change", [0x01, 0xFF])
def test_damage_at_any_byte_costs_one_record_and_says_where(change: int) -> None:
    for at in range(len(FILE_HEADER), len(FILE)):
        content = bytearray(FILE)
        content[at] ^= change
        found = read(bytes(content))
        hit = max(index for index, entry in enumerate(ENTRIES) if entry.offset <= at)
        assert [entry for entry in found if not isinstance(entry, Damage)] == [*ENTRIES[:hit], *ENTRIES[hit + 1 :]]
        (damage,) = [entry for entry in found if isinstance(entry, Damage)]
        assert damage.offset == ENTRIES[hit].offset
        assert damage.size == len(encoded(ENTRIES[hit]))


def test_what_is_appended_behind_a_cut_record_is_read() -> None:
    later = Note(1, "opened", {"os_pid": 4712}, 20, 2_000)
    found = read(FILE[:-7] + encoded(later))
    assert found[: len(ENTRIES) - 1] == ENTRIES[:-1]
    assert isinstance(found[-2], Damage)
    assert replace(found[-1], offset=0) == later  # type: ignore[type-var]


def test_a_length_that_lies_does_not_swallow_what_comes_behind_it() -> None:
    content = bytearray(FILE)
    at = RECORDS_AT[0] + 40
    content[at : at + 4] = b"\x0f\xff\xff\xff"
    assert [entry for entry in read(bytes(content)) if isinstance(entry, Record)] == ENTRIES[2:4]


RECORDS_AT = [entry.offset for entry in ENTRIES if isinstance(entry, Record)]


def test_what_is_appended_behind_a_cut_record_is_read_also_where_it_is_shorter_than_what_was_cut_off() -> None:
    long = encoded(Record(4, HOST, "in", 12, 1_002, 9_000, b"x" * 9_000))
    found = read(FILE + long[:3_000] + encoded(RECORDS[0]))
    assert found[: len(ENTRIES)] == ENTRIES
    assert found[len(ENTRIES)] == Damage(len(FILE), 3_000, "the file ends inside a record")
    assert found[len(ENTRIES) + 1 :] == [replace(RECORDS[0], offset=len(FILE) + 3_000)]


def headers_alone(count: int, length: int) -> bytes:
    """The headers of records that are so long, and nothing of the records."""
    return encoded(Record(1, HOST, "in", 10, 1_000, length, bytes(length)))[:RECORD_HEADER_BYTES] * count


def test_a_record_is_found_within_some_damaged_ones_that_lie_within_each_other() -> None:
    whole = encoded(RECORDS[0])
    found = read(FILE_HEADER + headers_alone(8, 1_000) + whole + b"x" * 2_000)
    assert [entry.frame for entry in found if isinstance(entry, Record)] == [RECORDS[0].frame]


@pytest.mark.parametrize("step", [None, 100_000])
def test_records_that_claim_all_that_is_behind_them_are_summed_a_few_times_and_not_once_each(step: int | None) -> None:
    """Of 4 MB, which were 77,000 sums of up to 2 MB each: half a minute and more."""
    count, length = 77_000, 2_000_000
    content = FILE_HEADER + headers_alone(count, length) + encoded(RECORDS[0])
    began = time.process_time()
    found = read(content, step=step)
    assert time.process_time() - began < 3
    assert sum(entry.size for entry in found if isinstance(entry, Damage)) == count * RECORD_HEADER_BYTES
    assert "more than 8 within each other" in found[1].problem  # type: ignore[union-attr]
    assert found[-1] == replace(RECORDS[0], offset=len(FILE_HEADER) + count * RECORD_HEADER_BYTES)


def test_a_kind_of_record_that_is_not_known_is_passed_over() -> None:
    head = bytearray(encoded(RECORDS[0])[:48])
    head[4] = 77
    unknown = bytes(head) + pack(">I", crc32(head)) + RECORDS[0].frame
    assert [replace(entry, offset=0) for entry in read(FILE_HEADER + unknown + encoded(RECORDS[0]))] == [RECORDS[0]]  # type: ignore[type-var]


def test_a_capture_of_a_later_version_is_refused_by_number() -> None:
    with pytest.raises(CaptureError, match="version 2; this erlbridge reads version 1"):
        read(FILE_HEADER[:8] + (2).to_bytes(4) + FILE[12:])


def test_what_is_no_capture_is_refused_and_an_empty_one_is_empty() -> None:
    with pytest.raises(CaptureError, match="no capture"):
        read(b"hello, world, this is no capture")
    assert read(b"") == []
    assert read(FILE_HEADER) == []


@given(st.binary(max_size=300))
def test_no_bytes_behind_a_header_are_a_fault(content: bytes) -> None:
    found = read(FILE_HEADER + content)
    assert all(isinstance(entry, Damage) for entry in found)
    assert sum(entry.size for entry in found if isinstance(entry, Damage)) == len(content)


@given(st.lists(st.sampled_from([MARKER, MARKER[:2], b"\0" * 40, b"x", encoded(RECORDS[0])]), max_size=12))
def test_whole_records_are_found_among_anything(parts: list[bytes]) -> None:
    found = read(FILE_HEADER + b"".join(parts), step=7)
    kept = [entry.frame for entry in found if isinstance(entry, Record)]
    assert kept == [RECORDS[0].frame] * parts.count(encoded(RECORDS[0]))
