"""Where a store lies, beside its data directory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Places:
    """The parts of a store that nodes of several machines share.

    Attributes:
        index: `postgresql://…`; empty: a file of the data directory.
        blobs: An address that fsspec knows; empty: the data directory.
        cache_bytes: What copies of remote blobs may take of the data directory.
        datasets_bytes: What copies of remote datasets may.
    """

    index: str = ""
    blobs: str = ""
    cache_bytes: int = 2 * 2**30
    datasets_bytes: int = 8 * 2**30
