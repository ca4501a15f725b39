"""The terms that Python has no type for, atoms and maps apart: bitstrings, improper lists, identifiers, functions.

Knows what these values are, when they are equal and how they print, and which of the codec's types stands for a value
of another. Knows nothing of bytes on a wire; both twins of the codec build and read the types defined here.
"""

from __future__ import annotations

from collections.abc import Mapping

from erlbridge.codec.atoms import Atom, Immutable, set_once
from erlbridge.errors import EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import ClassVar


class BitString(Immutable):
    """A bitstring that is no whole number of bytes: `BitString(b"\\xa0", 3)` is `<<5:3>>`.

    `bits` (1 to 7) says how many bits of the last byte count, from the top; the rest are zero. Whole bytes are `bytes`.

    Raises:
        ValueError: `bits` is not 1 to 7, or `data` is empty.

    Source: External Term Format, BIT_BINARY_EXT.

    >>> BitString(b"\\xbf", 3)
    BitString(b'\\xa0', 3)
    """

    __slots__ = ("bits", "data")

    data: bytes
    bits: int

    def __init__(self, data: bytes, bits: int) -> None:
        if not 1 <= bits <= 7 or not data:
            raise ValueError(f"bitstring of {len(data)} bytes with {bits} bits in the last, expected 1 to 7 of 8")
        last = data[-1] & (0xFF << (8 - bits)) & 0xFF
        set_once(self, "data", bytes(data) if last == data[-1] else bytes(data[:-1]) + bytes((last,)))
        set_once(self, "bits", bits)

    def __eq__(self, other: object) -> bool:
        if type(other) is not BitString:
            return NotImplemented
        return self.bits == other.bits and self.data == other.data

    def __hash__(self) -> int:
        return hash((BitString, self.data, self.bits))

    def __repr__(self) -> str:
        return f"BitString({self.data!r}, {self.bits})"

    def __reduce__(self) -> tuple[type[BitString], tuple[bytes, int]]:
        return BitString, (self.data, self.bits)


class ImproperList(Immutable):
    """A list whose tail is no list: `ImproperList([1, 2], 3)` is `[1, 2 | 3]`. Unhashable, as `list` is.

    Raises:
        ValueError: `elements` is empty, or `tail` is a list and the whole thus no improper one.

    Source: External Term Format, LIST_EXT.

    >>> ImproperList([1], 2) == ImproperList([1], 2)
    True
    """

    __slots__ = ("elements", "tail")

    elements: list[object]
    tail: object

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, elements: Iterable[object], tail: object) -> None:
        values = list(elements)
        if not values or isinstance(tail, list | ImproperList):
            raise ValueError("an improper list has at least one element and a tail that is no list")
        set_once(self, "elements", values)
        set_once(self, "tail", tail)

    def __eq__(self, other: object) -> bool:
        if type(other) is not ImproperList:
            return NotImplemented
        return self.tail == other.tail and self.elements == other.elements

    def __repr__(self) -> str:
        return f"ImproperList({self.elements!r}, {self.tail!r})"

    def __reduce__(self) -> tuple[type[ImproperList], tuple[list[object], object]]:
        return ImproperList, (self.elements, self.tail)


class _Identifier(Immutable):
    """Base of pid, port and reference: equal when the fields that identify them are."""

    __slots__ = ()

    def _identity(self) -> tuple[object, ...]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self), self._identity()))


def _checked(owner: str, node: object, words: Iterable[tuple[str, int, int]]) -> None:
    if type(node) is not Atom:
        raise TypeError(f"{owner}: node is an Atom, not {type(node).__name__}")
    for field, value, bits in words:
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise ValueError(f"{owner}: {field} is {value!r}, expected an int of {bits} bits")


