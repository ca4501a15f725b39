"""How many bytes each tag takes, and how many values each container holds: all that is needed to step over a term.

Knows the layout of every tag that the decoder reads, and refuses what tells no size. Knows nothing of nesting, which
`skip` follows. Reading past the end raises IndexError or struct.error; an end beyond the data is the caller's to see.
"""

from __future__ import annotations

from struct import Struct

from erlbridge.codec.tags import (
    ATOM_EXT,
    ATOM_UTF8_EXT,
    BIT_BINARY_EXT,
    EXPORT_EXT,
    FLOAT_EXT,
    INTEGER_EXT,
    LARGE_BIG_EXT,
    LARGE_TUPLE_EXT,
    LIST_EXT,
    MAP_EXT,
    NEW_FLOAT_EXT,
    NEW_FUN_EXT,
    NEW_PID_EXT,
    NEW_PORT_EXT,
    NEW_REFERENCE_EXT,
    NEWER_REFERENCE_EXT,
    NIL_EXT,
    PID_EXT,
    PORT_EXT,
    REFERENCE_EXT,
    SMALL_ATOM_EXT,
    SMALL_ATOM_UTF8_EXT,
    SMALL_BIG_EXT,
    SMALL_INTEGER_EXT,
    SMALL_TUPLE_EXT,
    STRING_EXT,
    V4_PORT_EXT,
)
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_INTEGER_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    Data = bytes | bytearray | memoryview

read_u16 = Struct(">H").unpack_from
read_u32 = Struct(">I").unpack_from

_SIZES = {SMALL_INTEGER_EXT: 2, INTEGER_EXT: 5, NEW_FLOAT_EXT: 9, FLOAT_EXT: 32, NIL_EXT: 1}
FIXED = bytes(_SIZES.get(tag, 0) for tag in range(256))
"""By tag, how many bytes a value takes that always takes as many; else 0."""

CONTAINERS = frozenset((LIST_EXT, SMALL_TUPLE_EXT, LARGE_TUPLE_EXT, MAP_EXT, NEW_FUN_EXT))

# What follows the node's name in an identifier.
_AFTER_NODE = {PID_EXT: 9, NEW_PID_EXT: 12, PORT_EXT: 5, NEW_PORT_EXT: 8, V4_PORT_EXT: 12, REFERENCE_EXT: 5}


def count_row(data: Data, pos: int, most: int) -> int:
    """How many values with the tag at `pos`, one of `FIXED`, follow each other there; the last may be cut.

    Looks at tags alone, by slices with the step of their size. Each slice is four times the one before, as long as all
    tags in it agree, so that what is looked at in vain is no more than what is found.
    """
    tag = bytes(data[pos : pos + 1])
    step = FIXED[tag[0]]
    count = 0
    take = 8
    while count < most:
        take = min(take, most - count)
        tags = bytes(data[pos : pos + step * take : step])
        same = len(tags) - len(tags.lstrip(tag))
        count += same
        if same < take:
            break
        pos += step * take
        take *= 4
    return count


def open_container(data: Data, pos: int, tag: int) -> tuple[int, int]:
    """How many values the container at `pos` has (a list, without its tail), and where the first is."""
    if tag == SMALL_TUPLE_EXT:
        return data[pos + 1], pos + 2
    if tag == NEW_FUN_EXT:
        (free,) = read_u32(data, pos + 26)
        if free > 255:
            raise DecodeError(f"fun with {free} captured terms, limit 255", pos)
        return 4 + free, pos + 30
    (count,) = read_u32(data, pos + 1)
    return count * 2 if tag == MAP_EXT else count, pos + 5


def _end_of_atom(data: Data, pos: int) -> int:
    tag = data[pos]
    if tag in (SMALL_ATOM_UTF8_EXT, SMALL_ATOM_EXT):
        return pos + 2 + data[pos + 1]
    if tag in (ATOM_UTF8_EXT, ATOM_EXT):
        return pos + 3 + int(read_u16(data, pos + 1)[0])
    raise DecodeError(f"tag {tag} where an atom is due", pos)


def _end_of_large_big(data: Data, pos: int) -> int:
    (size,) = read_u32(data, pos + 1)
    if size > MAX_INTEGER_BYTES:
        raise DecodeError(f"integer of {size} bytes, limit {MAX_INTEGER_BYTES}", pos)
    return pos + 6 + int(size)


def _end_of_export(data: Data, pos: int) -> int:
    at = _end_of_atom(data, _end_of_atom(data, pos + 1))
    tag = data[at]
    if tag in (SMALL_INTEGER_EXT, INTEGER_EXT):
        return at + FIXED[tag]
    if tag == SMALL_BIG_EXT:
        return at + 3 + data[at + 1]
    if tag == LARGE_BIG_EXT:
        return _end_of_large_big(data, at)
    raise DecodeError(f"tag {tag} where an arity is due", at)


def end_of_rare(data: Data, pos: int) -> int:
    """The end of a value that is neither of a fixed size nor a container."""
    tag = data[pos]
    if tag in _AFTER_NODE:
        return _end_of_atom(data, pos + 1) + _AFTER_NODE[tag]
    if tag in (ATOM_EXT, ATOM_UTF8_EXT, SMALL_ATOM_EXT):
        return _end_of_atom(data, pos)
    if tag == STRING_EXT:
        return pos + 3 + int(read_u16(data, pos + 1)[0])
    if tag == SMALL_BIG_EXT:
        return pos + 3 + data[pos + 1]
    if tag == LARGE_BIG_EXT:
        return _end_of_large_big(data, pos)
    if tag == BIT_BINARY_EXT:
        return pos + 6 + int(read_u32(data, pos + 1)[0])
    if tag in (NEW_REFERENCE_EXT, NEWER_REFERENCE_EXT):
        (words,) = read_u16(data, pos + 1)
        if not 1 <= words <= 5:
            raise DecodeError(f"reference of {words} words, expected 1 to 5", pos)
        return _end_of_atom(data, pos + 3) + (1 if tag == NEW_REFERENCE_EXT else 4) + 4 * int(words)
    if tag == EXPORT_EXT:
        return _end_of_export(data, pos)
    raise DecodeError(f"unknown tag {tag}", pos)
