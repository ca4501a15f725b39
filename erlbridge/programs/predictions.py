"""What a model answered, as values that every term codec can carry.

Knows Python values; knows no signature and no module. DSPy parses answers into whatever a field's type says, and its
states keep what it saw, so tuples, dates, enums and pydantic models turn up where a host expects plain data.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from typing import Any, Final

from pydantic import BaseModel

_MAX_DEPTH: Final = 64


def plain(value: object, depth: int = _MAX_DEPTH) -> object:
    """The value as text, int, float, bool, None, bytes, list or dict with text keys.

    NaN and the infinities, which no Erlang term stands for, become None. What is nested more than 64 deep, and what
    has no plain form, becomes its text.

    >>> plain({"at": date(2024, 5, 17), "parts": (1, float("nan"))})
    {'at': '2024-05-17', 'parts': [1, None]}
    """
    match value:
        case None | bool() | bytes():
            return value
        case enum.Enum():
            return plain(value.value, depth)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case str():
            return text(value)
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    if depth == 0:
        return text(str(value))
    match value:
        case BaseModel():
            return plain(value.model_dump(mode="json"), depth)
        case Mapping():
            return {text(str(key)): plain(item, depth - 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, depth - 1) for item in value]
        case set() | frozenset():
            return [plain(item, depth - 1) for item in sorted(value, key=repr)]
    if hasattr(value, "toDict"):
        return plain(value.toDict(), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
    return text(str(value))


def text(value: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot carry, replaced by U+FFFD; a pair becomes its character."""
    return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def outputs(prediction: Any, names: Iterable[str]) -> dict[str, object]:
    """The named outputs of a `dspy.Prediction`, plain; one that is missing is left out.

    Read by `toDict`: an attribute would give a method where a field is called `items` or `get`.
    """
    values: dict[str, object] = prediction.toDict()
    return {name: plain(values[name]) for name in names if name in values}
