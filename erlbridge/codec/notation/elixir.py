"""Terms in Elixir's notation, as `inspect/2` of Elixir 1.14 writes them on one line.

What `inspect/2` knows only from the running system differs: of a process, port or reference of another node the node's
own name stands where it shows a number (`#PID<a@b/5.7.8>`, 5 being the node's creation), and of a function its module
alone. A struct is written as one whatever modules are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from erlbridge.codec.atoms import Atom
from erlbridge.codec.notation.elixir_atoms import is_alias, key_text, literal_text
from erlbridge.codec.notation.elixir_structs import ordered, set_members, struct_text
from erlbridge.codec.notation.elixir_text import quoted, shown_binary
from erlbridge.codec.notation.identifiers import owner
from erlbridge.codec.notation.layout import lay_out, separated
from erlbridge.codec.notation.numbers import float_text, integer_text
from erlbridge.codec.terms import BitString, Export, Fun, ImproperList, Local, Pid, Port, Reference, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from erlbridge.codec.notation.layout import Opened, Parts

_CHARACTERS = frozenset(chain(range(0x20, 0x7F), (7, 8, 9, 10, 11, 12, 13, 27)))
_STRUCT = Atom("__struct__")


def to_elixir(term: object, *, limit: int | None = None, charlists: bool = True) -> str:
    """The term in Elixir's notation, on one line.

    Args:
        term: What `binary_to_term` gives, or anything that `term_to_binary` takes without a `default`.
        limit: Leave out what comes after about so many characters; `...` stands for it, and all brackets are closed.
        charlists: Show lists of printable characters as charlists. Else as lists, as `charlists: :as_lists` does.

    Raises:
        EncodeError: A value is no term.

    >>> to_elixir({Atom("ok"): [b"yes", (1, 2.0)]})
    '%{ok: ["yes", {1, 2.0}]}'
    """
    return lay_out(term, _describe if charlists else _describe_lists, limit)


def _describe_lists(value: object, room: int) -> str | Opened:
    if type(value) is list and value and not _is_keyword(value):
        return "[", separated(iter(value), ", "), "]"
    return _describe(value, room)


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
            return literal_text(value.name)
        case bytes() if kind is bytes:
            return shown_binary(value, room)
        case str() if kind is str:
            return shown_binary(value.encode(errors="surrogatepass"), room)
        case int() if kind is int:
            return integer_text(value, "0x", room)
        case float() if kind is float:
            return _float(value)
        case list() if kind is list:
            return _list(value, room)
        case tuple() if kind is tuple:
            return "{", separated(iter(value), ", "), "}"
        case Mapping():
            return _map(value)
        case _:
            return _rare(value, room)


def _float(value: float) -> str:
    # Elixir shows whole numbers plain for longer than Erlang does.
    return f"{int(value)}.0" if 1.0 <= abs(value) < 1.0e16 and value.is_integer() else float_text(value)


def _list(value: list[Any], room: int) -> str | Opened:
    if not value:
        return "[]"
    if type(value[0]) is int and all(type(item) is int and item in _CHARACTERS for item in value):
        return quoted("".join(map(chr, value)), "'", room)
    if _is_keyword(value):
        return "[", _keywords((key, held) for key, held in value), "]"
    return "[", separated(iter(value), ", "), "]"


def _is_keyword(value: list[Any]) -> bool:
    return all(type(item) is tuple and len(item) == 2 and _is_key(item[0]) for item in value)


def _is_key(key: object) -> bool:
    if type(key) is Atom:
        return not key.name.startswith("Elixir.")
    return key is None or key is True or key is False


def _keywords(pairs: Iterator[tuple[Any, object]]) -> Parts:
    lead = ""
    for key, value in pairs:
        yield lead + key_text(key.name if type(key) is Atom else _describe(key, 0)), value  # type: ignore[arg-type]
        lead = ", "


def _map(value: Mapping[Any, object]) -> str | Opened:
    pairs = value.items()
    opening = "%{"
    module = value.get(_STRUCT) if all(map(_is_key, value)) else None
    if type(module) is Atom and is_alias(module.name):
        text = struct_text(module.name, value)
        if text is not None:
            return text
        if (members := set_members(module.name, value)) is not None:
            return "MapSet.new([", separated(iter(members), ", "), "])"
        opening = f"%{literal_text(module.name)}{{"
        return opening, _keywords(iter(ordered(module.name, value))), "}"
    if all(map(_is_key, value)):
        return opening, _keywords(iter(pairs)), "}"
    return opening, _arrows(iter(pairs)), "}"


def _arrows(pairs: Iterator[tuple[object, object]]) -> Parts:
    lead = ""
    for key, value in pairs:
        yield lead, key
        yield " => ", value
        lead = ", "


def _improper(value: ImproperList) -> Parts:
    yield from separated(iter(value.elements), ", ")
    yield " | ", value.tail


def _rare(value: object, room: int) -> str | Opened:
    match value:
        case BitString():
            return _bits(value, room)
        case ImproperList():
            return "[", _improper(value), "]"
        case Pid():
            return f"#PID<{owner(value.node.name, value.creation)}.{value.id}.{value.serial}>"
        case Port():
            return f"#Port<{owner(value.node.name, value.creation)}.{value.id}>"
        case Reference():
            words = ".".join(map(str, reversed(value.ids)))
            return f"#Reference<{owner(value.node.name, value.creation)}.{words}>"
        case Export():
            module, function = literal_text(value.module.name), literal_text(value.function.name)
            return f"&{module}.{function.removeprefix(':')}/{value.arity}"
        case Fun():
            return f"#Function<{value.index}.{value.old_uniq}/{value.arity} in {literal_text(value.module.name)}>"
        case Local():
            return f"#Local<{value.data[:room].hex()}{'...' if len(value.data) > room else ''}>"
        case _:
            return _describe(plain(value, None), room)


def _bits(value: BitString, room: int) -> str:
    whole = value.data[:-1]
    if len(whole) > room:
        return f"<<{', '.join(map(str, whole[:room]))}, ...>>"
    last = f"{value.data[-1] >> (8 - value.bits)}::size({value.bits})"
    return f"<<{', '.join([*map(str, whole), last])}>>"
