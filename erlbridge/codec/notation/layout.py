"""The loop that writes a term as text, whatever its nesting, and stops when there is enough of it.

Knows how the parts of a container follow each other and what is left out when room runs out. What a value looks like
the notation says that is given to it.
"""

from __future__ import annotations

from sys import maxsize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Parts: TypeAlias = Iterator[tuple[str, object]]
    """The values of a container, each with the text that stands before it."""
    Opened: TypeAlias = tuple[str, Parts, str]
    """A container: its beginning, its parts, its end."""
    Describe: TypeAlias = Callable[[object, int], "str | Opened"]
    """What a value looks like, in so many characters or not many more."""

ELIDED = "..."


def lay_out(term: object, describe: Describe, limit: int | None) -> str:
    """The term as text. With a `limit`, what comes after so many characters is left out, and `...` stands for it."""
    out: list[str] = []
    room = maxsize if limit is None else limit
    stack: list[tuple[Parts, str]] = []
    shown = describe(term, room)
    while True:
        if isinstance(shown, str):
            out.append(shown)
            room -= len(shown)
        else:
            opening, parts, closing = shown
            out.append(opening)
            room -= len(opening)
            stack.append((parts, closing))
        while stack:
            parts, closing = stack[-1]
            part = next(parts, None)
            if part is None:
                out.append(closing)
                room -= len(closing)
                stack.pop()
                continue
            lead, value = part
            out.append(lead)
            room -= len(lead)
            if room <= 0:
                out.append(ELIDED)
                out.extend(closing for _, closing in reversed(stack))
                return "".join(out)
            shown = describe(value, room)
            break
        else:
            return "".join(out)


def separated(values: Iterator[object], comma: str) -> Parts:
    """The values with a comma before all but the first."""
    lead = ""
    for value in values:
        yield lead, value
        lead = comma
