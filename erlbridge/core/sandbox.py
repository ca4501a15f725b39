"""What holds a worker in: the parts of its sandbox, and which of them are in force. Knows names; applies nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from erlbridge.codec import Atom
from erlbridge.wire.messages import Term
from erlbridge.wire.vocabulary import atom, atom_keys

ON: Final = "on"
OFF: Final = "off"
REQUIRED: Final = "required"
MODES: Final = (ON, OFF, REQUIRED)

PARTS: Final = ("no_new_privs", "files", "tcp", "signals", "seccomp", "memory", "limits", "directory")
"""No privileges by programs, files by name, TCP, signals, system calls, memory that others cannot read, limits on
descriptors and the like, a temporary directory of its own."""


@dataclass(frozen=True, slots=True)
class Report:
    """How one worker is held.

    Args:
        mode: `ON`, `OFF` or `REQUIRED`.
        landlock: The version of Landlock's interface that the kernel speaks, 0 for none.
        missing: Each of `PARTS` that is not in force, with the reason; empty when all are, and when none was wanted.
    """

    mode: str
    landlock: int
    missing: Mapping[str, str]

    def to_term(self) -> Term:
        """As a worker tells it to the node, and health_check to the host."""
        if self.mode == OFF:
            return atom_keys({"mode": atom(OFF)})
        return atom_keys(
            {
                "mode": atom(self.mode),
                "landlock": self.landlock,
                **{part: part not in self.missing for part in PARTS},
                "missing": atom_keys({part: reason.encode() for part, reason in self.missing.items()}),
            }
        )

    @classmethod
    def from_term(cls, term: Term) -> Self:
        """What `to_term` gave, once it has been a term. Raises `ValueError` for anything else."""
        match _by_name(term):
            case {"mode": Atom() as mode, "landlock": int() as version, "missing": missing} if str(mode) in MODES:
                found = _by_name(missing)
                reasons = {part: reason.decode() for part in PARTS if isinstance(reason := found.get(part), bytes)}
                return cls(str(mode), version, reasons)
            case {"mode": Atom() as mode} if str(mode) == OFF:
                return cls(OFF, 0, {})
        raise ValueError("expected a worker's report of its sandbox")


def _by_name(term: Term) -> dict[str, Term]:
    return {str(key): value for key, value in term.items()} if isinstance(term, dict) else {}
