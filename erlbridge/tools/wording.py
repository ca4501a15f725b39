"""How commands say sizes and times."""

from __future__ import annotations

import time


def size(count: float) -> str:
    """Bytes, as people read them.

    >>> size(812), size(3_500_000)
    ('812 B', '3.3 MiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def moment(at_ns: int) -> str:
    """A time since 1970, on this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ns / 1e9))
