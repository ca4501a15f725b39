"""The encoder in plain Python: terms to bytes in External Term Format, in one loop, whatever the nesting.

Knows which tag stands for which value, and dispatches on a value's exact type; what is not of an exact type goes
through `terms.plain` first. The loop keeps a stack of its own: a container waits there as the iterator over the rest
of its values.
"""

from __future__ import annotations

import zlib
from itertools import chain
from struct import Struct, pack

from erlbridge.codec._pure_refusal import located, refusal
from erlbridge.codec._pure_writers import WRITERS, header
from erlbridge.codec.atoms import Atom
from erlbridge.codec.order import TermMap, sorted_entries
from erlbridge.codec.tags import BINARY_EXT
from erlbridge.codec.terms import Fun, ImproperList, Local, plain
from erlbridge.errors import EncodeError
from erlbridge.limits import MAX_DEPTH, MAX_INTEGER_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_u32 = Struct(">I").pack
_byte_u32 = Struct(">BI").pack
_byte_i32 = Struct(">Bi").pack
_byte_f64 = Struct(">Bd").pack
_flat = chain.from_iterable
_SMALL_INTEGER = [b"a%c" % value for value in range(256)]
_POSITIVE_BIG = [b"n%c\0" % size for size in range(256)]
_NEGATIVE_BIG = [b"n%c\1" % size for size in range(256)]
_SMALL_TUPLE = [b"h%c" % arity for arity in range(256)]
_SHORT_BINARY = [_byte_u32(109, size) for size in range(256)]
_SHORT_MAP = [_byte_u32(116, size) for size in range(33)]
_SHORT_LIST = [_byte_u32(108, size) for size in range(33)]
# Where all keys of a dict are of one of these types, no two of them are one key in Erlang.
_PLAIN_KEYS = frozenset((Atom, str, bytes, int, float, bool))
_all_atoms = frozenset((Atom,)).issuperset

PART_BYTES = 65536
"""From this size on a binary is a part of its own in `term_to_iovec`."""

# What the stack holds of a container is how it ends: a list with the count of elements that its header gave, a fun with
# this, all others with None.
_FUN_END = -1


def term_to_binary(
    term: object,
    *,
    compressed: bool | int = False,
    deterministic: bool = False,
    default: Callable[[object], object] | None = None,
) -> bytes:
    """The term in External Term Format, with its version byte.

    Args:
        term: Any value of the types that `binary_to_term` gives, or `str`, `bytearray`, `memoryview` (as binaries),
            any `Mapping` (as a map), and subclasses of all these.
        compressed: Pack with zlib at this level (1 to 9; True is 6; 0 and False do not), if that makes it shorter.
        deterministic: Write the keys of maps in Erlang's order, so that equal terms give equal bytes.
        default: Called with a value of any other type; what it returns is written in its place.

    Raises:
        EncodeError: No term stands for a value (NaN, an infinity, a lone surrogate, a type without `default`), a
            container holds itself or nests too deep, or two keys of a dict are one key in Erlang.
        ValueError: `compressed` is no level.

    Source: External Term Format; `erlang:term_to_binary/2`.

    >>> term_to_binary((Atom("ok"), 1)).hex()
    '83680277026f6b6101'
    """
    level = 0 if compressed is False else read_level(compressed)
    if type(term) is Local:
        return b"\x83y" + term.data
    data = b"".join(_encode(term, deterministic, default))
    return squeeze(data, level) if level else data


def term_to_iovec(
    term: object, *, deterministic: bool = False, default: Callable[[object], object] | None = None
) -> list[bytes]:
    """The bytes of `term_to_binary` in parts, for `os.writev`: large binaries are not copied into a whole.

    A binary of 64 KiB and more is a part of its own, and is the object itself where that is `bytes`; what stands
    between them is joined.

    Raises:
        EncodeError: As `term_to_binary`.

    Source: `erlang:term_to_iovec/2`.

    >>> [len(part) for part in term_to_iovec([b"small", bytes(100_000)])]
    [21, 100000, 1]
    """
    if type(term) is Local:
        return [b"\x83y" + term.data]
    out = _encode(term, deterministic, default)
    parts = []
    begin = 0
    for index, large in enumerate(out):
        # Only the header of a binary is a part of five bytes that begins with BINARY_EXT.
        if len(large) >= PART_BYTES and len(out[index - 1]) == 5 and out[index - 1][0] == BINARY_EXT:
            parts += [b"".join(out[begin:index]), large]
            begin = index + 1
    if begin < len(out):
        parts.append(b"".join(out[begin:]))
    return parts


def read_level(compressed: bool | int) -> int:
    level = 6 if compressed is True else int(compressed)
    if not 0 <= level <= 9:
        raise ValueError(f"compressed is {compressed!r}, expected a level from 0 to 9")
    return level


