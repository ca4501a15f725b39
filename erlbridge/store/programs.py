"""Optimized programs, as a store keeps them, and what a list says of each."""

from __future__ import annotations

from typing import Final

from erlbridge.core.summaries import summarized
from erlbridge.store.contents import Kind

PROGRAM: Final = Kind(
    noun="program",
    directory="programs",
    prefix="program:",
    key="program_id",
    remedy="optimize again, or send the program itself",
    describe=summarized,
)
