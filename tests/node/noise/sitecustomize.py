"""Makes a noisy process of the node and of its workers, in every way in which a process can print.

Python imports this by its name at the start of each process whose PYTHONPATH holds this directory.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import warnings
from typing import Any

KEY = os.environ.get("NOISE_KEY", "")


def noise(place: str) -> None:
    """Prints, writes, draws, logs, warns and reads."""
    print(f"printed in {place}")
    os.write(1, f"written in {place}\n".encode())
    os.write(2, f"complained in {place}\n".encode())
    ctypes.CDLL(None).printf(f"from C in {place}\n".encode())
    for state in range(200):
        sys.stderr.write(f"\rbar of {place} {state}")
    sys.stderr.write("\n")
    subprocess.run(["echo", f"child in {place}"], check=True)
    try:
        input()
    except EOFError:
        print(f"nothing to read in {place}")


def loud_python(place: str) -> None:
    """What goes through Python's logging, threads and warnings."""
    logging.getLogger("third.party").info("not worth telling")
    logging.getLogger("third.party").critical("critical in %s, key %s", place, KEY)
    logging.getLogger("dspy.part").info("dspy in %s", place)
    own = logging.getLogger("own.console")
    own.addHandler(logging.StreamHandler())
    own.propagate = False
    own.warning("own console in %s", place)
    warnings.warn(f"warned in {place}", UserWarning, stacklevel=1)
    try:
        raise ValueError(f"traceback of {place} with {KEY}\n" + "x" * 20_000)
    except ValueError:
        logging.getLogger("third.party").exception("failed in %s", place)
    thread = threading.Thread(target=lambda: 1 / 0, name=f"thread of {place}")
    thread.start()
    thread.join()


def make_worker_noisy() -> None:
    import erlbridge.worker.main as worker
    from erlbridge.programs.offline import OfflineEngine

    run, complete = worker.run, OfflineEngine.complete

    def noisy_run(job: Any, *arguments: Any) -> Any:
        place = type(job).__name__
        noise(place)
        try:
            return run(job, *arguments)
        finally:
            loud_python(place)
            os.write(1, f"unended in {place}".encode())

    def noisy_complete(*arguments: Any) -> Any:
        print("printed in a model call")
        return complete(*arguments)

    worker.run = noisy_run
    OfflineEngine.complete = noisy_complete


def make_node_noisy() -> None:
    from erlbridge.node.reception import Reception

    take = Reception.take

    def noisy_take(self: Any, key: Any, request: Any, frame: Any) -> None:
        if request.verb in os.environ["NOISE_NODE"].split():
            noise(f"the node for {request.verb}")
        take(self, key, request, frame)

    Reception.take = noisy_take


if "erlbridge.worker.forkserver" in sys.orig_argv:
    make_worker_noisy()
elif "serve" in sys.orig_argv and os.environ.get("NOISE_NODE"):
    make_node_noisy()
