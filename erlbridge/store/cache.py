"""Results that answer every request for the same: the result cache of all nodes of a store.

What may be cached, and under which name, is decided in `core.caching`. What goes first when there is too much is what
has not been asked for longest. A disk that refuses costs a log line; then the job is done.
"""

from __future__ import annotations

from collections.abc import Callable

from erlbridge.core.caching import names_in, worth_keeping
from erlbridge.core.results import Identity, Stored, shared
from erlbridge.errors import NotFound, StorageFailed
from erlbridge.store.kept import Kept
from erlbridge.store.results import put_safely
from erlbridge.wire.messages import Term


class Cache:
    """The cached results. Blocks; for one thread.

    Args:
        get_stored: A program's or model's bytes; raises `NotFound` and `StorageFailed`. A result that names one which
            is gone, or damaged, is not what its job would give.
        say: Told, in a line, of what was not kept or cannot be read.

    Attributes:
        hits, misses: How often this node has looked for a result and found it, or not.
    """

    def __init__(self, kept: Kept, get_stored: Callable[[str], object], say: Callable[[str], None]) -> None:
        self._kept = kept
        self._get_stored = get_stored
        self._say = say
        self.hits = 0
        self.misses = 0

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._kept.bounds.age_s > 0

    def find(self, asked: Identity, verb: str, *, again: bool = False) -> Term | None:
        """The result of a question, as it is answered to somebody who does not pay for it; None when there is none.
        One that is looked for `again` was missed before."""
        assert asked.cached_as is not None  # noqa: S101 - whoever asks has seen that it is cached
        name = asked.cached_as.hex()
        try:
            found = self._kept.get(name)
            if found is not None and self._holds_true(found.stored, asked.cached_as, verb):
                self._note_use(name)
                self.hits += 1
                return shared(found.stored.result)
            if found is not None:
                self._kept.drop(name)
        except (OSError, StorageFailed) as error:
            self._say(f"cached results cannot be read: {error}")
        self.misses += not again
        return None

    def put(self, verb: str, result: Term, asked: Identity) -> None:
        """Keeps a result that is worth it: when this returns it is stored, or the log says why not."""
        assert asked.cached_as is not None  # noqa: S101 - as above
        if worth_keeping(result):
            stored = Stored(verb, asked.cached_as, result)
            if complaint := put_safely(self._kept, asked.cached_as.hex(), stored, asked, "cache_max_bytes"):
                self._say(f"a result of {verb} is not cached: {complaint}")

    def clear(self) -> tuple[int, int]:
        """Forgets all; gives how many results there were, and their bytes."""
        return self._kept.clear()

    def totals(self) -> tuple[int, int]:
        """How many results there are, and their bytes."""
        return self._kept.totals()

    def prune(self) -> None:
        """Drops what is too old or too much."""
        self._kept.prune()

    def _note_use(self, name: str) -> None:
        try:
            self._kept.used(name)
        except OSError as error:  # a full disk gives what lies there
            self._say(f"that a cached result was used is not noted: {error}")

    def _holds_true(self, stored: Stored, fingerprint: bytes, verb: str) -> bool:
        """Whether a result is of this question, and what it names is there."""
        if (stored.verb, stored.fingerprint) != (verb, fingerprint):
            return False
        try:
            for name in names_in(stored.result):
                self._get_stored(name)
        except NotFound:
            return False
        return True
