"""The rare terms on their way out: bitstrings, identifiers and external funs, each with its tag and its fields.

Knows the layout of each; knows no container. The compiled twin leaves these to Python as well.
"""

from __future__ import annotations

from struct import Struct, pack

from erlbridge.codec.terms import BitString, Export, Local, Pid, Port, Reference
from erlbridge.errors import EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LONGEST = (1 << 32) - 1
_byte_u32 = Struct(">BI").pack


def header(tag: int, size: int) -> bytes:
    if size > _LONGEST:
        raise EncodeError(f"size {size}, limit {_LONGEST}")
    return _byte_u32(tag, size)


def write_rare(value: object, _: object = None) -> bytes:
    return WRITERS[type(value)](value)


def _write_bits(value: BitString) -> bytes:
    return header(77, len(value.data)) + bytes((value.bits,)) + value.data


def _write_pid(value: Pid) -> bytes:
    return b"X" + value.node.wire + pack(">III", value.id, value.serial, value.creation)


def _write_port(value: Port) -> bytes:
    if value.id < 1 << 28:  # where the BEAM changes from NEW_PORT_EXT to V4_PORT_EXT
        return b"Y" + value.node.wire + pack(">II", value.id, value.creation)
    return b"x" + value.node.wire + pack(">QI", value.id, value.creation)


def _write_reference(value: Reference) -> bytes:
    n = len(value.ids)
    return pack(">BH", 90, n) + value.node.wire + pack(f">{n + 1}I", value.creation, *value.ids)


def _write_export(value: Export) -> bytes:
    return b"q" + value.module.wire + value.function.wire + b"a%c" % value.arity


def _refuse_local(_: Local) -> bytes:
    raise EncodeError("a Local is a whole term and no part of one")


WRITERS: dict[type, Callable[[Any], bytes]] = {
    BitString: _write_bits,
    Pid: _write_pid,
    Port: _write_port,
    Reference: _write_reference,
    Export: _write_export,
    Local: _refuse_local,
}
