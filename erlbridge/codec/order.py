"""Erlang's order and equality of map keys, and the map that lives by them.

Knows the exact order that map keys have on the BEAM (integers before floats, `1` and `1.0` apart, `0.0` and `-0.0`
the same) and how to write a term as bytes that compare in this order. Knows nothing of the wire.

Every part of such a sort key ends itself (text by two zero bytes, numbers by a length in front), so that none is taken
for the beginning of another, and a `dict` of sort keys has the interpreter's own seeded hash.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, ValuesView
from itertools import pairwise
from operator import itemgetter
from struct import Struct

from erlbridge.codec.atoms import Atom
from erlbridge.codec.terms import BitString, Export, Fun, ImproperList, Pid, Port, Reference, plain
from erlbridge.errors import EncodeError
from erlbridge.limits import MAX_DEPTH, MAX_KEY_NESTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ClassVar

    Default = Callable[[object], object] | None
    Emit = Callable[[bytes], None]
    Entry = tuple[bytes, object, object]

_INTEGER, _FLOAT, _ATOM, _REFERENCE, _FUN, _EXPORT, _PORT, _PID = (bytes((rank,)) for rank in range(1, 9))
_TUPLE, _MAP, _NIL, _CONS, _BITS = (bytes((rank,)) for rank in range(9, 14))

_pack_float = Struct(">d").pack
_pack_u32 = Struct(">I").pack
_pack_u64 = Struct(">Q").pack
_FLIP = bytes(255 - byte for byte in range(256))


def sort_key(term: object, default: Default = None) -> bytes:
    """The bytes that stand for this term among map keys: equal for equal keys, and ordered as the BEAM orders them.

    Args:
        term: Any term that the codec writes.
        default: What stands for a value of unknown type, as in `term_to_binary`.

    Raises:
        EncodeError: A value is no term, or nests deeper than `MAX_DEPTH`, or in keys deeper than `MAX_KEY_NESTING`.

    Source: Erlang Reference Manual, Term Comparisons; the exact form that the option `deterministic` uses.

    >>> sort_key(2) < sort_key(1.0) < sort_key(None) < sort_key(()) < sort_key({}) < sort_key([]) < sort_key(b"")
    True
    """
    return _form(term, 0, default)[0]


def _form(term: object, level: int, default: Default) -> tuple[bytes, int]:
    """The sort key of a term that stands in `level` map keys, and the most map keys that anything in it stands in."""
    deepest = level
    out: list[bytes] = []
    emit = out.append
    stack: list[Iterator[object]] = []
    todo: Iterator[object] = iter((term,))
    while True:
        for value in todo:
            kind = type(value)
            leaf = _LEAVES.get(kind)
            if leaf is not None:
                emit(leaf(value))
                continue
            if len(stack) > MAX_DEPTH:
                raise EncodeError(f"term nested deeper than {MAX_DEPTH}")
            stack.append(todo)
            if kind is dict or kind is TermMap:
                entries, below = _entries(value, level + 1, default)  # type: ignore[arg-type]
                deepest = max(deepest, below)
                emit(_MAP + _pack_u32(len(entries)))
                out.extend([form for form, _, _ in entries])
                todo = iter([held for _, _, held in entries])
            else:
                opener = _OPENERS.get(kind)
                todo = iter((plain(value, default),)) if opener is None else opener(value, emit)
            break
        else:
            if not stack:
                return b"".join(out), deepest
            todo = stack.pop()


def _text(data: bytes) -> bytes:
    return data.replace(b"\0", b"\0\xff") + b"\0\0"


def _integer(value: int) -> bytes:
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    data = _pack_u32(size) + magnitude.to_bytes(size, "big")
    return _INTEGER + (b"\1" + data if value >= 0 else b"\0" + data.translate(_FLIP))


def _float(value: float) -> bytes:
    if value - value != 0.0:
        raise EncodeError(f"Erlang has no float {value!r}")
    data = _pack_float(value or 0.0)  # -0.0 is the key 0.0
    # Sign and magnitude become an order: negatives flip whole, positives rise above them.
    return _FLOAT + (data.translate(_FLIP) if data[0] & 0x80 else bytes((data[0] | 0x80,)) + data[1:])


def _name(value: Atom) -> bytes:
    return _ATOM + _text(value.name.encode())


def _bits(value: BitString) -> bytes:
    return _BITS + _text(value.data) + bytes((value.bits,))


def _binary(value: bytes) -> bytes:
    return _BITS + _text(value) + b"\x08"


def _string(value: str) -> bytes:
    try:
        return _binary(value.encode())
    except UnicodeEncodeError as cause:
        raise EncodeError(f"str with a lone surrogate at index {cause.start}") from None


def _node(owner: Pid | Port | Reference) -> bytes:
    return _text(owner.node.name.encode()) + _pack_u32(owner.creation)


def _pid(value: Pid) -> bytes:
    return _PID + _pack_u32(value.serial) + _pack_u32(value.id) + _node(value)


def _port(value: Port) -> bytes:
    return _PORT + _node(value) + _pack_u64(value.id)


def _reference(value: Reference) -> bytes:
    words = list(value.ids)
    while words and not words[-1]:
        words.pop()
    return _REFERENCE + _node(value) + bytes((len(words),)) + b"".join(map(_pack_u32, reversed(words)))


def _export(value: Export) -> bytes:
    names = _text(value.module.name.encode()) + _text(value.function.name.encode())
    return _EXPORT + names + bytes((value.arity,))


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    int: _integer,
    float: _float,
    Atom: _name,
    bool: lambda value: _ATOM + (b"true\0\0" if value else b"false\0\0"),
    type(None): lambda _: _ATOM + b"nil\0\0",
    bytes: _binary,
    str: _string,
    BitString: _bits,
    Pid: _pid,
    Port: _port,
    Reference: _reference,
    Export: _export,
}


# An opener is a generator: it emits its own bytes and yields the values whose bytes stand between them.


def _open_tuple(value: tuple[object, ...], emit: Emit) -> Iterator[object]:
    emit(_TUPLE + _pack_u32(len(value)))
    return iter(value)


def _open_list(value: list[object], emit: Emit) -> Iterator[object]:
    for element in value:
        emit(_CONS)
        yield element
    emit(_NIL)


def _open_improper(value: ImproperList, emit: Emit) -> Iterator[object]:
    for element in value.elements:
        emit(_CONS)
        yield element
    yield value.tail


def _open_fun(value: Fun, emit: Emit) -> Iterator[object]:
    emit(_FUN + _text(value.module.name.encode()) + _pack_u32(value.index))
    emit(_pack_u64(value.old_uniq + (1 << 63)) + bytes((len(value.free),)))
    return iter(value.free)


_OPENERS: dict[type, Callable[[Any, Emit], Iterator[object]]] = {
    tuple: _open_tuple,
    list: _open_list,
    ImproperList: _open_improper,
    Fun: _open_fun,
}


def sorted_entries(pairs: Mapping[object, object], default: Default = None) -> list[Entry]:
    """The map's entries as `(sort key, key, value)` in Erlang's order of keys.

    Raises:
        EncodeError: A key is no term, or two keys are one key in Erlang (such as `"a"` and `b"a"`).
    """
    return _entries(pairs, 1, default)[0]


def _entries(pairs: Mapping[object, object], level: int, default: Default) -> tuple[list[Entry], int]:
    """The entries in order, and the most map keys that anything in their keys stands in."""
    if type(pairs) is TermMap:
        entries = [(form, key, value) for form, (key, value) in pairs.entries.items()]
        deepest = level - 1 + pairs.levels
    else:
        entries = []
        deepest = level
        if level <= MAX_KEY_NESTING:
            for key, value in pairs.items():
                form, below = _form(key, level, default)
                deepest = max(deepest, below)
                entries.append((form, key, value))
    if deepest > MAX_KEY_NESTING:
        raise EncodeError(f"maps as keys of maps nested deeper than {MAX_KEY_NESTING}")
    entries.sort(key=itemgetter(0))
    for (form, key, _), (after, other, _) in pairwise(entries):
        if form == after:
            raise EncodeError(f"keys {key!r:.80} and {other!r:.80} are one key in Erlang")
    return entries, deepest


class TermMap(Mapping[object, object]):
    """A map with Erlang's own key equality, for keys that a `dict` would merge or refuse.

    `1`, `1.0` and `True` are three keys; lists, maps and improper lists are keys too. A `str` key is the binary of its
    UTF-8. An immutable mapping, unhashable as `dict` is, in the order its pairs came. Equal to any mapping that has the
    same keys in Erlang's sense, with values that Python finds equal.

    Args:
        pairs: A mapping, or pairs of key and value; of two equal keys the first stays, with the later value.

    Raises:
        EncodeError: A key is no term.

    Source: External Term Format, MAP_EXT.

    >>> odd = TermMap([(1, "integer"), (1.0, "float"), ([1], "list")])
    >>> odd[1], odd[1.0], odd[[1]], True in odd
    ('integer', 'float', 'list', False)
    """

    __slots__ = ("entries", "levels")

    __hash__: ClassVar[None]  # type: ignore[assignment]

    entries: dict[bytes, tuple[object, object]]
    """Key and value by sort key; for the codec, not to be changed."""
    levels: int
    """The most map keys that anything in its keys stands in, its own counted."""

    def __init__(self, pairs: Mapping[object, object] | Iterable[tuple[object, object]] = ()) -> None:
        entries: dict[bytes, tuple[object, object]] = {}
        levels = 1
        for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            form, below = _form(key, 1, None)
            levels = max(levels, below)
            known = entries.get(form)
            entries[form] = (key, value) if known is None else (known[0], value)
        if levels > MAX_KEY_NESTING:
            raise EncodeError(f"maps as keys of maps nested deeper than {MAX_KEY_NESTING}")
        self.entries = entries
        self.levels = levels

    def __getitem__(self, key: object) -> object:
        try:
            return self.entries[sort_key(key)][1]
        except EncodeError:
            raise KeyError(key) from None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[object]:
        return iter([key for key, _ in self.entries.values()])

    def items(self) -> ItemsView[object, object]:
        return _Items(self)

    def values(self) -> ValuesView[object]:
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        if not isinstance(other, TermMap):
            try:
                other = TermMap(other)
            except EncodeError:
                return False
        mine, theirs = self.entries, other.entries
        return mine.keys() == theirs.keys() and all(held[1] == theirs[form][1] for form, held in mine.items())

    def __repr__(self) -> str:
        return f"TermMap([{', '.join(f'({key!r}, {value!r})' for key, value in self.entries.values())}])"

    def __reduce__(self) -> tuple[type[TermMap], tuple[list[tuple[object, object]]]]:
        return TermMap, (list(self.entries.values()),)


class _Items(ItemsView[object, object]):
    """Pairs as they are held: the inherited view would look every key up, at the cost of its sort key."""

    _mapping: TermMap

    def __iter__(self) -> Iterator[tuple[object, object]]:
        return iter(list(self._mapping.entries.values()))


class _Values(ValuesView[object]):
    _mapping: TermMap

    def __iter__(self) -> Iterator[object]:
        return iter([value for _, value in self._mapping.entries.values()])
