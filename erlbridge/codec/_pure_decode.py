"""The decoder in plain Python: bytes in External Term Format to terms, in one loop, whatever the nesting.

Knows every tag that a BEAM sends and the limits that keep a hostile peer cheap. The loop keeps a stack of its own: a
container waits there as the iterator that counts its missing values, so a value costs one step of a `for` loop, and
nesting costs no Python frames. Reading past the end raises IndexError or struct.error, which `binary_to_term` names;
a slice past the end is short, and the step after it, or the last check, notices.
"""

from __future__ import annotations

import zlib
from itertools import repeat
from struct import Struct, unpack
from struct import error as struct_error

from erlbridge.codec._pure_readers import CACHED_ATOMS, read_atom_value, read_rare, read_u16, read_u32
from erlbridge.codec.atoms import Atom
from erlbridge.codec.order import TermMap
from erlbridge.codec.sizes import count_row
from erlbridge.codec.tags import (
    LARGE_TUPLE_EXT,
    LIST_EXT,
    LOCAL_EXT,
    MAP_EXT,
    NEW_FUN_EXT,
    SMALL_TUPLE_EXT,
    VERSION_MAGIC,
)
from erlbridge.codec.terms import Fun, ImproperList, Local
from erlbridge.errors import DecodeError, EncodeError
from erlbridge.limits import MAX_DEPTH, MAX_INFLATION, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_i32 = Struct(">i").unpack_from
_f64 = Struct(">d").unpack_from

# What the stack holds of a container until its values are there.
_ROOT, _LIST, _TAIL, _TUPLE, _MAP, _FUN = range(6)

_CONTAINERS = frozenset((MAP_EXT, LIST_EXT, SMALL_TUPLE_EXT, LARGE_TUPLE_EXT, NEW_FUN_EXT))

# Maps beyond this many keys are looked at for keys chosen to collide.
_CROWD = 256


def binary_to_term(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    max_bytes: int = MAX_TERM_BYTES,
    text: bool = False,
) -> object:
    """The term that the bytes hold.

    Args:
        data: One whole term with its version byte, as `erlang:term_to_binary/1` writes it.
        max_depth: How deep containers may nest.
        max_bytes: Most bytes that a compressed term may unpack to.
        text: Give binaries as `str` where they are valid UTF-8 (else `bytes`). The value stays the same; which of its
            binaries were text is no longer told.

    Raises:
        DecodeError: The bytes are no term, or exceed a limit; `offset` counts in the unpacked term if compressed.
        TypeError: `data` is not bytes-like.

    Source: External Term Format; `erlang:binary_to_term/1`.

    >>> binary_to_term(bytes.fromhex("8368027702 6f6b6101"))
    (Atom('ok'), 1)
    """
    if type(data) is not bytes:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"binary_to_term takes bytes, not {type(data).__name__}")
        data = bytes(data)
    if not data or data[0] != VERSION_MAGIC:
        raise DecodeError(f"no version byte {VERSION_MAGIC}", 0)
    pos = 1
    if data[1:2] == b"P":
        data = inflate(data, max_bytes)
        pos = 0
    return decode_plain(data, pos, max_depth, text)


