"""What the fault matrix's tests measure: each value is held to its limit, and kept when somebody wants the table."""

from __future__ import annotations

import json
import os


def record(row: str, fault: str, what: str, seconds_or_bytes: float, limit: float) -> None:
    """Holds a measured value to its limit; adds it as a JSON line to the file that `ERLBRIDGE_MEASURES` names, if any.

    `row` is the matrix's row, `fault` which of its faults, `what` the thing measured, for example `no survivor`.
    """
    if file := os.environ.get("ERLBRIDGE_MEASURES"):
        line = {"row": row, "fault": fault, "what": what, "value": seconds_or_bytes, "limit": limit}
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.write(descriptor, (json.dumps(line) + "\n").encode())  # one write: tests run in several processes
        os.close(descriptor)
    assert seconds_or_bytes <= limit, f"{row}: {fault}: {what} {seconds_or_bytes:.3f}, limit {limit}"
