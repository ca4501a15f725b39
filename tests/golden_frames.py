"""The frames of docs/golden, and what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from erlbridge.codec import binary_to_term

GOLDEN = Path(__file__).resolve().parents[1] / "docs" / "golden"
SECTION = re.compile(r"^### `([\w-]+)\.etf`\n.*?^```elixir\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOTATION: dict[str, str] = dict(SECTION.findall((GOLDEN / "README.md").read_text()))
"""Of each frame what it says, in the conversation's order."""


def term(name: str) -> Any:
    return binary_to_term((GOLDEN / f"{name}.etf").read_bytes())
