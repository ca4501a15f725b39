"""What a node has stored of programs, datasets and results, and the thread that is asked for it, put together once.

All but `disk` block, and are for its thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from erlbridge.core.results import parse_fetch
from erlbridge.core.sharing import Sharing
from erlbridge.node.claiming import Claiming
from erlbridge.node.config import NodeConfig
from erlbridge.node.disk import Disk, Work
from erlbridge.node.shelves import Shelves
from erlbridge.store.cache import Cache
from erlbridge.store.claims import Claims
from erlbridge.store.kept import Bounds, Kept
from erlbridge.store.results import Results
from erlbridge.store.store import Store
from erlbridge.wire.messages import Term
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom, atom_keys

VERBS: Final = ("fetch_result", "stats", "clear_cache")


@dataclass(frozen=True, slots=True)
class Stock:
    """The stored things, by what they are."""

    disk: Disk
    shelves: Shelves
    results: Results
    cache: Cache
    claiming: Claiming

    def work(self, verb: str, payload: Term, sharing: Sharing) -> Work:
        """What one of `VERBS` asks of the disk. Raises `ValidationError` with the path."""
        if verb == "fetch_result":
            wanted = parse_fetch(payload)
            running = sharing.find(wanted.idempotency_key) is not None
            return lambda: self.results.fetch(wanted, running=running)
        Place(payload, "payload").only(())
        return self._stats if verb == "stats" else self._clear_cache

    def prune(self) -> None:
        """Drops what is too old or too much of results, and claims of nodes that are dead."""
        self.results.prune()
        self.cache.prune()
        self.claiming.sweep()

    def _stats(self) -> Term:
        results, cached = self.results.totals(), self.cache.totals()
        asked = {"hits": self.cache.hits, "misses": self.cache.misses}
        return atom_keys(
            {
                "status": atom("success"),
                "results": atom_keys({"count": results[0], "bytes": results[1]}),
                "cache": atom_keys({"count": cached[0], "bytes": cached[1], **asked}),
            }
        )

    def _clear_cache(self) -> Term:
        count, size = self.cache.clear()
        return atom_keys({"status": atom("success"), "count": count, "bytes": size})


def stock_of(store: Store, disk: Disk, config: NodeConfig, say: Callable[[str], None]) -> Stock:
    """The stock of a store; `say` is told, in a line and from any thread, of what went wrong and costs no answer."""

    def kept(kind: str, bounds: Bounds) -> Kept:
        return Kept(store.engine, store.blobs, kind, bounds, say)

    shelves = Shelves(store)
    results = kept("result", Bounds(config.result_max_age_s, config.result_max_count, config.result_max_bytes))
    cached = kept("cache", Bounds(config.cache_max_age_s, config.cache_max_count, config.cache_max_bytes))
    return Stock(
        disk,
        shelves,
        Results(results, say),
        Cache(cached, shelves.get, say),
        Claiming(Claims(store.engine), disk, say),
    )
