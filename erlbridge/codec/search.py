"""Whether words stand in bytes, by the search of the twin in use; the compiled one takes one pass for all of them, and
lets other threads run meanwhile."""

from __future__ import annotations

from erlbridge.codec import IMPLEMENTATION

if IMPLEMENTATION == "compiled":
    from erlbridge.codec._compiled import holds_any
else:
    from erlbridge.codec._pure import holds_any

__all__ = ["holds_any"]
