"""What the fault matrix's tests measure: each value is held to its limit, and kept when somebody wants the table."""

from __future__ import annotations

import json
import os
from typing import Final, Literal

LONG: Final = bool(os.environ.get("ERLBRIDGE_LONG"))
"""Whether the fault matrix has its own sizes, such as 30 seconds and 100,000 requests, and random tests their full
number of examples; otherwise they are small. `scripts/long` asks for it."""

Unit = Literal["s", "bytes", "count", "times"]


def record(row: str, fault: str, what: str, value: float, limit: float, *, unit: Unit = "s") -> None:
    """Holds a measured value to its limit; adds it as a JSON line to the file that `ERLBRIDGE_MEASURES` names, if any.

    `row` is the matrix's row, `fault` which of its faults, `what` the thing measured, for example `no survivor after`.
    """
    if file := os.environ.get("ERLBRIDGE_MEASURES"):
        line = {"row": row, "fault": fault, "what": what, "value": value, "limit": limit, "unit": unit}
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.write(descriptor, (json.dumps(line) + "\n").encode())  # one write: tests run in several processes
        os.close(descriptor)
    assert value <= limit, f"{row}: {fault}: {what} {value:.3f} {unit}, limit {limit}"
