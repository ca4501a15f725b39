"""How long to wait before trying again: exponential, bounded. Arithmetic only; whoever asks does the waiting."""

from __future__ import annotations


def delay_s(failures: int, *, first_s: float = 0.1, most_s: float = 10.0) -> float:
    """Seconds to wait after so many failures in a row: `first_s`, then twice as long each time, at most `most_s`.

    >>> [delay_s(count) for count in (1, 2, 3, 20)]
    [0.1, 0.2, 0.4, 10.0]
    """
    return min(first_s * 2.0 ** (min(failures, 64) - 1), most_s)