def squeeze(data: bytes, level: int) -> bytes:
    """The same term compressed at this level, if there is one and that makes it shorter."""
    size = len(data) - 1
    if level and size < 1 << 32:
        squeezed = zlib.compress(memoryview(data)[1:], level)
        if len(squeezed) + 5 < size:
            return b"\x83P" + _u32(size) + squeezed
    return data


def _encode(term: object, deterministic: bool, default: Callable[[object], object] | None) -> list[bytes]:
    """The parts whose concatenation is the term."""
    out: list[bytes] = [b"\x83"]
    stack: list[tuple[Iterator[Any], Any, int | None]] = []
    funs: list[list[int]] = []
    owner: Any = None
    ending: int | None = None
    todo: Iterator[Any] = iter((term,))
    inner: Iterator[Any]
    asking = False  # whether an exception may come from `default`, which raises what it likes
    value: Any = None
    try:
        while True:
            for value in todo:
                kind = type(value)
                if kind is bytes:
                    n = len(value)
                    out.append(_SHORT_BINARY[n] if n < 256 else header(109, n))
                    out.append(value)
                elif kind is Atom:
                    out.append(value.wire)
                elif kind is str:
                    raw = value.encode()
                    n = len(raw)
                    out.append(_SHORT_BINARY[n] if n < 256 else header(109, n))
                    out.append(raw)
                elif kind is int:
                    if 0 <= value <= 255:
                        out.append(_SMALL_INTEGER[value])
                    elif -2147483648 <= value <= 2147483647:
                        out.append(_byte_i32(98, value))
                    else:
                        out.append(_big(value))
                elif kind is dict:
                    n = len(value)
                    out.append(_SHORT_MAP[n] if n < 33 else header(116, n))
                    if len(stack) >= 64:
                        _check_depth(stack, owner, value)
                    if deterministic:
                        asking = True
                        inner = _flat([entry[1:] for entry in sorted_entries(value, default)])
                        asking = False
                    else:
                        if not (_all_atoms(map(type, value)) or _keys_differ(value)):
                            asking = True
                            sorted_entries(value, default)  # refuses keys that are one key in Erlang
                            asking = False
                        inner = _flat(value.items())
                    stack.append((todo, owner, ending))
                    todo = inner
                    owner = value
                    ending = None
                    break
                elif kind is tuple:
                    n = len(value)
                    out.append(_SMALL_TUPLE[n] if n < 256 else header(105, n))
                    if len(stack) >= 64:
                        _check_depth(stack, owner, value)
                    stack.append((todo, owner, ending))
                    todo = iter(value)
                    owner = value
                    ending = None
                    break
                elif kind is list:
                    n = len(value)
                    if not n:
                        out.append(b"j")
                        continue
                    first = type(value[0])
                    if first is int or first is float:
                        run = _run(value, n, first)
                        if run is not None:
                            out.append(run)
                            continue
                    out.append(_SHORT_LIST[n] if n < 33 else header(108, n))
                    if len(stack) >= 64:
                        _check_depth(stack, owner, value)
                    stack.append((todo, owner, ending))
                    todo = iter(value)
                    owner = value
                    ending = n
                    break
                elif kind is float:
                    if value - value != 0.0:
                        raise EncodeError(f"Erlang has no float {value!r}")
                    out.append(_byte_f64(70, value))
                elif value is None:
                    out.append(b"w\3nil")
                elif kind is bool:
                    out.append(b"w\4true" if value else b"w\5false")
                elif (writer := WRITERS.get(kind)) is not None:
                    out.append(writer(value))
                else:
                    if len(stack) >= 64:
                        _check_depth(stack, owner, value)
                    opened = None
                    if kind is TermMap:
                        out.append(header(116, len(value)))
                        inner = iter(term_map_values(value, deterministic))
                    elif kind is ImproperList:
                        elements = tuple(value.elements)
                        if not elements:
                            raise EncodeError("improper list that was emptied")
                        out.append(header(108, len(elements)))
                        inner = chain(elements, (value.tail,))
                    elif kind is Fun:
                        funs.append([len(out), len(out), 0])
                        out.append(b"")
                        inner = chain((value.module, value.old_index, value.old_uniq, value.pid), value.free)
                        opened = _FUN_END
                    else:
                        asking = True
                        inner = iter((plain(value, default),))
                        asking = False
                    stack.append((todo, owner, ending))
                    todo = inner
                    ending = opened
                    owner = value
                    break
            else:
                if ending is not None:
                    if ending == _FUN_END:
                        _close_fun(owner, funs, out)
                    else:
                        if len(owner) != ending:
                            value = owner
                            _, owner, _ = stack.pop()  # the list's own place is told
                            raise EncodeError("list changed while it was written")
                        out.append(b"j")
                if not stack:
                    return out
                todo, owner, ending = stack.pop()
    except EncodeError as error:
        if asking and default is not None:
            raise
        raise located(error, _owners(stack, owner), value) from error.__cause__
    except UnicodeEncodeError as cause:
        if asking:
            raise
        message = f"str with a lone surrogate at index {cause.start}"
        raise refusal(message, _owners(stack, owner), value) from None
    except (RuntimeError, IndexError) as cause:
        if asking:
            raise
        raise EncodeError(f"{type(owner).__name__} changed while it was written ({cause})") from None


