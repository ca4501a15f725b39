from collections.abc import Callable
from typing import Final

IMPLEMENTATION: Final = "compiled"

def binary_to_term(
    data: bytes | bytearray | memoryview, *, max_depth: int = 10000, max_bytes: int = 268435456, text: bool = False
) -> object: ...
def term_to_binary(
    term: object,
    *,
    compressed: bool | int = False,
    deterministic: bool = False,
    default: Callable[[object], object] | None = None,
) -> bytes: ...
def term_to_iovec(
    term: object, *, deterministic: bool = False, default: Callable[[object], object] | None = None
) -> list[bytes]: ...
def _shape_cache(enabled: bool | None = None, /) -> tuple[bool, int, int, int]: ...
def _disagreements() -> int: ...
