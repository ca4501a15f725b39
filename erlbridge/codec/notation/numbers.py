"""Numbers as text and back, the same in both notations, and in time whatever their size.

The interpreter refuses to convert integers of more than 4,300 digits, since it does so in a time that grows with the
square of their length. Here they go through `decimal`, whose multiplication is faster, in halves; and beyond
`MAX_DECIMAL_BYTES` they are hexadecimal.
"""

from __future__ import annotations

import decimal

from erlbridge.limits import MAX_DECIMAL_BYTES

_PLAIN_BITS = 4096
"""An integer up to this size is converted by the interpreter itself: 1,234 digits."""
_LEAF_BITS = 2048
_EXACT_FLOAT = float(1 << 53)


def integer_text(value: int, hexadecimal: str, room: int) -> str:
    """An integer in decimal, or in hexadecimal behind the given prefix if it is longer than decimal is worth.

    Of a hexadecimal one that needs more than `room` characters the first ones, and `...`.
    """
    bits = value.bit_length()
    if bits <= _PLAIN_BITS:
        return str(value)
    sign = "-" if value < 0 else ""
    if bits <= MAX_DECIMAL_BYTES * 8 and bits * 0.30103 <= room:
        with decimal.localcontext(
            decimal.Context(
                prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.Inexact]
            )
        ):
            return sign + str(_as_decimal(abs(value), bits, {}))
    digits = (bits + 3) // 4
    if digits <= room:
        return f"{sign}{hexadecimal}{abs(value):X}"
    shown = max(room, 8)
    return f"{sign}{hexadecimal}{abs(value) >> 4 * (digits - shown):X}..."


def _as_decimal(value: int, bits: int, powers: dict[int, decimal.Decimal]) -> decimal.Decimal:
    if bits <= _LEAF_BITS:
        return decimal.Decimal(value)
    low_bits = bits >> 1
    high = value >> low_bits
    low = value - (high << low_bits)
    power = powers.get(low_bits)
    if power is None:
        power = powers[low_bits] = decimal.Decimal(2) ** low_bits
    return _as_decimal(low, low_bits, powers) + _as_decimal(high, bits - low_bits, powers) * power


def read_decimal(digits: str) -> int:
    """The integer of these decimal digits, of any number."""
    if len(digits) <= 4000:
        return int(digits)
    half = len(digits) >> 1
    scale: int = 10**half
    return read_decimal(digits[:-half]) * scale + read_decimal(digits[-half:])


def float_text(value: float) -> str:
    """A float as the BEAM writes it: the shortest digits that mean it, in the shorter of two forms.

    An exponent is also used from 2**53 on, where not every integer is a float.
    """
    sign, digits, exponent = decimal.Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - a float that a term holds is finite
    text = "".join(map(str, digits)).rstrip("0")
    minus = "-" if sign else ""
    if not text:
        return minus + "0.0"
    point = len(digits) + exponent  # where the point stands, counted from the first digit
    if 0 < point < len(text):
        return f"{minus}{text[:point]}.{text[point:]}"
    scientific = f"{text[0]}.{text[1:] or '0'}e{point - 1}"
    if point <= 0:
        plain = f"0.{'0' * -point}{text}"
        shorter = point == 0 or len(plain) <= len(scientific)
    else:
        plain = f"{text}{'0' * (point - len(text))}.0"
        shorter = len(plain) <= len(scientific) and abs(value) < _EXACT_FLOAT
    return minus + (plain if shorter else scientific)
