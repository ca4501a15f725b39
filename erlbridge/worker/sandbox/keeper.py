"""The sandboxes of one forkserver's workers: what is found once for all, what each is given, what is cleaned up.

Lives in the forkserver; `Sandbox.enter` is called in the worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from erlbridge.core.allotment import WorkerSettings
from erlbridge.core.sandbox import OFF, REQUIRED, Report
from erlbridge.worker.sandbox.confine import Policy, Unconfined, confine, max_processes
from erlbridge.worker.sandbox.homes import Homes
from erlbridge.worker.sandbox.reach import Reach, find_reach, finds_deno

_UNCONFINED: Final = 1


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the next worker is given."""

    policy: Policy
    homes: Homes

    def enter(self) -> Report:
        """In the worker, before its first thread: holds it in. Ends the process, with a line that says why, when it
        must be held fully and cannot be."""
        self.homes.leave()
        try:
            return confine(self.policy)
        except Unconfined as error:
            say(error)
            os._exit(_UNCONFINED)


class Keeper:
    """Makes a sandbox for each worker that is forked, and removes what it leaves.

    Made before the forkserver loads what is heavy; what is loaded then can be read by every worker. With the mode
    `REQUIRED` a sandbox is tried out at once, in a child: the forkserver that cannot have it says why and ends, which
    the node passes on to whoever waits for a worker.

    Raises:
        Unconfined: That is so; the reason has been said.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._homes = Homes(Path(settings.data))
        self._common: Policy | None = None
        if settings.sandbox != OFF and finds_deno():
            # Its user's own cache is not a worker's to write.
            os.environ.setdefault("DENO_DIR", f"{settings.shared}/deno")
        if settings.sandbox == REQUIRED:
            self._try()

    def sandbox(self, number: int) -> Sandbox:
        """Of a worker that is forked now."""
        if self._settings.sandbox == OFF:
            return Sandbox(Policy(OFF), self._homes)
        if self._common is None:
            self._common = self._policy(find_reach(os.environ), max_processes())
        with suppress(OSError):  # what is not there now, no rule can name
            Path(self._settings.datasets).mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):  # the worker says so when it finds no file there, and keeps its own in memory
            Path(self._settings.shared).mkdir(mode=0o700, parents=True, exist_ok=True)
        return Sandbox(replace(self._common, home=self._homes.make(number)), self._homes)

    def gone(self, number: int) -> None:
        """The worker has ended."""
        self._homes.remove(number)

    def cleaners(self) -> Collection[int]:
        """Processes that remove what workers left; they end by themselves."""
        return self._homes.cleaners()

    def close(self) -> None:
        """All workers have ended, and no further one comes."""
        self._homes.close()

    def _policy(self, reach: Reach, most_processes: int | None) -> Policy:
        return Policy(
            mode=self._settings.sandbox,
            shared=Path(self._settings.shared),
            reach=replace(reach, readable=(*reach.readable, Path(self._settings.datasets))),
            ports=self._settings.sandbox_ports,
            max_processes=most_processes,
        )

    def _try(self) -> None:
        sandbox = Sandbox(replace(self._policy(Reach(), None), home=self._homes.make(0)), self._homes)
        pid = os.fork()
        if pid == 0:
            sandbox.enter()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        self.gone(0)
        if status != 0:
            self.close()
            raise Unconfined


def say(error: Unconfined) -> None:
    """Tells it on standard error, which is the host's log."""
    sys.stderr.write(f"erlbridge: {error}\n")
    sys.stderr.flush()
