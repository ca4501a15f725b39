"""The pure twin's readers of single values that are rare: odd atoms, old floats, bitstrings, identifiers, exports.

Each takes the data and the position of a tag and gives the value and the position after it. Knows the old forms and
what the BEAM refuses in them; knows no container. Reading past the end raises IndexError or struct.error, and what
ends beyond the data is noticed by the caller.
"""

from __future__ import annotations

from struct import Struct

from erlbridge.codec.atoms import Atom
from erlbridge.codec.tags import (
    ATOM_EXT,
    ATOM_UTF8_EXT,
    BIT_BINARY_EXT,
    EXPORT_EXT,
    FLOAT_EXT,
    INTEGER_EXT,
    LARGE_BIG_EXT,
    NEW_PID_EXT,
    NEW_PORT_EXT,
    NEW_REFERENCE_EXT,
    NEWER_REFERENCE_EXT,
    PID_EXT,
    PORT_EXT,
    REFERENCE_EXT,
    SMALL_ATOM_EXT,
    SMALL_ATOM_UTF8_EXT,
    SMALL_BIG_EXT,
    SMALL_INTEGER_EXT,
    V4_PORT_EXT,
)
from erlbridge.codec.terms import BitString, Export, Pid, Port, Reference
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_ATOM_CACHE, MAX_ATOM_CHARACTERS, MAX_INTEGER_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

read_u16 = Struct(">H").unpack_from
read_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from
_u64 = Struct(">Q").unpack_from

CACHED_ATOMS: dict[bytes, object] = {}
"""Atoms as they were read, tag included, and the values they stand for. Bounded; each thread may clear it."""

_LONGEST_CACHED = 128
_SPECIAL: dict[str, object] = {"nil": None, "true": True, "false": False}


def _read_atom(data: bytes, pos: int) -> tuple[Atom, int]:
    """Any of the four forms of an atom, as an Atom even if it is `true`, `false` or `nil`."""
    tag = data[pos]
    if tag in (SMALL_ATOM_UTF8_EXT, SMALL_ATOM_EXT):
        start = pos + 2
        n = data[pos + 1]
    elif tag in (ATOM_UTF8_EXT, ATOM_EXT):
        start = pos + 3
        (n,) = read_u16(data, pos + 1)
    else:
        raise DecodeError(f"tag {tag} where an atom is due", pos)
    end = start + n
    if end > len(data):
        raise IndexError
    try:
        name = data[start:end].decode("utf-8" if tag in (SMALL_ATOM_UTF8_EXT, ATOM_UTF8_EXT) else "latin-1")
    except UnicodeDecodeError as cause:
        raise DecodeError("atom is not UTF-8", start + cause.start) from None
    if len(name) > MAX_ATOM_CHARACTERS:
        raise DecodeError(f"atom of {len(name)} characters, limit {MAX_ATOM_CHARACTERS}", pos)
    return Atom(name), end


def read_atom_value(data: bytes, pos: int) -> tuple[object, int]:
    """An atom as a value: `nil`, `true` and `false` as Python's own. Remembers short ones, up to a bound."""
    atom, end = _read_atom(data, pos)
    value = _SPECIAL.get(atom.name, atom)
    if end - pos <= _LONGEST_CACHED:
        if len(CACHED_ATOMS) >= MAX_ATOM_CACHE:
            CACHED_ATOMS.clear()
        CACHED_ATOMS[data[pos:end]] = value
    return value, end


def _read_large_big(data: bytes, pos: int) -> tuple[int, int]:
    (n,) = read_u32(data, pos + 1)
    if n > MAX_INTEGER_BYTES:
        raise DecodeError(f"integer of {n} bytes, limit {MAX_INTEGER_BYTES}", pos)
    end = pos + 6 + n
    value = int.from_bytes(data[pos + 6 : end], "little")
    return -value if data[pos + 5] else value, end


_DIGITS = frozenset(b"0123456789")


def _read_float(data: bytes, pos: int) -> tuple[float, int]:
    """FLOAT_EXT: 31 bytes of text, ended by a zero byte, with digits on both sides of a point (or, as the BEAM has it,
    a comma) and perhaps an exponent."""
    end = pos + 32
    if end > len(data):
        raise IndexError
    written, closed, _ = data[pos + 1 : end].partition(b"\0")
    mantissa, _, exponent = written.lower().replace(b",", b".").partition(b"e")
    whole, _, fraction = mantissa.lstrip(b"+-").partition(b".")
    power = exponent[1:] if exponent[:1] in (b"+", b"-") else exponent
    signs = len(mantissa) - len(mantissa.lstrip(b"+-"))
    sound = closed and signs <= 1 and whole and fraction and _DIGITS.issuperset(whole + fraction + power)
    if not sound or (b"e" in written.lower() and not power):
        raise DecodeError("float text is malformed", pos)
    value = float(written.lower().replace(b",", b"."))
    if value - value != 0.0:
        raise DecodeError(f"float is {value}", pos)
    return value, end


