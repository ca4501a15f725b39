"""What a job may do to its worker, on a test's demand: put this folder on a node's PYTHONPATH.

Each worker starts a process in a session of its own, which starts another in one of its own. On SIGUSR1 a worker holds
the interpreter's lock in C: no other thread runs, and no handler.
"""

import os
import signal
import subprocess
import sys


def _misbehave() -> None:
    subprocess.Popen(["sh", "-c", "setsid sleep 600 & exec sleep 600"], start_new_session=True)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: sum(range(10**12)))


if sys.orig_argv[-1] == "erlbridge.worker.forkserver":
    os.register_at_fork(after_in_child=_misbehave)
