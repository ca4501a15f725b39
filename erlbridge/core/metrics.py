"""Metrics as a request names them. Knows names and ranges; `programs.metrics` compares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from erlbridge.core.functions import Function, names_function, parse_function
from erlbridge.wire.place import Place, given

METRICS: Final = ("exact_match", "normalized_match", "f1", "contains", "numeric")
_METRIC_KEYS: Final = ("name", "field", "threshold", "tolerance")


@dataclass(frozen=True, slots=True)
class Metric:
    """How a prediction is scored, 0.0 to 1.0, on one output `field` or on all; from `threshold` on it has passed."""

    name: str = "exact_match"
    field: str | None = None
    threshold: float | None = None
    tolerance: float = 0.0
    function: Function | None = None
    """The Elixir function that scores in the place of a comparison; `name` is then its name."""


def parse_metric(place: Place, outputs: Collection[str] | None) -> Metric:
    """The metric at a place: a name, `{:call, name}` or a map. Raises `ValidationError` with the path.

    Args:
        outputs: The signature's output fields, None when the signature is not known yet.
    """
    if names_function(place.term):
        return _of_function(place)
    if not isinstance(place.term, Mapping):
        return Metric(place.choice(METRICS))
    entries = place.only(_METRIC_KEYS)
    if names_function(place.required(entries, "name").term):
        return _of_function(entries["name"], entries)
    name_of_field = entries["field"].name() if given(entries, "field") else None
    if name_of_field is not None and outputs is not None and name_of_field not in outputs:
        raise entries["field"].refused(f"one of the output fields {', '.join(outputs)}")
    return Metric(
        name=place.required(entries, "name").choice(METRICS),
        field=name_of_field,
        threshold=_threshold(entries),
        tolerance=entries["tolerance"].number(minimum=0) if given(entries, "tolerance") else 0.0,
    )


def _of_function(place: Place, entries: Mapping[str, Place] | None = None) -> Metric:
    function, entries = parse_function(place), entries or {}
    for key in ("field", "tolerance"):
        if given(entries, key):
            raise entries[key].refused("nothing: an Elixir function gets the whole example and prediction")
    return Metric(function.text, threshold=_threshold(entries), function=function)


def _threshold(entries: Mapping[str, Place]) -> float | None:
    return entries["threshold"].number(minimum=0, maximum=1) if given(entries, "threshold") else None
