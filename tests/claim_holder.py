"""Who has a claim, which no node ever asks: it takes a claim, or does not."""

from __future__ import annotations

from erlbridge.store.claims import Claims
from erlbridge.store.engine import Statements


def holder(claims: Claims, name: str) -> str | None:
    """Whose a claim is now; None for one that is free, never taken or over."""

    def found(statements: Statements) -> str | None:
        rows = statements.rows("SELECT owner FROM claims WHERE name = ? AND until > ?", (name, statements.now_ns()))
        return str(rows[0][0]) if rows else None

    return claims._engine.read(found)
