"""`erlbridge audit verify`: reads the files of audit logs and prints what is wrong with them. Changes nothing."""

from __future__ import annotations

import json as json_text
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from erlbridge.core.audit_check import Checked, End, check
from erlbridge.node.audit_files import chains, opened_to_read, read_lines

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Report:
    """One file: what was found in it, or why it cannot be read."""

    path: Path
    checked: Checked | None = None
    unreadable: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong, in words."""
        if self.checked is None or self.checked.fault is None:
            return self.unreadable
        return f"line {self.checked.fault.line}: {self.checked.fault.what}"


def verify(paths: Sequence[Path], heads: Sequence[str], *, json: bool) -> int:
    """Checks every chain of the directories, and the files alone; 0 when all is whole, 1 when something is not."""
    wanted = [head.lower() for head in heads]
    reports: list[_Report] = []
    empty: list[Path] = []
    for path in paths:
        found = list(_reports(path, wanted))
        reports += found
        empty += [] if found else [path]
    held = {head: sequence for report in reports if report.checked for head, sequence in report.checked.heads.items()}
    missing = [head for head in wanted if head not in held]
    broken = bool(missing) or bool(empty) or any(report.problem for report in reports)
    if json:
        whole = {"ok": not broken, "files": [_described(report) for report in reports], "heads": held}
        print(json_text.dumps(whole | {"missing_heads": missing, "no_log": [str(path) for path in empty]}, indent=2))
        return int(broken)
    for report in reports:
        print(_line(report))
    for head, sequence in held.items():
        print(f"{head}: ok, the hash of the line with sequence number {sequence}")
    for head in missing:
        print(f"{head}: BROKEN, no line has this hash")
    for path in empty:
        print(f"{path}: BROKEN, no audit log is here")
    return int(broken)


def _reports(path: Path, heads: Sequence[str]) -> Iterator[_Report]:
    try:
        if not path.is_dir():
            yield _check(path, opened_to_read(path), None, heads)
            return
        opened = _open_chains(path)
    except OSError as error:
        yield _Report(path, unreadable=str(error))
        return
    for chain in opened:
        before: End | None = None
        for file, descriptor in chain:
            report = _check(file, descriptor, before, heads)
            before = report.checked.end if report.checked else None
            yield report


def _open_chains(directory: Path) -> list[list[tuple[Path, int]]]:
    """Every file of every chain, opened. A node may be writing: when it rotates in between, all is opened anew."""
    for attempt in range(_ATTEMPTS):
        before = chains(directory)
        opened: list[list[tuple[Path, int]]] = []
        try:
            for files in before.values():
                opened.append([])
                for file in files:
                    opened[-1].append((file, opened_to_read(file)))
            if chains(directory) == before or attempt == _ATTEMPTS - 1:
                return opened
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise
        for _, descriptor in (file for chain in opened for file in chain):
            os.close(descriptor)
    return []


def _check(path: Path, descriptor: int, before: End | None, heads: Sequence[str]) -> _Report:
    try:
        return _Report(path, check(read_lines(descriptor), before, heads))
    except OSError as error:
        return _Report(path, unreadable=str(error))


def _line(report: _Report) -> str:
    found = report.checked
    if found is None:
        return f"{report.path}: BROKEN, {report.unreadable}"
    said = f"{report.path}: {found.lines} lines"
    if found.lines:
        said += f", {found.first} to {found.last}, {found.first_time} to {found.last_time}"
    said += f": BROKEN, {report.problem}" if report.problem else ": ok"
    if found.torn_bytes:
        said += f" (line {found.lines + 1} was cut off after {found.torn_bytes} bytes)"
    return said


def _described(report: _Report) -> dict[str, object]:
    found = report.checked
    if found is None:
        return {"path": str(report.path), "ok": False, "problem": report.unreadable}
    return {
        "path": str(report.path),
        "ok": found.fault is None,
        "lines": found.lines,
        "first_sequence": found.first,
        "last_sequence": found.last,
        "first_time": found.first_time,
        "last_time": found.last_time,
        "fault_line": found.fault and found.fault.line,
        "problem": found.fault and found.fault.what,
        "torn_bytes": found.torn_bytes,
        "head": found.end.head,
    }
