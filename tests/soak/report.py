"""docs/reliability.md: the fault matrix with what was measured, and the soak. `scripts/soak` writes it, nobody else."""

from __future__ import annotations

import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Any

from soak.run import Soaked

_HEAD = """\
# Reliability

What is broken on purpose, what must come of it, and what came of it. Written by `scripts/soak` on {today}:
Linux {kernel}, {cpus} processors, Python {python}. The faults are real: processes are killed, stopped and starved,
disks filled, files damaged, endpoints silenced. The tests in `tests/node`, `tests/interop` and `tests/soak` do it on
every run of `./scripts/test`, and fail when a limit is passed.

    ./scripts/soak                 # the matrix, then 20 minutes of load and random faults; writes this page
    ./scripts/soak 0.5 --seed 7    # half a minute, from a given seed; writes nothing

For every row: exactly one answer for each request, other requests unharmed, no process left, no growth of
descriptors, threads or memory.

## The matrix

Each figure is the worst of its tests' runs, beside the limit that the tests hold it to.

"""


def report(lines: Iterable[str], soaked: Soaked) -> str:
    """The page's text."""
    head = _HEAD.format(
        today=date.today().isoformat(),
        kernel=platform.release().split("-")[0],
        cpus=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
    )
    return f"{head}{_matrix(lines)}\n## The soak\n\n{summary(soaked)}\n"


def _matrix(lines: Iterable[str]) -> str:
    """One table for each row of the matrix, in the order in which they were measured."""
    rows: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        entry = json.loads(line)
        rows[entry["row"]][entry["fault"], entry["what"]].append(entry)
    text = ""
    for row in sorted(rows):
        text += f"### {row[:1].upper()}{row[1:]}\n\n| fault | measured | worst | limit |\n|---|---|---|---|\n"
        for (fault, what), entries in rows[row].items():
            worst = max(entry["value"] for entry in entries)
            limit, unit = entries[0]["limit"], entries[0]["unit"]
            times = f" ({len(entries)} times)" if len(entries) > 1 else ""
            text += f"| {fault} | {what}{times} | {_figure(worst, unit)} | {_figure(limit, unit)} |\n"
        text += "\n"
    return text


def _figure(value: float, unit: str) -> str:
    """A number in the unit that it was measured in."""
    match unit:
        case "bytes":
            return _mib(value)
        case "count":
            return f"{value:.0f}"
        case "times":
            return f"{value:.2f} x"
        case _:
            if abs(value) >= 10:
                return f"{value:.1f} s"
            return f"{value * 1000:.0f} ms" if abs(value) >= 0.01 else f"{value * 1000:.1f} ms"


def summary(soaked: Soaked) -> str:
    """The soak in words and tables."""
    outcomes = "\n".join(
        f"| `{name}` | {count} |" for name, count in sorted(soaked.outcomes.items(), key=lambda entry: -entry[1])
    )
    faults = "\n".join(f"| {name} | {count} |" for name, count in sorted(soaked.faults.items()))
    first, last, memory = soaked.first, soaked.last, soaked.memory
    flat = "within noise" if memory.within_noise else "MORE THAN NOISE"
    growth = f"{memory.per_minute / 1024:+.1f} ± {memory.error / 1024:.1f} KiB a minute, {flat}"
    return f"""\
{soaked.seconds / 60:.1f} minutes at full load, seed {soaked.seed}: {soaked.sent} requests sent,
{soaked.answered_once} answered exactly once; {soaked.malformed} frames that were no requests,
{sum(soaked.without_id.values())} errors without an id. The latest answer after a deadline came
{soaked.latest * 1000:.0f} ms late. The node ended with code {soaked.exit_code}; {soaked.survivors} processes
outlived it.

| the node's process | first | last | |
|---|---|---|---|
| resident memory | {_mib(first.rss_bytes)} | {_mib(last.rss_bytes)} | at most {_mib(soaked.peak_bytes)}; {growth} |
| descriptors | {first.descriptors} | {last.descriptors} | |
| threads | {first.threads} | {last.threads} | |

The growth is that of the last three quarters. Resident memory on average, tenth by tenth of the time:
{_tenths(soaked.samples)} MiB.

| outcome | requests |
|---|---|
{outcomes}

| fault | times |
|---|---|
{faults}
"""


def _tenths(samples: list[tuple[float, float]]) -> str:
    size = max(1, len(samples) // 10)
    parts = [samples[start : start + size] for start in range(0, size * 10, size)]
    return ", ".join(f"{sum(value for _, value in part) / len(part) / 2**20:.2f}" for part in parts if part)


def _mib(count_bytes: float) -> str:
    return f"{count_bytes / 2**20:.1f} MiB"
