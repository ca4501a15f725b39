"""Terms in Erlang's notation, as `io_lib:format("~0tp", …)` writes them.

Of a process, port or reference of another node the node's own name stands where Erlang shows a number:
`<a@b/5.7.8>`, 5 being the node's creation.
"""

from __future__ import annotations

from collections.abc import Mapping

from erlbridge.codec.atoms import Atom
from erlbridge.codec.notation.erlang_text import atom_text, quoted, shown_binary
from erlbridge.codec.notation.erlang_text import is_printable as is_text
from erlbridge.codec.notation.identifiers import owner
from erlbridge.codec.notation.layout import lay_out, separated
from erlbridge.codec.notation.numbers import float_text, integer_text
from erlbridge.codec.terms import BitString, Export, Fun, ImproperList, Local, Pid, Port, Reference, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from erlbridge.codec.notation.layout import Opened, Parts

_FLAT_KEYS = 32
"""Most keys of a map that Erlang shows in their order; it shows those of larger ones from the last to the first."""


def to_erlang(term: object, *, limit: int | None = None) -> str:
    """The term in Erlang's notation, on one line.

    Args:
        term: What `binary_to_term` gives, or anything that `term_to_binary` takes without a `default`.
        limit: Leave out what comes after about so many characters; `...` stands for it, and all brackets are closed.

    Raises:
        EncodeError: A value is no term.

    >>> to_erlang({Atom("ok"): [b"yes", (1, 2.0)]})
    '#{ok => [<<"yes">>,{1,2.0}]}'
    """
    return lay_out(term, _describe, limit)


def _describe(value: object, room: int) -> str | Opened:
    kind = type(value)
    match value:
        case None:
            return "nil"
        case True:
            return "true"
        case False:
            return "false"
        case Atom():
            return atom_text(value.name)
        case bytes() if kind is bytes:
            return shown_binary(value, room)
        case str() if kind is str:
            return shown_binary(value.encode(errors="surrogatepass"), room)
        case int() if kind is int:
            return integer_text(value, "16#", room)
        case float() if kind is float:
            return float_text(value)
        case list() if kind is list:
            return _list(value, room)
        case tuple() if kind is tuple:
            return "{", separated(iter(value), ","), "}"
        case Mapping():
            pairs = value.items()
            return "#{", _arrows(pairs if len(value) <= _FLAT_KEYS else reversed(list(pairs))), "}"
        case _:
            return _rare(value, room)


def _list(value: list[Any], room: int) -> str | Opened:
    if not value:
        return "[]"
    if is_text(value):
        return quoted("".join(map(chr, value)), '"', room)
    return "[", separated(iter(value), ","), "]"


def _arrows(pairs: Iterable[tuple[object, object]]) -> Parts:
    lead = ""
    for key, value in pairs:
        yield lead, key
        yield " => ", value
        lead = ","


def _improper(value: ImproperList) -> Parts:
    yield from separated(iter(value.elements), ",")
    yield "|", value.tail


def _rare(value: object, room: int) -> str | Opened:
    match value:
        case BitString():
            return _bits(value, room)
        case ImproperList():
            return "[", _improper(value), "]"
        case Pid():
            return f"<{owner(value.node.name, value.creation)}.{value.id}.{value.serial}>"
        case Port():
            return f"#Port<{owner(value.node.name, value.creation)}.{value.id}>"
        case Reference():
            words = ".".join(map(str, reversed(value.ids)))
            return f"#Ref<{owner(value.node.name, value.creation)}.{words}>"
        case Export():
            return f"fun {atom_text(value.module.name)}:{atom_text(value.function.name)}/{value.arity}"
        case Fun():
            return f"#Fun<{value.module.name}.{value.index}.{value.old_uniq}>"
        case Local():
            return f"#Local<{value.data[:room].hex()}{'...' if len(value.data) > room else ''}>"
        case _:
            return _describe(plain(value, None), room)


def _bits(value: BitString, room: int) -> str:
    whole = value.data[:-1]
    if len(whole) > room:
        return f"<<{','.join(map(str, whole[:room]))},...>>"
    last = f"{value.data[-1] >> (8 - value.bits)}:{value.bits}"
    return f"<<{','.join([*map(str, whole), last])}>>"
