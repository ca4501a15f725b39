"""Programs that vote. Knows DSPy's Ensemble and how answers of any type are compared; knows no state and no store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy import teleprompt
from dspy.evaluate import normalize_text  # type: ignore[import-untyped]

from erlbridge.programs.predictions import plain

REDUCE: Final = "majority"
"""How the answers of an ensemble become one: the whole answer of the first member with the most common last output."""


def vote(programs: Sequence[Any]) -> Any:
    """One program that asks all of them and takes the majority; where there is none, the earliest wins."""
    optimizer = teleprompt.Ensemble(reduce_fn=partial(dspy.majority, normalize=_comparable))
    return optimizer.compile(list(programs))


def _comparable(value: object) -> str | None:
    """What makes two answers the same vote: text but for case, articles and punctuation, the rest exactly. None, for
    an answer that says nothing, is no vote. DSPy's own normalization takes text alone."""
    if isinstance(value, str):
        return normalize_text(value) or None
    return None if value is None else json.dumps(plain(value), sort_keys=True, default=repr)
