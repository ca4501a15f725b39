"""What users write, and a strict type checker accepts. Read by `test_typing.py`, not run."""

from collections.abc import Callable, Mapping
from typing import Literal, assert_type

from erlbridge.codec import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec  # isort: skip
from erlbridge.codec import (
    Atom,
    BitString,
    DecodeError,
    EncodeError,
    Export,
    Fun,
    ImproperList,
    LazyTerm,
    Local,
    Pid,
    Port,
    Reference,
    StreamDecoder,
    TermMap,
    skip,
)
from erlbridge.codec.structs import to_python, to_term

OK = Atom("ok")
implementation: str = IMPLEMENTATION


def answer(data: bytes) -> str:
    match binary_to_term(data, text=True):
        case (Atom(name="ok"), str() as text):
            return text
        case [first, *_]:
            return str(first)
        case dict() | TermMap() as pairs:
            return ", ".join(repr(key) for key in pairs)
        case ImproperList(elements=elements, tail=tail):
            return repr([*elements, tail])
        case Pid() | Port() | Reference() as identifier:
            return identifier.node.name
        case Export(module=module, function=function, arity=arity):
            return f"{module}:{function}/{arity + 0}"
        case Fun(free=free) as fun:
            return f"{fun.module} {len(free)}"
        case BitString(data=held, bits=bits):
            return held.hex() + str(bits)
        case Local(data=private):
            return private.hex()
        case other:
            assert_type(other, object)
            return repr(other)


def offset(data: bytearray | memoryview) -> int | None:
    try:
        binary_to_term(data, max_depth=100, max_bytes=1 << 20)
    except DecodeError as error:
        return error.offset
    return None


def written(row: Mapping[str, float], default: Callable[[object], object] | None = None) -> bytes:
    try:
        return term_to_binary({OK: row, "pair": (1, 0.5, None)}, compressed=True, default=default)
    except EncodeError as error:
        return term_to_binary((Atom("error"), error.message), compressed=9, deterministic=True)


assert_type(binary_to_term(b""), object)
assert_type(term_to_binary([], default=to_term), bytes)
assert_type(term_to_iovec([], deterministic=True), list[bytes])
assert_type(OK.name, str)
assert_type(TermMap([(1, "a"), (1.0, "b")])[1], object)
assert_type(Pid(OK, 1, 2, 3).serial, int)
assert_type(Reference(OK, 1, (2, 3)).ids, tuple[int, ...])
assert_type(LazyTerm(b"\x83j").get("key"), LazyTerm | None)
assert_type([key for key, value in LazyTerm(b"\x83j").items() if value.kind], list[object])
assert_type(skip(b"\x83j"), int)
assert_type(to_python(None, arrays=True), object)
deferred: Callable[[object], object] = to_term
encoders: dict[Literal["whole", "parts"], Callable[[object], bytes | list[bytes]]] = {
    "whole": term_to_binary,
    "parts": term_to_iovec,
}


def terms(pieces: list[bytes]) -> list[object]:
    stream = StreamDecoder(max_term_bytes=1 << 20, text=True)
    found: list[object] = []
    for piece in pieces:
        stream.feed(piece)
        found.extend(stream)
    stream.close()
    return found
