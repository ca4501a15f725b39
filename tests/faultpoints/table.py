"""The table of what was tried, as a part of a page."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from faultpoints.breaker import FAULTS, Fault
from faultpoints.trial import Tried

BEGIN: Final = "<!-- fault points -->"
END: Final = "<!-- /fault points -->"
_ORDER: Final = ("mkdir", "create", "write", "extend", "cut", "sync", "rename", "unlink", "read-open", "read")


def table(tried: list[Tried]) -> str:
    """A row for each operation on each kind of file; in each cell how many of them were tried, and what came of it."""
    cells: dict[tuple[str, str, str], dict[Fault, list[Tried]]] = defaultdict(lambda: defaultdict(list))
    for outcome in tried:
        if outcome.met:
            cells[outcome.conversation, outcome.point.name, outcome.point.operation][outcome.fault].append(outcome)
    lines = [f"| during | file | operation | {' | '.join(FAULTS)} |", "|---" * (3 + len(FAULTS)) + "|"]
    rows = sorted(cells, key=lambda key: (key[0], key[1].replace(".new-*", "~"), _ORDER.index(key[2])))
    for conversation, name, operation in rows:
        found = cells[conversation, name, operation]
        told = [_cell(found.get(fault, [])) for fault in FAULTS]
        lines.append(f"| {conversation} | `{name}` | {operation.replace('read-open', 'open')} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def put_table(page: Path, tried: list[Tried]) -> None:
    """Puts the table between a page's marks. Raises `LookupError` when it has none."""
    before, mark, rest = page.read_text().partition(BEGIN)
    _inside, end, after = rest.partition(END)
    if not mark or not end:
        raise LookupError(f"{page} has no {BEGIN} … {END} for the table")
    met = sum(outcome.met for outcome in tried)
    head = f"{met} faults were tried, each in a conversation of its own; ✓ n: all promises were kept, n times.\n\n"
    page.write_text(f"{before}{BEGIN}\n{head}{table(tried)}{END}{after}")


def _cell(outcomes: list[Tried]) -> str:
    if not outcomes:
        return ""
    broken = sum(bool(outcome.broken) for outcome in outcomes)
    return f"✗ {broken} of {len(outcomes)}" if broken else f"✓ {len(outcomes)}"
