"""Makes each prediction of a worker print, tell progress and answer as much as the environment says.

Python imports this by its name at the start of each process whose PYTHONPATH holds this directory.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

PRINT_BYTES = int(os.environ.get("PRESSURE_PRINT_BYTES", "0"))
PROGRESS_S = float(os.environ.get("PRESSURE_PROGRESS_S", "0"))
ANSWER_BYTES = int(os.environ.get("PRESSURE_ANSWER_BYTES", "0"))


def press() -> None:
    import erlbridge.worker.main as worker
    from erlbridge.core.jobs import Predict, Progress

    run = worker.run

    def pressing_run(job: Any, desk: Any, *arguments: Any) -> Any:
        outcome = run(job, desk, *arguments)
        if isinstance(job, Predict):
            lines = b"line of output\n" * 4000
            printed = 0
            while printed < PRINT_BYTES:
                printed += os.write(1, lines)
            desk._throttle.interval_s = 0.0
            stop_at, done = time.monotonic() + PROGRESS_S, 0
            while time.monotonic() < stop_at:
                done += 1
                desk.progress(Progress("searching", done, None))
            outcome.result[b"padding"] = bytes(ANSWER_BYTES)
        return outcome

    worker.run = pressing_run


if "erlbridge.worker.forkserver" in sys.orig_argv:
    press()
