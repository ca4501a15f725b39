"""The decoder in plain Python: bytes in External Term Format to terms, in one loop, whatever the nesting.

Knows every tag that a BEAM sends and the limits that keep a hostile peer cheap. The loop keeps a stack of its own: a
container waits there as the iterator that counts its missing values, so a value costs one step of a `for` loop, and
nesting costs no Python frames. Reading past the end raises IndexError or struct.error, which `decode_plain` names;
a slice past the end is short, and the step after it, or the last check, notices.

A method is called on its list there, never kept in a variable: since Python 3.11 the first is the faster.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from itertools import repeat
from struct import Struct, unpack
from struct import error as struct_error

from erlbridge.codec._pure_readers import CACHED_ATOMS, read_atom_value, read_rare, read_u16, read_u32
from erlbridge.codec.atoms import Atom
from erlbridge.codec.order import TermMap
from erlbridge.codec.sizes import count_row
from erlbridge.codec.tags import COMPRESSED, VERSION_MAGIC
from erlbridge.codec.terms import Fun, ImproperList, Local
from erlbridge.errors import DecodeError, EncodeError
from erlbridge.limits import MAX_DEPTH, MAX_INFLATION, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_i32 = Struct(">i").unpack_from
_f64 = Struct(">d").unpack_from
_integer = int.from_bytes

# A container being read is known by its tag. The whole term and the tail of a list have none, and these instead.
_ROOT, _TAIL = 256, 257

# For counting the values of a short container: an iterator over a tuple is made in half the time of a `repeat`.
_SHORT = [(None,) * n for n in range(256)]

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
    if len(data) > 1 and data[1] == COMPRESSED:
        data = inflate(data, max_bytes)
        pos = 0
    return decode_plain(data, pos, max_depth, text)


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


def decode_plain(data: bytes, pos: int, max_depth: int, text: bool) -> object:
    """The one term that stands in the data from `pos` to the end, not compressed.

    The compiled twin comes here for the error of bytes that it has refused.
    """
    atoms = CACHED_ATOMS
    u32 = read_u32
    stack: list[tuple[Iterator[None], list[Any], int]] = []
    funs: list[int] = []
    values: list[Any] = []
    kind = _ROOT
    value: Any
    counter: Iterator[None] = iter(_SHORT[1])
    try:
        while True:
            for _ in counter:
                tag = data[pos]
                if tag == 109:  # BINARY_EXT
                    (n,) = u32(data, pos + 1)
                    start = pos + 5
                    pos = start + n
                    if text:
                        values.append(_text_or_bytes(data[start:pos]))
                    else:
                        values.append(data[start:pos])
                elif tag == 119:  # SMALL_ATOM_UTF8_EXT
                    end = pos + 2 + data[pos + 1]
                    try:
                        values.append(atoms[data[pos:end]])
                        pos = end
                    except KeyError:
                        value, pos = read_atom_value(data, pos)
                        values.append(value)
                elif tag < 104:
                    if tag == 98:  # INTEGER_EXT
                        values.append(_i32(data, pos + 1)[0])
                        pos += 5
                    elif tag == 97:  # SMALL_INTEGER_EXT
                        values.append(data[pos + 1])
                        pos += 2
                    elif tag == 100:  # ATOM_EXT; a name of 256 characters and more is not in the cache, and refused
                        end = pos + 3 + data[pos + 2]
                        try:
                            values.append(atoms[data[pos:end]])
                            pos = end
                        except KeyError:
                            value, pos = read_atom_value(data, pos)
                            values.append(value)
                    elif tag == 70:  # NEW_FLOAT_EXT
                        (value,) = _f64(data, pos + 1)
                        if value - value != 0.0:
                            raise DecodeError(f"float is {value}", pos)
                        values.append(value)
                        pos += 9
                    else:
                        value, pos = read_rare(data, pos)
                        values.append(value)
                elif tag in {104, 116, 108, 105, 112}:  # tuples, map, list, fun
                    if len(stack) >= max_depth:
                        raise DecodeError(f"term nested deeper than {max_depth}", pos)
                    stack.append((counter, values, kind))
                    kind = tag
                    if tag == 104:  # SMALL_TUPLE_EXT
                        n = data[pos + 1]
                        pos += 2
                    elif tag == 112:  # NEW_FUN_EXT; its size is not looked at, as the BEAM does not
                        n = 4 + u32(data, pos + 26)[0]
                        if n > 259:
                            raise DecodeError(f"fun with {n - 4} captured terms, limit 255", pos)
                        funs.append(pos)
                        pos += 30
                    else:  # MAP_EXT, LIST_EXT, LARGE_TUPLE_EXT
                        (n,) = u32(data, pos + 1)
                        pos += 5
                        if tag == 116:
                            n += n
                    if n > 3 and (data[pos] < 99 or data[pos] == 106):  # the tags of numbers are low; NIL_EXT
                        run = _read_run(data, pos, n)
                        if run is not None:
                            values, pos = run
                            counter = iter(())
                            break
                    values = []
                    counter = iter(_SHORT[n]) if n < 256 else repeat(None, n)
                    break
                elif tag == 110:  # SMALL_BIG_EXT
                    end = pos + 3 + data[pos + 1]
                    value = _integer(data[pos + 3 : end], "little")
                    values.append(-value if data[pos + 2] else value)
                    pos = end
                elif tag == 106:  # NIL_EXT
                    values.append([])
                    pos += 1
                elif tag == 107:  # STRING_EXT
                    (n,) = read_u16(data, pos + 1)
                    start = pos + 3
                    pos = start + n
                    values.append(list(data[start:pos]))
                elif tag == 121 and kind == _ROOT:  # LOCAL_EXT: a whole term, or none
                    values.append(Local(data[pos + 1 :]))
                    pos = len(data)
                else:
                    value, pos = read_rare(data, pos)
                    values.append(value)
            else:
                if kind == 116:  # MAP_EXT
                    value = make_map(values, pos)
                elif kind <= 105:  # SMALL_TUPLE_EXT, LARGE_TUPLE_EXT
                    value = tuple(values)
                elif kind == 108:  # LIST_EXT
                    value = values
                    tag = data[pos]
                    if tag == 106:  # NIL_EXT ends the list
                        pos += 1
                    elif tag == 107:  # STRING_EXT does too
                        (n,) = read_u16(data, pos + 1)
                        values.extend(data[pos + 3 : pos + 3 + n])
                        pos += 3 + n
                    elif tag == 108:  # a list as tail goes on in this one, so that a chain of them stays linear
                        (n,) = u32(data, pos + 1)
                        pos += 5
                        counter = repeat(None, n)
                        continue
                    else:
                        kind = _TAIL
                        counter = iter(_SHORT[1])
                        continue
                elif kind == _TAIL:
                    value = values.pop()
                    if values:  # else a list of no elements, which is its tail
                        value = ImproperList(values, value)
                elif kind == 112:  # NEW_FUN_EXT
                    value = make_fun(data, funs.pop(), values)
                else:
                    break
                counter, values, kind = stack.pop()
                values.append(value)
    except (IndexError, struct_error):
        raise DecodeError("input ends inside a term", len(data)) from None
    except DecodeError as refused:
        if refused.offset > len(data):  # bytes that are not there were stepped over before
            raise DecodeError("input ends inside a term", len(data)) from None
        raise
    if pos != len(data):
        if pos > len(data):
            raise DecodeError("input ends inside a term", len(data))
        raise DecodeError(f"{len(data) - pos} bytes after the term", pos)
    return values[0]


_SHORT_RUN = 1024
"""Floats that a format of their own is made for, which steps over their tags."""


@lru_cache(maxsize=64)
def _tagged_floats(n: int) -> Callable[[bytes, int], tuple[float, ...]]:
    """Unpacks so many floats, each behind its tag."""
    return Struct(">" + "xd" * n).unpack_from


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
        if n <= _SHORT_RUN:
            values: list[Any] = list(_tagged_floats(n)(data, pos))
        else:
            lanes = bytearray(8 * n)
            for lane in range(8):
                lanes[lane::8] = data[pos + 1 + lane : end : 9]
            values = list(unpack(f">{n}d", lanes))
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
        plain = {}
        pairs = iter(values)
        try:
            for key in pairs:
                plain[key] = next(pairs)
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
