"""Erlang terms to bytes and back: `term_to_binary`, `binary_to_term` and the types Python lacks.

Loses nothing: what a BEAM sent comes back to it as a term that is `===` to the first. `IMPLEMENTATION` says which twin
is in use; both are importable by name and have the same signatures. `erlbridge.codec.choice` says how it is chosen.
`StreamDecoder`, `LazyTerm` and `skip` are loaded when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module

from erlbridge.codec.atoms import Atom
from erlbridge.codec.choice import is_compiled
from erlbridge.codec.order import TermMap
from erlbridge.codec.terms import BitString, Export, Fun, ImproperList, Local, Pid, Port, Reference
from erlbridge.errors import DecodeError, EncodeError

if is_compiled():
    from erlbridge.codec._compiled import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec
else:
    from erlbridge.codec._pure import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from erlbridge.codec.lazy import LazyTerm
    from erlbridge.codec.scan import skip
    from erlbridge.codec.stream import StreamDecoder

__all__ = [
    "IMPLEMENTATION",
    "Atom",
    "BitString",
    "DecodeError",
    "EncodeError",
    "Export",
    "Fun",
    "ImproperList",
    "LazyTerm",
    "Local",
    "Pid",
    "Port",
    "Reference",
    "StreamDecoder",
    "TermMap",
    "binary_to_term",
    "skip",
    "term_to_binary",
    "term_to_iovec",
]

# Whoever decodes whole terms alone, as the node does, starts without them.
_LATER = {"LazyTerm": "lazy", "StreamDecoder": "stream", "skip": "scan"}


if not TYPE_CHECKING:  # a type checker that sees this takes any name, misspelled or not, for one of ours

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = value
        return value
