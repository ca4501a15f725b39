"""Whether an audit log is what was written: the first fault of each of its files, with the line.

A file's lines are given in order, the files of a chain from the oldest to the newest. Knows lines; opens nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from erlbridge.core.audit import FORMAT, ORIGIN, digest, own_sum, rendered

MAX_LINE_BYTES: Final = 64 * 1024
"""Longest line that is read; those that are written have about one kilobyte."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and at which line, counted from 1."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class End:
    """Where a file ends: its last whole line, and the bytes behind it that a crash left.

    `sequence` is None when the last line says none that can be read; `torn` are the bytes of a line cut off.
    """

    sequence: int | None
    head: str
    torn: bytes = b""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in one file.

    Attributes:
        lines: Whole lines; one that was cut off does not count.
        first, last: Sequence numbers, None where there is none that can be read.
        first_time, last_time: As the lines say them.
        fault: The first one; None when the file is whole.
        torn_bytes: Of a line that was cut off at the end: the node was killed or lost power while it wrote.
        end: Where the next file goes on.
        heads: Those of the heads looked for that the file holds, before its first fault, each with its sequence number.
    """

    lines: int
    first: int | None
    last: int | None
    first_time: str | None
    last_time: str | None
    fault: Fault | None
    torn_bytes: int
    end: End
    heads: dict[str, int]


def check(lines: Iterable[bytes], before: End | None, heads: Collection[str] = ()) -> Checked:
    """Checks one file.

    Args:
        lines: With their newlines; the last may lack its own.
        before: Where the file before this one ends; None when this is the oldest one there is, and what came before it
            was rotated away.
        heads: SHA-256 of lines that were noted elsewhere and are looked for.
    """
    fault: Fault | None = None
    end = before or End(None, ORIGIN)
    found: dict[str, int] = {}
    first: tuple[int | None, str | None] = (None, None)
    last = first
    count, torn = 0, b""
    for number, ended in enumerate(lines, 1):
        if not ended.endswith(b"\n"):
            torn = ended
            if len(torn) >= MAX_LINE_BYTES:
                fault = fault or Fault(number, f"a line of more than {MAX_LINE_BYTES} bytes")
            break
        line = ended[:-1]
        record = _record(line)
        fault = fault or _fault(number, line, record, end if number > 1 or before else None)
        sequence = _integer(record, "sequence")
        last = (sequence, _text(record, "time"))
        if number == 1:
            first = last
        end = End(sequence, digest(line))
        if fault is None and end.head in heads and sequence is not None:
            found[end.head] = sequence
        count = number
    end = End(end.sequence, end.head, torn)
    return Checked(count, first[0], last[0], first[1], last[1], fault, len(torn), end, found)


def ending(tail: bytes, *, whole: bool) -> End:
    """Where a file ends whose last bytes these are: the whole file, or more than its longest two lines.

    The last line counts as the end whatever it holds; its sequence number is counted on from the last one that can be
    read, so that the chain goes on behind a damaged line, and a check finds that line.
    """
    *lines, torn = tail.split(b"\n")
    if not whole:
        lines = lines[1:]  # begins somewhere within a line
    if not lines:
        return End(None, ORIGIN, torn)
    for back, line in enumerate(reversed(lines)):
        if (sequence := _integer(_record(line), "sequence")) is not None:
            return End(sequence + back, digest(lines[-1]), torn)
    return End(None, digest(lines[-1]), torn)


def _record(line: bytes) -> dict[str, object] | None:
    """A line's record; None when the line is not the canonical form of one."""
    if len(line) >= MAX_LINE_BYTES:
        return None
    try:
        record = json.loads(line)
        return record if isinstance(record, dict) and rendered(record) == line else None
    except (ValueError, RecursionError):
        return None


def _fault(number: int, line: bytes, record: dict[str, object] | None, before: End | None) -> Fault | None:
    """What is wrong with a line that comes behind `before`; None there: behind what was rotated away."""
    claimed = _text(record, "sum")
    if record is None or claimed is None or not _SHA256.match(claimed) or not own_sum(line, claimed):
        return Fault(number, "changed: it is not as it was written")
    sequence, prev = _integer(record, "sequence"), _text(record, "prev")
    if sequence is None or prev is None or sequence < 1:
        return Fault(number, "changed: it says no sequence number and no line before it")
    if number == 1 and record.get("event") != "opened":
        return Fault(number, "removed: a file begins with the line that says its format")
    if number == 1 and record.get("format") != FORMAT:
        return Fault(number, f"of format {record.get('format')}; this version reads {FORMAT}")
    if before is None:
        before = End(sequence - 1, ORIGIN if sequence == 1 else prev)
    if before.sequence is not None and sequence != before.sequence + 1:
        return Fault(number, _jump(before.sequence + 1, sequence))
    if prev != before.head:
        return Fault(number, "out of place: the line before it is not the one it was written behind")
    if number == 1 and (_integer(record, "torn_bytes") or 0, record.get("torn_sha256")) != _torn(before.torn):
        return Fault(number, f"behind a cut line of {len(before.torn)} bytes that it does not tell of as they are")
    return None


def _torn(torn: bytes) -> tuple[int, str | None]:
    return (len(torn), digest(torn)) if torn else (0, None)


def _jump(expected: int, got: int) -> str:
    if got > expected:
        return f"removed: sequence number {got} where {expected} was to come"
    return f"out of place: sequence number {got} where {expected} was to come"


def _integer(record: dict[str, object] | None, name: str) -> int | None:
    value = None if record is None else record.get(name)
    return value if type(value) is int else None


def _text(record: dict[str, object] | None, name: str) -> str | None:
    value = None if record is None else record.get(name)
    return value if isinstance(value, str) else None
