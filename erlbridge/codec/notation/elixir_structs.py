"""The structs of Elixir itself that `inspect/2` shows in a form of their own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def struct_text(module: str, fields: Mapping[object, object]) -> str | tuple[str, Iterable[object], str] | None:
    """The struct's own form: as text, or as what stands around its values; None if it has none."""
    return None