class Pid(_Identifier):
    """A process: `Pid(Atom("a@b"), id, serial, creation)`, every number of 32 bits.

    Source: External Term Format, NEW_PID_EXT (and PID_EXT, which differs in the size of `creation` alone).

    >>> Pid(Atom("a@b"), 7, 8, 5)
    Pid(Atom('a@b'), 7, 8, 5)
    """

    __slots__ = ("creation", "id", "node", "serial")

    node: Atom
    id: int
    serial: int
    creation: int

    def __init__(self, node: Atom, id: int, serial: int, creation: int) -> None:  # noqa: A002 - the spec's own name
        _checked("pid", node, (("id", id, 32), ("serial", serial, 32), ("creation", creation, 32)))
        set_once(self, "node", node)
        set_once(self, "id", id)
        set_once(self, "serial", serial)
        set_once(self, "creation", creation)

    def _identity(self) -> tuple[object, ...]:
        return self.node, self.id, self.serial, self.creation

    def __repr__(self) -> str:
        return f"Pid({self.node!r}, {self.id}, {self.serial}, {self.creation})"

    def __reduce__(self) -> tuple[type[Pid], tuple[object, ...]]:
        return Pid, (self.node, self.id, self.serial, self.creation)


class Port(_Identifier):
    """A port: `Port(Atom("a@b"), id, creation)`, `id` of 64 bits and `creation` of 32.

    Source: External Term Format, V4_PORT_EXT, NEW_PORT_EXT, PORT_EXT.

    >>> Port(Atom("a@b"), 1, 5)
    Port(Atom('a@b'), 1, 5)
    """

    __slots__ = ("creation", "id", "node")

    node: Atom
    id: int
    creation: int

    def __init__(self, node: Atom, id: int, creation: int) -> None:  # noqa: A002 - the spec's own name
        _checked("port", node, (("id", id, 64), ("creation", creation, 32)))
        set_once(self, "node", node)
        set_once(self, "id", id)
        set_once(self, "creation", creation)

    def _identity(self) -> tuple[object, ...]:
        return self.node, self.id, self.creation

    def __repr__(self) -> str:
        return f"Port({self.node!r}, {self.id}, {self.creation})"

    def __reduce__(self) -> tuple[type[Port], tuple[object, ...]]:
        return Port, (self.node, self.id, self.creation)


class Reference(_Identifier):
    """A reference: `Reference(Atom("a@b"), creation, ids)`, `ids` being one to five words of 32 bits.

    Words of zero at the end do not tell references apart, as they do not on the BEAM.

    Source: External Term Format, NEWER_REFERENCE_EXT, NEW_REFERENCE_EXT, REFERENCE_EXT.

    >>> Reference(Atom("a@b"), 5, (9, 0)) == Reference(Atom("a@b"), 5, (9,))
    True
    """

    __slots__ = ("creation", "ids", "node")

    node: Atom
    creation: int
    ids: tuple[int, ...]

    def __init__(self, node: Atom, creation: int, ids: Iterable[int]) -> None:
        words = tuple(ids)
        if not 1 <= len(words) <= 5:
            raise ValueError(f"reference: {len(words)} words, expected 1 to 5")
        _checked("reference", node, (("creation", creation, 32), *(("id", word, 32) for word in words)))
        set_once(self, "node", node)
        set_once(self, "creation", creation)
        set_once(self, "ids", words)

    def _identity(self) -> tuple[object, ...]:
        ids = self.ids
        while ids and not ids[-1]:
            ids = ids[:-1]
        return self.node, self.creation, ids

    def __repr__(self) -> str:
        return f"Reference({self.node!r}, {self.creation}, {self.ids})"

    def __reduce__(self) -> tuple[type[Reference], tuple[object, ...]]:
        return Reference, (self.node, self.creation, self.ids)


class Local(_Identifier):
    """A term in a node's private format: opaque bytes, only for the node that wrote them.

    It stands alone: its length is not in the format, so it can be a whole term but no part of one.

    Source: External Term Format, LOCAL_EXT.
    """

    __slots__ = ("data",)

    data: bytes

    def __init__(self, data: bytes) -> None:
        set_once(self, "data", bytes(data))

    def _identity(self) -> tuple[object, ...]:
        return (self.data,)

    def __repr__(self) -> str:
        return f"Local({self.data!r})"

    def __reduce__(self) -> tuple[type[Local], tuple[object, ...]]:
        return Local, (self.data,)