def _read_bits(data: bytes, pos: int) -> tuple[bytes | BitString, int]:
    (n,) = read_u32(data, pos + 1)
    bits = data[pos + 5]
    end = pos + 6 + n
    if end > len(data):
        raise IndexError
    held = data[pos + 6 : end]
    if not n and not bits:
        return b"", end
    if not n or not 1 <= bits <= 8:
        raise DecodeError(f"bitstring of {n} bytes with {bits} bits in the last", pos)
    return (held if bits == 8 else BitString(held, bits)), end


def _creation(data: bytes, pos: int, wide: bool) -> tuple[int, int]:
    if wide:
        return read_u32(data, pos)[0], pos + 4
    creation = data[pos]
    if creation > 3:
        raise DecodeError(f"creation {creation} in an old form, limit 3", pos)
    return creation, pos + 1


def _read_pid(data: bytes, pos: int) -> tuple[Pid, int]:
    node, at = _read_atom(data, pos + 1)
    creation, end = _creation(data, at + 8, data[pos] == NEW_PID_EXT)
    return Pid(node, read_u32(data, at)[0], read_u32(data, at + 4)[0], creation), end


def _read_port(data: bytes, pos: int) -> tuple[Port, int]:
    node, at = _read_atom(data, pos + 1)
    if data[pos] == V4_PORT_EXT:
        return Port(node, _u64(data, at)[0], read_u32(data, at + 8)[0]), at + 12
    creation, end = _creation(data, at + 4, data[pos] == NEW_PORT_EXT)
    return Port(node, read_u32(data, at)[0], creation), end


def _read_reference(data: bytes, pos: int) -> tuple[Reference, int]:
    """The three forms: one word; words before which stands a short creation; words before which stands a long one."""
    tag = data[pos]
    if tag == REFERENCE_EXT:
        node, at = _read_atom(data, pos + 1)
        ids: tuple[int, ...] = read_u32(data, at)
        creation, end = _creation(data, at + 4, False)
    else:
        (n,) = read_u16(data, pos + 1)
        if not 1 <= n <= 5:  # at none, OTP 25 reads a word all the same, even beyond the input
            raise DecodeError(f"reference of {n} words, expected 1 to 5", pos)
        node, at = _read_atom(data, pos + 3)
        creation, at = _creation(data, at, tag == NEWER_REFERENCE_EXT)
        end = at + 4 * n
        ids = tuple(read_u32(data, word)[0] for word in range(at, end, 4))
    if tag != NEWER_REFERENCE_EXT and ids[0] >> 18:
        raise DecodeError(f"reference with first word {ids[0]} in an old form, limit 18 bits", pos)
    return Reference(node, creation, ids), end


def _read_export(data: bytes, pos: int) -> tuple[Export, int]:
    module, at = _read_atom(data, pos + 1)
    function, at = _read_atom(data, at)
    tag = data[at]
    if tag == SMALL_INTEGER_EXT:
        arity, end = data[at + 1], at + 2
    elif tag == INTEGER_EXT:
        arity, end = _i32(data, at + 1)[0], at + 5
    elif tag == SMALL_BIG_EXT:
        end = at + 3 + data[at + 1]
        arity = int.from_bytes(data[at + 3 : end], "little") * (-1 if data[at + 2] else 1)
    elif tag == LARGE_BIG_EXT:
        arity, end = _read_large_big(data, at)
    else:
        raise DecodeError(f"tag {tag} where an arity is due", at)
    if not 0 <= arity <= 255:
        raise DecodeError("export with an arity outside 0 to 255", at)
    return Export(module, function, arity), end


_READERS: dict[int, Callable[[bytes, int], tuple[object, int]]] = {
    ATOM_UTF8_EXT: read_atom_value,
    SMALL_ATOM_EXT: read_atom_value,
    LARGE_BIG_EXT: _read_large_big,
    FLOAT_EXT: _read_float,
    BIT_BINARY_EXT: _read_bits,
    NEW_PID_EXT: _read_pid,
    PID_EXT: _read_pid,
    NEW_PORT_EXT: _read_port,
    PORT_EXT: _read_port,
    V4_PORT_EXT: _read_port,
    REFERENCE_EXT: _read_reference,
    NEW_REFERENCE_EXT: _read_reference,
    NEWER_REFERENCE_EXT: _read_reference,
    EXPORT_EXT: _read_export,
}


def read_rare(data: bytes, pos: int) -> tuple[object, int]:
    reader = _READERS.get(data[pos])
    if reader is None:
        raise DecodeError(f"unknown tag {data[pos]}", pos)
    return reader(data, pos)
