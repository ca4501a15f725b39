"""Pages are written as GitHub reads Markdown; what Python-Markdown reads otherwise is put into its form here."""

from __future__ import annotations

import re

_ITEM = re.compile(r"(?P<indent> *)(?P<marker>[-*]|\d+\.) +(?=\S)")
_FENCE = re.compile(r" *(```|~~~)")
_MORE_INFO = re.compile(r"^( *```\w+) [^{].*")
"""What stands behind a fence's language: for the tests, not for the highlighter."""
_TAB = 4
"""What Python-Markdown wants what belongs to a list's item indented by; GitHub wants it below the item's text."""


def converted(text: str) -> str:
    """The same page with items' contents indented by four for each level, and a blank line before each list."""
    lines: list[str] = []
    open_items: list[int] = []  # for each list item that is open, the column of its text
    shift: int | None = None  # inside a fence: by how much its lines move
    for line in text.split("\n"):
        if shift is not None:
            lines.append(_moved(line, shift))
            if _FENCE.match(line):
                shift = None
            continue
        if not line.strip():
            lines.append("")
            continue
        indent = len(line) - len(line.lstrip())
        item, fence = _ITEM.match(line), _FENCE.match(line)
        after_text = bool(lines and lines[-1])
        in_list = bool(open_items)
        if item or fence or not after_text:
            while open_items and indent < open_items[-1]:
                open_items.pop()
        by = _TAB * len(open_items) - (open_items[-1] if open_items else 0)
        if item and indent + by < _TAB * (len(open_items) + 1):
            if after_text and not in_list:
                lines.append("")
            open_items.append(item.end())
        elif fence:
            shift = by
            line = _MORE_INFO.sub(r"\1", line)  # noqa: PLW2901
        lines.append(_moved(line, by) if indent >= (open_items[-1] if open_items and not item else 0) else line)
    return "\n".join(lines)


def _moved(line: str, by: int) -> str:
    if by >= 0:
        return " " * by + line if line else line
    return line[-by:] if not line[:-by].strip() else line.lstrip()
