"""Terms from what a reader has found: maps with Erlang's equality of keys, lists with a tail, bits after bits."""

from __future__ import annotations

import re

from erlbridge.codec._pure_decode import make_map as map_of
from erlbridge.codec.atoms import Atom
from erlbridge.codec.terms import BitString, ImproperList
from erlbridge.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from erlbridge.codec.notation.reader import Cursor

_SPECIAL = {"nil": None, "true": True, "false": False}
_MOST_BITS = 8 * 1024 * 1024 * 64
_BYTES = re.compile(r"(?:\s*[0-9]{1,3}\s*,)+")
"""Bytes that others follow, of which long binaries are made."""
_ARITY = re.compile(r"/([0-9]{1,3})")


def named(name: str) -> object:
    """The atom of this name, as the decoder gives it."""
    return _SPECIAL[name] if name in _SPECIAL else Atom(name)


def improper(values: list[object], tail: object) -> object:
    """The list with this tail, which may be a list itself."""
    if type(tail) is list:
        return values + tail
    if type(tail) is ImproperList:
        return ImproperList(values + tail.elements, tail.tail)
    return ImproperList(values, tail)


def make_map(cursor: Cursor, pairs: list[tuple[object, object]], start: int) -> object:
    """The map of these pairs, as the decoder gives it."""
    try:
        return map_of([part for pair in pairs for part in pair], start)
    except DecodeError as error:
        cursor.fail(error.message.removesuffix(f" at offset {start}"), start)


def read_arity(cursor: Cursor) -> int:
    """What stands behind a function's name."""
    found = cursor.match(_ARITY)
    if found is None or int(found[1]) > 255:
        cursor.expected("`/` and an arity of at most 255")
    return int(found[1])


class Bits:
    """The bits of a `<<…>>`, segment by segment."""

    __slots__ = ("_cursor", "_data", "_rest", "_rest_bits", "_start")

    def __init__(self, cursor: Cursor, start: int) -> None:
        self._cursor = cursor
        self._start = start
        self._data = bytearray()
        self._rest = 0
        self._rest_bits = 0

    def add(self, value: int, size: int, at: int) -> None:
        """An integer of so many bits; what does not fit is cut off, as it is on the BEAM."""
        if len(self._data) * 8 + size > _MOST_BITS:
            self._cursor.fail(f"segment of {size} bits, limit {_MOST_BITS} in all", at)
        if not self._rest_bits and size == 8:
            self._data.append(value & 0xFF)
            return
        self._rest = (self._rest << size) | (value & ((1 << size) - 1))
        self._rest_bits += size
        whole, self._rest_bits = divmod(self._rest_bits, 8)
        self._data += (self._rest >> self._rest_bits).to_bytes(whole, "big")
        self._rest &= (1 << self._rest_bits) - 1

    def take_run(self) -> None:
        """The bytes that stand here, if others follow them."""
        run = self._cursor.match(_BYTES)
        if run is not None:
            for number in run[0].split(",")[:-1]:
                self.add(int(number), 8, self._cursor.pos)

    def extend(self, data: bytes) -> None:
        """Whole bytes."""
        if not self._rest_bits:
            self._data += data
            return
        self.add(int.from_bytes(data, "big"), 8 * len(data), self._start)

    def value(self) -> bytes | BitString:
        """The whole."""
        if not self._rest_bits:
            return bytes(self._data)
        return BitString(bytes(self._data) + bytes((self._rest << (8 - self._rest_bits),)), self._rest_bits)
