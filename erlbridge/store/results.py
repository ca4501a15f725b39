"""Results of requests with an idempotency key, stored before they are answered: what was paid for is not paid twice.

Each under the hash of its key, for all nodes of a store; the oldest go first. Keys of models are never written. A disk
that refuses costs a log line and no answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from erlbridge.codec import Atom
from erlbridge.core.results import FetchResult, Identity, Stored, conflict, name_of, shared
from erlbridge.errors import NotFound
from erlbridge.store.failures import storage_failed
from erlbridge.store.kept import Kept
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys, published

_SHORTEST_KEY: Final = 4


class Results:
    """The stored results. `say` is told, in a line, of everything that was not kept or cannot be read. Blocks; any
    thread may call."""

    def __init__(self, kept: Kept, say: Callable[[str], None]) -> None:
        self._kept = kept
        self._say = say

    @property
    def on(self) -> bool:
        """Whether any result is kept."""
        return self._kept.bounds.age_s > 0

    def put(self, idempotency_key: str, verb: str, result: Term, asked: Identity) -> None:
        """Keeps the result of a request with a key: when this returns it is stored, or the log says why not."""
        if self.on:
            stored = Stored(verb, asked.fingerprint, result)
            if complaint := put_safely(self._kept, name_of(idempotency_key), stored, asked, "result_max_bytes"):
                self._say(f"a result of {verb} is not kept: {complaint}")

    def answer_to(self, idempotency_key: str, asked: Identity) -> Term | None:
        """What a request was answered before, None when nothing whole is stored of that. A disk that does not say has
        nothing either: what is asked for can still be done. Raises `ValidationError` when its key was another one's."""
        if not self.on:
            return None
        try:
            found = self._kept.get(name_of(idempotency_key))
        except OSError as error:
            self._say(f"stored results cannot be read: {error}")
            return None
        if found is None:
            return None
        if found.stored.fingerprint != asked.fingerprint:
            raise conflict(found.stored.verb)
        return shared(found.stored.result)

    def fetch(self, wanted: FetchResult, *, running: bool) -> Term:
        """The answer of `:fetch_result`; `running` is whether the job of this key is in flight here. Raises `NotFound`,
        and `StorageFailed` when the disk does not say."""
        try:
            found = self._kept.get(name_of(wanted.idempotency_key)) if self.on else None
        except OSError as error:
            raise storage_failed("the stored result was not read", error) from None
        if found is None and running:
            text = "the request with this key is being done; send it again to wait for it"
            raise NotFound(text, context={"state": atom("running")})
        if found is None:
            raise NotFound("no result is stored under this key; send the request itself")
        return atom_keys(
            {
                "status": atom("success"),
                "verb": published(Atom(found.stored.verb)),
                "result": published(shared(found.stored.result), wanted.atoms),
                "stored_at_ms": found.stored_at_ns // 1_000_000,
            }
        )

    def totals(self) -> tuple[int, int]:
        """How many results there are, and their bytes."""
        return self._kept.totals()

    def prune(self) -> None:
        """Drops what is too old or too much."""
        self._kept.prune()


def put_safely(kept: Kept, name: str, stored: Stored, asked: Identity, limit_name: str) -> str | None:
    """Keeps an outcome in which no key of its request's models stands; gives why it was not kept."""
    content = kept.packed(name, stored)
    limit = kept.bounds.total_bytes
    if len(content) > limit:
        return f"{len(content)} bytes, limit {limit} ({limit_name})"
    if any(key in content for key in _keys(asked)):
        return "a key of its models stands in it"
    try:
        kept.put(name, content)
    except OSError as error:
        return str(error)
    return None


def _keys(asked: Identity) -> Iterator[bytes]:
    """The keys of a request's models, as bytes that a result might hold. A word of a few letters is no secret."""
    named = (os.fsencode(os.environ.get(variable, "").strip()) for variable in asked.key_variables)
    return (key for key in (*asked.keys, *named) if len(key) >= _SHORTEST_KEY)
