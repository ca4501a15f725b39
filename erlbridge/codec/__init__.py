"""Erlang terms to bytes and back: `term_to_binary`, `binary_to_term` and the types Python lacks.

Loses nothing: what a BEAM sent comes back to it as a term that is `===` to the first. `IMPLEMENTATION` says which twin
is in use; both are importable by name and have the same signatures. `erlbridge.codec.choice` says how it is chosen.
"""

from __future__ import annotations

from erlbridge.codec.atoms import Atom
from erlbridge.codec.choice import is_compiled
from erlbridge.codec.order import TermMap
from erlbridge.codec.terms import BitString, Export, Fun, ImproperList, Local, Pid, Port, Reference
from erlbridge.errors import DecodeError, EncodeError

if is_compiled():
    from erlbridge.codec._compiled import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec
else:
    from erlbridge.codec._pure import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec

__all__ = [
    "IMPLEMENTATION",
    "Atom",
    "BitString",
    "DecodeError",
    "EncodeError",
    "Export",
    "Fun",
    "ImproperList",
    "Local",
    "Pid",
    "Port",
    "Reference",
    "TermMap",
    "binary_to_term",
    "term_to_binary",
    "term_to_iovec",
]
