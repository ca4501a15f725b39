"""How commands say sizes and times."""

from __future__ import annotations

import re
import time
from typing import Final

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, recolours or reorders it: C0 but tab and new line, C1, overrides of direction."""


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


def plain(text: str) -> str:
    """A text for a terminal, where nothing in it does more than be read: models and files say what they like.

    >>> plain("a\\x1b[2J\\tb")
    'a\\\\x1b[2J\\tb'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