def decode_plain(data: bytes, pos: int, max_depth: int, text: bool) -> object:
    """The one term that stands in the data from `pos` to the end, not compressed.

    The compiled twin comes here for the error of bytes that it has refused.
    """
    size = len(data)
    if pos < size and data[pos] == LOCAL_EXT:
        return Local(data[pos + 1 :])
    try:
        term, pos = _decode(data, pos, max_depth, text)
    except (IndexError, struct_error):
        raise DecodeError("input ends inside a term", size) from None
    if pos != size:
        if pos > size:
            raise DecodeError("input ends inside a term", size)
        raise DecodeError(f"{size - pos} bytes after the term", pos)
    return term


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The term inside a COMPRESSED one, without version byte; no byte is unpacked before the claim is believable."""
    if len(data) < 6:
        raise DecodeError("input ends inside a compressed term's header", len(data))
    (size,) = read_u32(data, 2)
    packed = len(data) - 6
    if size > max_bytes:
        raise DecodeError(f"compressed term of {size} bytes, limit {max_bytes}", 2)
    if size == 0 or size > packed * MAX_INFLATION:
        raise DecodeError(f"compressed term claims {size} bytes in {packed}, deflate gives {MAX_INFLATION} at most", 2)
    inflator = zlib.decompressobj()
    try:
        plain = inflator.decompress(memoryview(data)[6:], size)
        rest = b"" if inflator.eof else inflator.decompress(inflator.unconsumed_tail, 1)
    except zlib.error as cause:
        raise DecodeError(f"compressed term does not unpack ({cause})", 6) from None
    if rest or len(plain) != size or not inflator.eof:
        raise DecodeError(f"compressed term does not unpack to the {size} bytes it claims", 2)
    if inflator.unused_data:
        raise DecodeError(f"{len(inflator.unused_data)} bytes after the term", len(data) - len(inflator.unused_data))
    return plain


def _decode(data: bytes, pos: int, max_depth: int, text: bool) -> tuple[object, int]:
    """The term at `pos` and the position after it."""
    atoms = CACHED_ATOMS
    u32 = read_u32
    stack: list[tuple[Iterator[None], list[Any], int, int]] = []
    push = stack.append
    pop = stack.pop
    values: list[Any] = []
    append = values.append
    kind = _ROOT
    begin = 0
    value: Any
    counter: Iterator[None] = repeat(None, 1)
    while True:
        for _ in counter:
            tag = data[pos]
            if tag == 109:  # BINARY_EXT
                (n,) = u32(data, pos + 1)
                start = pos + 5
                pos = start + n
                if text:
                    append(_text_or_bytes(data[start:pos]))
                else:
                    append(data[start:pos])
            elif tag == 119:  # SMALL_ATOM_UTF8_EXT
                end = pos + 2 + data[pos + 1]
                try:
                    append(atoms[data[pos:end]])
                    pos = end
                except KeyError:
                    value, pos = read_atom_value(data, pos)
                    append(value)
            elif tag < 104:
                if tag == 97:  # SMALL_INTEGER_EXT
                    append(data[pos + 1])
                    pos += 2
                elif tag == 98:  # INTEGER_EXT
                    append(_i32(data, pos + 1)[0])
                    pos += 5
                elif tag == 100:  # ATOM_EXT; a name of 256 characters and more misses the cache, and is refused there
                    end = pos + 3 + data[pos + 2]
                    try:
                        append(atoms[data[pos:end]])
                        pos = end
                    except KeyError:
                        value, pos = read_atom_value(data, pos)
                        append(value)
                elif tag == 70:  # NEW_FLOAT_EXT
                    (value,) = _f64(data, pos + 1)
                    if value - value != 0.0:
                        raise DecodeError(f"float is {value}", pos)
                    append(value)
                    pos += 9
                else:
                    value, pos = read_rare(data, pos)
                    append(value)
            elif tag == 110:  # SMALL_BIG_EXT
                start = pos + 3
                end = start + data[pos + 1]
                value = int.from_bytes(data[start:end], "little")
                append(-value if data[pos + 2] else value)
                pos = end
            elif tag == 106:  # NIL_EXT
                append([])
                pos += 1
            elif tag in _CONTAINERS:
                if len(stack) >= max_depth:
                    raise DecodeError(f"term nested deeper than {max_depth}", pos)
                push((counter, values, kind, begin))
                if tag == 104:  # SMALL_TUPLE_EXT
                    n = data[pos + 1]
                    pos += 2
                    kind = _TUPLE
                elif tag == 112:  # NEW_FUN_EXT; its size is not looked at, as the BEAM does not
                    n = 4 + u32(data, pos + 26)[0]
                    if n > 259:
                        raise DecodeError(f"fun with {n - 4} captured terms, limit 255", pos)
                    begin = pos
                    pos += 30
                    kind = _FUN
                else:
                    (n,) = u32(data, pos + 1)
                    pos += 5
                    if tag == 116:  # MAP_EXT
                        n += n
                        kind = _MAP
                    else:  # LIST_EXT, LARGE_TUPLE_EXT
                        kind = _LIST if tag == 108 else _TUPLE
                if n > 3 and (data[pos] < 99 or data[pos] == 106):  # the tags of numbers are low; NIL_EXT
                    run = _read_run(data, pos, n)
                    if run is not None:
                        values, pos = run
                        counter = iter(())
                        break
                values = []
                append = values.append
                counter = repeat(None, n)
                break
            elif tag == 107:  # STRING_EXT
                (n,) = read_u16(data, pos + 1)
                start = pos + 3
                pos = start + n
                append(list(data[start:pos]))
            else:
                value, pos = read_rare(data, pos)
                append(value)
        else:
            if kind == _MAP:
                value = make_map(values, pos)
            elif kind == _TUPLE:
                value = tuple(values)
            elif kind == _LIST:
                value = values
                tag = data[pos]
                if tag == 106:  # NIL_EXT ends the list
                    pos += 1
                elif tag == 107:  # STRING_EXT does too
                    (n,) = read_u16(data, pos + 1)
                    values.extend(data[pos + 3 : pos + 3 + n])
                    pos += 3 + n
                else:
                    append = values.append
                    if tag == 108:  # a list as tail goes on in this one, so that a chain of them stays linear
                        (n,) = u32(data, pos + 1)
                        pos += 5
                        counter = repeat(None, n)
                    else:
                        kind = _TAIL
                        counter = repeat(None, 1)
                    continue
            elif kind == _TAIL:
                value = values.pop()
                if values:  # else a list of no elements, which is its tail
                    value = ImproperList(values, value)
            elif kind == _FUN:
                value = make_fun(data, begin, values)
            else:
                return values[0], pos
            counter, values, kind, begin = pop()
            append = values.append
            append(value)


def _read_run(data: bytes, pos: int, n: int) -> tuple[list[Any], int] | None:
    """All values of a container at once, if all are floats, integers of one size, or empty lists; else None.

    The tags are looked at together, no further than they agree. Empty lists are here because nothing else
    makes as many objects of its bytes.
    """
    tag = data[pos]
    size = len(data)
    if tag == 70:
        end = pos + 9 * n
        if end > size or data[pos + 9] != 70 or count_row(data, pos, n) != n:
            return None
        lanes = bytearray(8 * n)
        for lane in range(8):
            lanes[lane::8] = data[pos + 1 + lane : end : 9]
        values: list[Any] = list(unpack(f">{n}d", lanes))
        total = sum(values)
        if total - total != 0.0:  # a sum can overflow where no value is infinite
            for value in values:
                if value - value != 0.0:
                    raise DecodeError(f"float is {value}", pos)
        return values, end
    if tag == 97:
        end = pos + 2 * n
        if end > size or data[pos + 2] != 97 or count_row(data, pos, n) != n:
            return None
        return list(data[pos + 1 : end : 2]), end
    if tag == 98:
        end = pos + 5 * n
        if end > size or data[pos + 5] != 98 or count_row(data, pos, n) != n:
            return None
        lanes = bytearray(4 * n)
        for lane in range(4):
            lanes[lane::4] = data[pos + 1 + lane : end : 5]
        return list(unpack(f">{n}i", lanes)), end
    if tag == 106:
        end = pos + n
        return ([[] for _ in range(n)], end) if end <= size and count_row(data, pos, n) == n else None
    return None


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def make_map(values: list[Any], pos: int) -> object:
    """The map of these keys and values, alternating; `pos` is where it ends."""
    n = len(values) >> 1
    if n <= _CROWD or _hashes_differ(values[::2]):
        pairs = iter(values)
        try:
            plain = dict(zip(pairs, pairs))  # noqa: B905 - the one iterator gives both
            if len(plain) == n:
                return plain
        except (TypeError, RecursionError):
            pass  # a key that a dict refuses
    try:
        odd = TermMap(zip(values[::2], values[1::2]))  # noqa: B905 - as many keys as values
    except EncodeError as cause:
        raise DecodeError(cause.message, pos) from None
    if len(odd) != n:
        raise DecodeError(f"map with duplicate keys, {n - len(odd)} of {n}", pos)
    return odd


def _hashes_differ(keys: list[Any]) -> bool:
    """Whether a dict of these keys is safe: numbers and tuples can be chosen to share one hash, and cost a square."""
    try:
        return len(set(map(hash, keys))) * 8 > len(keys)
    except (TypeError, RecursionError):
        return False


def make_fun(data: bytes, pos: int, values: list[Any]) -> Fun:
    module, old_index, old_uniq, pid, *free = values
    if module is None or module is True or module is False:
        module = Atom("nil" if module is None else str(module).lower())
    if type(module) is not Atom:
        raise DecodeError("fun whose module is no atom", pos)
    try:
        return Fun(
            data[pos + 5], data[pos + 6 : pos + 22], read_u32(data, pos + 22)[0], module, old_index, old_uniq, pid, free
        )
    except ValueError as cause:
        raise DecodeError(str(cause), pos) from None
