"""Which cached questions this node answers for all nodes of its store: claims taken, kept while the job goes on, and
given back.

A claim is taken and given back on the disk's thread; which of them are kept is known to the loop, by the jobs. An index
that refuses costs the claim and not the job: it may be done twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from erlbridge.core.queue import Entry
from erlbridge.node.disk import Disk
from erlbridge.store.claims import Claims

LEASE_S: Final = 30.0
"""How long other nodes wait for one that was killed."""
_KEEP_S: Final = LEASE_S / 3
_LOOK_S: Final = 0.25
"""How often it is seen whether a job has ended without a result to keep."""


def claim_of(cached_as: bytes | None) -> str:
    """The claim on a cached question."""
    assert cached_as is not None  # noqa: S101 - whoever asks has seen that it is cached
    return f"cache:{cached_as.hex()}"


class Claiming:
    """The claims of one node. `say` is told, in a line, of an index that refuses."""

    def __init__(self, claims: Claims, disk: Disk, say: Callable[[str], None]) -> None:
        self._claims = claims
        self._disk = disk
        self._say = say
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{os.urandom(8).hex()}"
        self._taken: set[str] = set()
        """The disk thread's own."""
        self._jobs: dict[str, Entry] = {}
        self._keep_at = 0.0
        self._look_at = 0.0

    # -- on the disk's thread

    def sweep(self) -> None:
        """Forgets what dead nodes left. Raises `OSError`."""
        self._claims.sweep()

    def take(self, name: str) -> bool:
        """Whether the question is this job's to answer: nobody else has it, in this node or in another."""
        if name in self._taken:
            return False
        try:
            taken = self._claims.take(name, self._owner, LEASE_S)
        except OSError as error:
            self._say(f"whether another node does the same is not known: {error}")
            taken = True
        if taken:
            self._taken.add(name)
        return taken

    def release(self, name: str) -> None:
        """The question is answered, or will not be."""
        if name in self._taken:
            self._taken.discard(name)
            try:
                self._claims.release(name, self._owner)
            except OSError as error:
                self._say(f"other nodes wait for a claim that was not given back, {LEASE_S:g} s at most: {error}")

    # -- in the loop

    def note(self, name: str, entry: Entry, now: float) -> None:
        """A job has a claim, until it has been answered."""
        if not self._jobs:
            self._keep_at, self._look_at = now + _KEEP_S, now + _LOOK_S
        self._jobs[name] = entry

    def give_back(self, name: str) -> None:
        """Releases a claim of which nothing comes."""
        self._disk.run("a claim", lambda: self.release(name), lambda _: None)

    def due_at(self) -> float | None:
        """When `look` has something to do; None when there is no claim."""
        return self._look_at if self._jobs else None

    def look(self, now: float) -> None:
        """Keeps the claims of jobs that go on, and gives those of others back."""
        if not self._jobs or now < self._look_at:
            return
        self._look_at = now + _LOOK_S
        for name in [name for name, entry in self._jobs.items() if entry.answered]:
            del self._jobs[name]
            self.give_back(name)
        if self._jobs and now >= self._keep_at:
            self._keep_at = now + _KEEP_S
            names = tuple(self._jobs)
            self._disk.run_if_room("claims", lambda: self._keep(names), lambda _: None)

    def end(self) -> None:
        """The node ends."""
        if self._jobs:
            self._jobs.clear()
            self._disk.run("claims", lambda: self._claims.release_all(self._owner), lambda _: None)

    def _keep(self, names: tuple[str, ...]) -> None:
        try:
            self._claims.keep(names, self._owner, LEASE_S)
        except OSError as error:
            self._say(f"claims were not kept, and other nodes may do the same: {error}")
