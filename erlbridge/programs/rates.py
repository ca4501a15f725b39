"""How often an endpoint may be asked, kept for all workers and nodes that share a data directory.

Calls are paced evenly, a request every 60 s / limit, instead of in bursts: providers enforce a minute's limit over
seconds too. Nobody reserves a turn: a worker that dies while it waits holds up no other. Knows rates and a clock; the
waiting itself is the caller's.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from erlbridge.core.lms import RateLimit
from erlbridge.store.database import Database

FILE: Final = "rates-1.sqlite3"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rates (endpoint BLOB PRIMARY KEY, request_at REAL, token_at REAL, tokens REAL);
"""
_MINUTE_S: Final = 60.0
_MAX_DEBT_S: Final = 600.0
"""Longest wait for tokens that were used too fast. Beyond it the machine was started anew, or the file is wrong."""

_KEPT_S: Final = 3600.0
_WEIGHT: Final = 0.2
"""How much the newest call counts in the mean that the next one is expected to use."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What asking for a turn gave: go (`wait_s` 0.0, and so many tokens were charged ahead), or when to ask again."""

    wait_s: float
    charged: float = 0.0


class Rates:
    """The pace of each endpoint.

    Args:
        directory: The node's data directory; None paces this process alone.
        clock: Seconds that all processes of the machine agree on and nobody can set: Linux has one such clock for all,
            since it started.

    >>> now = 100.0
    >>> rates = Rates(None, clock=lambda: now)
    >>> limit = RateLimit(requests_per_minute=60)
    >>> rates.turn("openai", limit, 10).wait_s, rates.turn("openai", limit, 10).wait_s
    (0.0, 1.0)
    >>> now = 101.0
    >>> rates.turn("openai", limit, 10).wait_s
    0.0
    """

    def __init__(self, directory: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = Database(None if directory is None else directory / FILE, _SCHEMA)
        self._clock = clock

    def turn(self, endpoint: str, limit: RateLimit, guess: float) -> Turn:
        """Takes a turn, or says when to ask again.

        Args:
            endpoint: Who is called; only its hash is written, for an address may hold what nobody else shall read.
            limit: What this caller keeps to.
            guess: Tokens that the call may use, where no earlier call tells better.
        """
        now, name = self._clock(), _name(endpoint)

        def take(connection: sqlite3.Connection) -> Turn:
            request_at, token_at, tokens = self._find(connection, name, limit, now)
            wait = max(request_at, token_at) - now
            if wait > 0:
                return Turn(wait)
            charged = 0.0
            if limit.requests_per_minute is not None:
                request_at = now + _MINUTE_S / limit.requests_per_minute
            if limit.tokens_per_minute is not None:
                charged = tokens or guess
                token_at = now + charged * _MINUTE_S / limit.tokens_per_minute
            self._keep(connection, name, request_at, token_at, tokens)
            return Turn(0.0, charged)

        return self._database.write(take, Turn(0.0))

    def settle(self, endpoint: str, limit: RateLimit, turn: Turn, used: float) -> None:
        """The call that took a turn has used so many tokens. For one that gets no answer, what was charged stands."""
        if limit.tokens_per_minute is None:
            return
        now, name, rate = self._clock(), _name(endpoint), limit.tokens_per_minute / _MINUTE_S

        def correct(connection: sqlite3.Connection) -> None:
            request_at, token_at, tokens = self._find(connection, name, limit, now)
            token_at = max(token_at, now) + (used - turn.charged) / rate
            self._keep(connection, name, request_at, token_at, tokens + _WEIGHT * (used - tokens) if tokens else used)

        self._database.write(correct, None)

    def _find(
        self, connection: sqlite3.Connection, name: bytes, limit: RateLimit, now: float
    ) -> tuple[float, float, float]:
        row = connection.execute("SELECT request_at, token_at, tokens FROM rates WHERE endpoint = ?", (name,))
        found = row.fetchone()
        if found is None or not all(isinstance(value, float) for value in found):
            return now, now, 0.0
        request_at, token_at, tokens = found
        # What no limit explains was written before the machine's last start, or by somebody else, and must not stop a
        # job. To shorten each wait would not be enough: a turn is taken only when its time has come.
        if request_at > now + _MINUTE_S:
            request_at = now
        step = _MINUTE_S / limit.requests_per_minute if limit.requests_per_minute is not None else 0.0
        known = limit.tokens_per_minute is not None and token_at <= now + _MAX_DEBT_S
        return min(request_at, now + step), token_at if known else now, max(0.0, tokens)

    def _keep(
        self, connection: sqlite3.Connection, name: bytes, request_at: float, token_at: float, tokens: float
    ) -> None:
        now = self._clock()
        connection.execute(
            "DELETE FROM rates WHERE max(request_at, token_at) NOT BETWEEN ? AND ?", (now - _KEPT_S, now + _KEPT_S)
        )
        values = (name, request_at, min(token_at, now + _MAX_DEBT_S), tokens)
        connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?, ?, ?)", values)

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()


def _name(endpoint: str) -> bytes:
    return hashlib.sha256(endpoint.encode()).digest()