class Export(_Identifier):
    """An external function: `Export(Atom("lists"), Atom("map"), 2)` is `fun lists:map/2`; `arity` is at most 255.

    Source: External Term Format, EXPORT_EXT.

    >>> Export(Atom("lists"), Atom("map"), 2)
    Export(Atom('lists'), Atom('map'), 2)
    """

    __slots__ = ("arity", "function", "module")

    module: Atom
    function: Atom
    arity: int

    def __init__(self, module: Atom, function: Atom, arity: int) -> None:
        _checked("export", module, (("arity", arity, 8),))
        _checked("export", function, ())
        set_once(self, "module", module)
        set_once(self, "function", function)
        set_once(self, "arity", arity)

    def _identity(self) -> tuple[object, ...]:
        return self.module, self.function, self.arity

    def __repr__(self) -> str:
        return f"Export({self.module!r}, {self.function!r}, {self.arity})"

    def __reduce__(self) -> tuple[type[Export], tuple[object, ...]]:
        return Export, (self.module, self.function, self.arity)


class Fun(Immutable):
    """A closure, opaque: held to be sent back, never to be called here.

    `module`, `index`, `old_uniq` and `free` (its captured terms) identify it, as they do on the BEAM.

    Source: External Term Format, NEW_FUN_EXT.
    """

    __slots__ = ("arity", "free", "index", "module", "old_index", "old_uniq", "pid", "uniq")

    arity: int
    uniq: bytes
    index: int
    module: Atom
    old_index: int
    old_uniq: int
    pid: object
    free: tuple[object, ...]

    def __init__(  # noqa: PLR0917 - the fields of the format, in its order
        self,
        arity: int,
        uniq: bytes,
        index: int,
        module: Atom,
        old_index: int,
        old_uniq: int,
        pid: object,
        free: Iterable[object],
    ) -> None:
        _checked("fun", module, (("arity", arity, 8), ("index", index, 32)))
        for field, value in (("old_index", old_index), ("old_uniq", old_uniq)):
            if type(value) is not int or not -(1 << 59) <= value < 1 << 59:
                raise ValueError(f"fun: {field} is {value!r}, expected an int of 60 bits")
        free = tuple(free)
        if len(free) > 255:
            raise ValueError(f"fun: {len(free)} captured terms, limit 255")
        if len(uniq) != 16:
            raise ValueError(f"fun: uniq of {len(uniq)} bytes, expected 16")
        set_once(self, "arity", arity)
        set_once(self, "uniq", bytes(uniq))
        set_once(self, "index", index)
        set_once(self, "module", module)
        set_once(self, "old_index", old_index)
        set_once(self, "old_uniq", old_uniq)
        set_once(self, "pid", pid)
        set_once(self, "free", free)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Fun:
            return NotImplemented
        return (self.module, self.index, self.old_uniq, self.free) == (
            other.module,
            other.index,
            other.old_uniq,
            other.free,
        )

    def __hash__(self) -> int:
        return hash((Fun, self.module, self.index, self.old_uniq))

    def __repr__(self) -> str:
        return f"Fun({self.module!r}, index={self.index}, uniq={self.old_uniq}, arity={self.arity})"

    def __reduce__(self) -> tuple[type[Fun], tuple[object, ...]]:
        fields = (self.arity, self.uniq, self.index, self.module, self.old_index, self.old_uniq, self.pid, self.free)
        return Fun, fields


def plain(value: object, default: Callable[[object], object] | None) -> object:
    """The value of one of the codec's own types that stands for this one, or what `default` makes of it.

    Subclasses lose their class and keep their value, whatever methods they override; any `Mapping` becomes a `dict`.

    Raises:
        EncodeError: No term stands for the value, and there is no `default`.
    """
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bytes):
            return b"".join((value,))
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        if isinstance(value, int):
            return int.__index__(value)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, list):
            return list.copy(value)
        if isinstance(value, tuple):
            return tuple.__getitem__(value, slice(None))
        if isinstance(value, dict):
            return dict.copy(value)
        if isinstance(value, Mapping):
            return dict(value.items())
    except MemoryError:
        raise  # says nothing about the value
    except Exception as cause:
        raise EncodeError(f"cannot read {type(value).__name__}: {cause}") from cause
    if default is None:
        raise EncodeError(f"no Erlang term stands for {type(value).__name__}")
    return default(value)
