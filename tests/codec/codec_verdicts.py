"""What came of a call: its value, or the DecodeError that it raised."""

from __future__ import annotations

from collections.abc import Callable

from erlbridge.codec import DecodeError


def verdict(run: Callable[[], object]) -> object:
    try:
        return run()
    except DecodeError as error:
        return error
