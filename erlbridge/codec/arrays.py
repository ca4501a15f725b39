"""NumPy's arrays as terms: `{:ndarray, {:f, 64}, {2, 3}, binary}`, types named as Nx names them.

The binary is the elements in C order, little-endian. It is not copied but where an array is neither contiguous nor
little-endian, and not on the way back. Knows these four fields; imports NumPy when one is read, never to write one.
"""

from __future__ import annotations

import sys
from math import prod

from erlbridge.codec.atoms import Atom
from erlbridge.errors import EncodeError, MissingPackage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NDARRAY = Atom("ndarray")
_NX_OF = {"f": Atom("f"), "i": Atom("s"), "u": Atom("u"), "b": Atom("u"), "c": Atom("c")}
_BF = Atom("bf")
_CODES = {
    **{(Atom("f"), bits): f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{(Atom("c"), bits): f"<c{bits // 8}" for bits in (64, 128)},
    **{(Atom("s"), bits): f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{(Atom("u"), bits): f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
_BIGGEST = (1 << 63) - 1
_MOST_DIMENSIONS = 32  # what every NumPy can hold


def array_to_term(value: object) -> object:
    """The term of an array, or of NumPy's scalar; NotImplemented if the value is neither.

    Raises:
        EncodeError: Its type has no name in Nx (dates, text, objects, records, floats of 80 bits), or it is masked.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return NotImplemented
    if isinstance(value, numpy.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return value.item()
    if not isinstance(value, numpy.ndarray):
        return NotImplemented
    masked: Any = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise EncodeError("a masked array has no term; fill it first")
    kind = _type_of(value.dtype)
    plain = numpy.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return _NDARRAY, kind, value.shape, plain.reshape(-1).view(numpy.uint8).data


def _type_of(dtype: Any) -> tuple[Atom, int]:
    bits = dtype.itemsize * 8
    if dtype.name == "bfloat16":
        return _BF, bits
    kind = _NX_OF.get(dtype.kind)
    if kind is None or (kind, bits) not in _CODES:
        raise EncodeError(f"an array of {dtype} has no type in Nx")
    return kind, bits


def term_to_array(term: tuple[object, ...]) -> object:
    """The array that this term is, read-only and over the binary's own memory; the term itself if it is none.

    `{:bf, 16}` needs ml_dtypes to be loaded, and stays a term where it is not.

    Raises:
        MissingPackage: It is an array, and NumPy is not installed.
    """
    if len(term) != 4 or term[0] is not _NDARRAY:
        return term
    _, kind, shape, data = term
    if type(kind) is not tuple or len(kind) != 2 or type(kind[0]) is not Atom or type(kind[1]) is not int:
        return term
    if type(shape) is not tuple or len(shape) > _MOST_DIMENSIONS:
        return term
    if any(type(length) is not int or not 0 <= length <= _BIGGEST for length in shape):
        return term
    if isinstance(data, str):  # a binary read as text
        data = data.encode()
    code = "bfloat16" if kind == (_BF, 16) and "ml_dtypes" in sys.modules else _CODES.get(kind)
    if code is None or not isinstance(data, bytes) or len(data) * 8 != prod(shape) * kind[1]:
        return term
    try:
        import numpy  # noqa: PLC0415 - loaded only where an array is asked for
    except ImportError as cause:
        raise MissingPackage("the term holds an array and NumPy is not installed: pip install numpy") from cause
    try:
        return numpy.frombuffer(data, numpy.dtype(code)).reshape(shape)
    except ValueError:  # a shape whose product is 0, and whose parts overflow
        return term
