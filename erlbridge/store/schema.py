"""The tables of a store's index and how an older one becomes a newer one. In SQL that every engine understands.

`{bytes}`, `{integer}` and `{text}` stand for an engine's own words for bytes, for integers of 64 bits and for text that
is ordered by its bytes.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # What lies in blobs, each by its kind (`program`, `model`, `dataset`) and the name that requests know it by.
        # Times are nanoseconds since 1970.
        """
        CREATE TABLE entries (
            kind {text} NOT NULL,
            name {text} NOT NULL,
            size {integer} NOT NULL,
            stored_at {integer} NOT NULL,
            used_at {integer} NOT NULL,
            about {bytes} NOT NULL,
            PRIMARY KEY (kind, name)
        )
        """,
        "CREATE INDEX entries_by_age ON entries (kind, stored_at, name)",
        # Outcomes of jobs: those of a request's idempotency key (`kind` is `result`), and those that answer every
        # request for the same (`cache`). A body that is NULL is a blob.
        """
        CREATE TABLE results (
            kind {text} NOT NULL,
            name {text} NOT NULL,
            size {integer} NOT NULL,
            stored_at {integer} NOT NULL,
            used_at {integer} NOT NULL,
            body {bytes},
            PRIMARY KEY (kind, name)
        )
        """,
        "CREATE INDEX results_by_age ON results (kind, used_at)",
        # Who does what other nodes need not do as well, until when.
        """
        CREATE TABLE claims (
            name {text} PRIMARY KEY,
            owner {text} NOT NULL,
            until {integer} NOT NULL
        )
        """,
    ),
)
"""Each makes the next version of the tables from the one before; the first, from nothing. Those that were released are
never changed: others are added behind them."""

VERSION: Final = len(MIGRATIONS)