def _keys_differ(pairs: dict[Any, Any]) -> bool:
    """Whether all keys are of one type of which two distinct values are two keys in Erlang too."""
    kinds = set(map(type, pairs))
    return len(kinds) == 1 and kinds <= _PLAIN_KEYS


def _big(value: int) -> bytes:
    """An integer beyond 32 bits. Its magnitude is written in one step, so that time stays linear in its length."""
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) >> 3
    if size < 256:
        return (_NEGATIVE_BIG if value < 0 else _POSITIVE_BIG)[size] + magnitude.to_bytes(size, "little")
    if size > MAX_INTEGER_BYTES:
        raise EncodeError(f"integer of {size} bytes, limit {MAX_INTEGER_BYTES}")
    return b"o" + _u32(size) + (b"\1" if value < 0 else b"\0") + magnitude.to_bytes(size, "little")


def _run(values: list[Any], n: int, kind: type) -> bytes | None:
    """A whole list of integers or of floats, header and end included; None if it is not all of this kind."""
    if kind is float and n < 4:
        return None
    kinds = set(map(type, values))
    if len(kinds) != 1 or kind not in kinds:
        return None
    if kind is float:
        total = sum(values)
        if total - total != 0.0:
            return None  # an infinity, a NaN, or an overflow of the sum alone: told apart one by one
        packed = pack(f">{n}d", *values)
        lanes = bytearray(b"F\0\0\0\0\0\0\0\0") * n
        for lane in range(8):
            lanes[lane + 1 :: 9] = packed[lane::8]
        return header(108, n) + lanes + b"j"
    try:
        small = bytes(values)
    except ValueError:
        return header(108, n) + b"".join(
            [
                _SMALL_INTEGER[value]
                if 0 <= value <= 255
                else _byte_i32(98, value)
                if -2147483648 <= value <= 2147483647
                else _big(value)
                for value in values
            ]
        ) + b"j"  # fmt: skip
    if n < 65536:
        return b"k" + n.to_bytes(2, "big") + small
    lanes = bytearray(b"a\0") * n
    lanes[1::2] = small
    return header(108, n) + lanes + b"j"


def _close_fun(fun: Fun, funs: list[list[int]], out: list[bytes]) -> None:
    """Puts the fun's header, which holds its size, in the place kept for it.

    `funs` has, for every open fun, where its header goes, up to where its bytes are counted, and that count; counts go
    from inner to outer, so that no part is counted twice, however deep funs nest.
    """
    start, counted_to, count = funs.pop()
    count += sum(map(len, out[counted_to:])) + 29
    out[start] = pack(">BIB16sII", 112, count, fun.arity, fun.uniq, fun.index, len(fun.free))
    if funs:
        outer = funs[-1]
        outer[2] += sum(map(len, out[outer[1] : start])) + count + 1
        outer[1] = len(out)


def _check_depth(stack: list[tuple[Iterator[Any], Any, int | None]], owner: object, value: object) -> None:
    """Refuses what nests too deep. Looks for cycles at each doubling of the depth, so that it costs next to nothing."""
    depth = len(stack)
    if depth >= MAX_DEPTH:
        raise EncodeError(f"term nested deeper than {MAX_DEPTH}")
    if depth & (depth - 1) == 0:
        owners = [id(frame[1]) for frame in stack]
        owners += (id(owner), id(value))
        if len(set(owners)) < len(owners):
            raise EncodeError(f"{type(value).__name__} holds itself")


def _owners(stack: list[tuple[Iterator[Any], Any, int | None]], owner: object) -> list[object]:
    """The open containers, from the outermost on."""
    return [frame[1] for frame in stack[1:]] + ([owner] if stack else [])


# -- what the compiled twin leaves to Python, because it is rare -------------------------------------------------------


def sorted_values(pairs: dict[object, object], default: Callable[[object], object] | None) -> tuple[object, ...]:
    """Keys and values, alternating, in Erlang's order of keys."""
    return tuple(_flat([entry[1:] for entry in sorted_entries(pairs, default)]))


def term_map_values(pairs: TermMap, deterministic: bool) -> tuple[object, ...]:
    """Keys and values, alternating, in their own order or in Erlang's."""
    entries = pairs.entries
    forms = sorted(entries) if deterministic else list(entries)
    return tuple(_flat([entries[form] for form in forms]))


def is_float_run(values: list[Any]) -> bool:
    """Whether a list of floats is written in one piece, and so opens nothing that could nest too deep."""
    return _run(values, len(values), float) is not None
