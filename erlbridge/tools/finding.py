"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is (`OK`, `WARNING`, `FAILED`), what was found, and what to do."""

    name: str
    state: str
    found: str
    advice: str = ""
