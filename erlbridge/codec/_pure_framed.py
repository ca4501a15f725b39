"""Maps that follow each other, each behind its length, in Python: the pure twin's `count_maps`."""

from __future__ import annotations

from struct import Struct

from erlbridge.codec.tags import MAP_EXT, VERSION_MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from erlbridge.codec.sizes import Data

_HEAD: Final = Struct(">IH")
"""A map's length, and the first two bytes of its term."""
_MAP: Final = VERSION_MAGIC << 8 | MAP_EXT
_LENGTH_BYTES: Final = 4
_LEAST_BYTES: Final = 6
"""The empty map."""


def count_maps(data: Data, at: int, most_bytes: int, /) -> tuple[int, int]:
    """Steps over maps in External Term Format, each behind its length in 4 bytes. They are not looked into.

    Args:
        at: Where the first length stands; behind the end of the data too.
        most_bytes: How long one may be.

    Returns:
        How many there are, and where something else stands, or the data end. The last map may reach beyond that end.

    Raises:
        ValueError: `at` or `most_bytes` is negative.

    >>> count_maps(bytes.fromhex("00000006 8374 00000000  00000003 836101"), 0, 100)
    (1, 10)
    """
    if at < 0 or most_bytes < 0:
        raise ValueError("neither a place in the data nor a size is negative")
    count, last = 0, len(data) - _HEAD.size
    while at <= last:
        length, head = _HEAD.unpack_from(data, at)
        if head != _MAP or not _LEAST_BYTES <= length <= most_bytes:
            break
        at += _LENGTH_BYTES + length
        count += 1
    return count, at
