"""Why a value was refused on its way out, and where in the term it stands. For messages alone; both twins ask here."""

from __future__ import annotations

from erlbridge.codec.order import TermMap
from erlbridge.errors import EncodeError


def _place(owners: list[object], value: object) -> str:
    """Where in the term the value stands, such as ` at [0]['name']`; for an error's message alone."""
    path = ""
    for container, held in zip(owners, [*owners[1:], value]):  # noqa: B905 - each with the one inside it
        try:
            if isinstance(container, list | tuple):
                path += f"[{next(index for index, element in enumerate(container) if element is held)}]"
            elif isinstance(container, dict | TermMap):
                path += f"[{next(key for key, element in container.items() if element is held)!r:.40}]"
        except (StopIteration, RuntimeError):
            continue  # a key, or a value that `default` or `plain` made
        if len(path) > 200:
            return f" at {path[:200]}..."
    return f" at {path}" if path else ""


def refusal(message: str, owners: list[object], value: object) -> EncodeError:
    """The error for a value in these containers."""
    return EncodeError(message + _place(owners, value))


def located(error: EncodeError, owners: list[object], value: object) -> EncodeError:
    """The same error, with the place of the value that it came from."""
    again = refusal(error.message, owners, value)
    again.__cause__ = error.__cause__
    return again
