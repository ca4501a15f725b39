"""Where the frames of all wires of a node can be listened to. Costs next to nothing while nobody does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from erlbridge.wire.capture import Direction

Listener: TypeAlias = Callable[[int, Direction, bytes | memoryview], None]
"""Hears of a frame: its wire (`capture.HOST` or a worker's number), its direction, and its bytes, which are good until
it returns."""


class Tap:
    """One for all channels of a node. `hear` is None, or who listens; any thread may set it."""

    __slots__ = ("hear",)

    def __init__(self) -> None:
        self.hear: Listener | None = None
