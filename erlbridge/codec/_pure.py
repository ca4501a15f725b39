"""The pure twin of the codec, under the names that both twins share."""

from __future__ import annotations

from erlbridge.codec._pure_decode import binary_to_term
from erlbridge.codec._pure_encode import term_to_binary, term_to_iovec
from erlbridge.codec._pure_framed import count_maps
from erlbridge.codec._pure_scan import Scan
from erlbridge.codec._pure_search import holds_any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

IMPLEMENTATION: Final = "pure"

__all__ = ["IMPLEMENTATION", "Scan", "binary_to_term", "count_maps", "holds_any", "term_to_binary", "term_to_iovec"]
