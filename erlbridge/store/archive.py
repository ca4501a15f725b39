"""A store in one file: a tar of plain files, written and read as a stream. What `archive_export` and `archive_import`
agree on.

    programs/<64 digits>.etf, models/<64 digits>.etf, datasets/<64 digits>    in no order; the digits are the SHA-256
    reports/<64 digits>.etf                       each behind the SHA-256 of itself; the digits are its program's
    index                                                                     the last: a line of JSON for each of them
                                                                              and one for the sum of these lines

Each name but a report's is its content's hash, so nothing is taken on trust; the last file says that none is missing.
Any tar reads it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

INDEX: Final = "index"
FORMAT: Final = 1
BLOCK: Final = 512
"""Bytes of a header, and what every file is filled up to."""
READ_BYTES: Final = 1024 * 1024

Read: TypeAlias = Callable[[int], None]
"""Is told how many bytes were read since it was told last."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One thing that went into an archive or came out of one.

    Attributes:
        kind, name: Such as `program` and its id.
        known: Whether the store had it before.
        fault: Why it was left out; None when it was not.
    """

    kind: str
    name: str
    size_bytes: int
    known: bool = False
    fault: str | None = None


def header(name: str, size: int) -> bytes:
    """What stands before a file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)  # whose sizes have no limit


def filling(size: int) -> bytes:
    """What stands behind a file of so many bytes."""
    return bytes(-size % BLOCK)
