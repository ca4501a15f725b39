"""Who does what other nodes of the same store need not do as well: leases by name. Knows names and times, not what is
done.

A claim saves work, it guards nothing: a node that was stopped for longer than its lease goes on beside whoever took
the claim meanwhile, so what both write in the end must be right in either order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from erlbridge.store.engine import Engine, Statements

_NS_PER_S: Final = 1_000_000_000
_LONG_S: Final = 60.0


class Claims:
    """Leases of all nodes of an engine, by the engine's clock, not by that of a machine.

    An owner is a name that no other process has or ever had, so that what a dead node left is nobody's else. Every
    method may raise `IndexRefused`; then nothing is known of the claim, and to do the work is always allowed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, name: str, owner: str, lease_s: float) -> bool:
        """Whether `owner` has the claim from now on, until the lease ends. Its own it may take again: that is a longer
        lease."""
        return self._engine.write(lambda statements: _take(statements, name, owner, lease_s))

    def keep(self, names: Iterable[str], owner: str, lease_s: float) -> set[str]:
        """Begins the leases of an owner's claims anew, a third of a lease after the last time at the latest; gives
        those of the names that it still has. One transaction for all of them."""
        wanted = tuple(names)
        return self._engine.write(lambda statements: _keep(statements, wanted, owner, lease_s)) if wanted else set()

    def release(self, name: str, owner: str) -> bool:
        """Gives a claim back; gives whether `owner` had it."""
        statement = "DELETE FROM claims WHERE name = ? AND owner = ?"
        return self._engine.write(lambda statements: statements.run(statement, (name, owner))) > 0

    def release_all(self, owner: str) -> int:
        """Gives back all that an owner has, as a node does when it ends; gives how many."""
        statement = "DELETE FROM claims WHERE owner = ?"
        return self._engine.write(lambda statements: statements.run(statement, (owner,)))

    def sweep(self) -> int:
        """Forgets leases that are over, which dead nodes left: nobody asks for most names twice. Gives how many."""

        def forget(statements: Statements) -> int:
            return statements.run("DELETE FROM claims WHERE until <= ?", (statements.now_ns(),))

        return self._engine.write(forget)


def _take(statements: Statements, name: str, owner: str, lease_s: float) -> bool:
    now_ns = statements.now_ns()
    # A lease that ends much later than one begun now is of a clock that was set back since, and would be waited for
    # until that time comes again. Other names are left alone: of transactions that each read all claims, most would
    # come into each other's way, and the more so the more nodes there are.
    latest_ns = _end_ns(now_ns, max(2 * lease_s, _LONG_S))
    statements.run("DELETE FROM claims WHERE name = ? AND (until <= ? OR until > ?)", (name, now_ns, latest_ns))
    taken = statements.run(
        "INSERT INTO claims (name, owner, until) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET until = excluded.until WHERE claims.owner = excluded.owner",
        (name, owner, _end_ns(now_ns, lease_s)),
    )
    return taken > 0


def _keep(statements: Statements, names: tuple[str, ...], owner: str, lease_s: float) -> set[str]:
    until_ns = _end_ns(statements.now_ns(), lease_s)
    # One that ended and that nobody took meanwhile is still its owner's.
    statement = "UPDATE claims SET until = ? WHERE name = ? AND owner = ?"
    return {name for name in names if statements.run(statement, (until_ns, name, owner))}


def _end_ns(now_ns: int, lease_s: float) -> int:
    return now_ns + round(lease_s * _NS_PER_S)
