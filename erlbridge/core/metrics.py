"""Metrics as a request names them. Knows names and ranges; `programs.metrics` makes judges of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from erlbridge.core.functions import Function, names_function, parse_function
from erlbridge.core.lms import LM, parse_lm
from erlbridge.wire.place import Place, given

COMPARISONS: Final = (
    "exact_match", "normalized_match", "f1", "contains", "numeric", "set_overlap", "list_overlap",
)  # fmt: skip
METRICS: Final = (*COMPARISONS, "weighted", "judge")

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(COMPARISONS, ("name", "field", "threshold")),
    "numeric": ("name", "field", "threshold", "tolerance"),
    "weighted": ("name", "parts", "threshold"),
    "judge": ("name", "field", "threshold", "rubric", "lm"),
}
_GRADED: Final = ("f1", "set_overlap", "list_overlap", "weighted", "judge")
_MAX_PARTS: Final = 32
_MAX_RUBRIC_CHARACTERS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Metric:
    """How a prediction is scored, 0.0 to 1.0, on one output `field` or on all; from `threshold` on it has passed."""

    name: str = "exact_match"
    field: str | None = None
    threshold: float | None = None
    tolerance: float = 0.0
    function: Function | None = None
    """The Elixir function that scores in the place of a comparison; `name` is then its name."""
    parts: tuple[tuple[float, Metric], ...] = ()
    """What `weighted` adds up: each with its weight, which is above 0."""
    rubric: str = ""
    """What makes an answer good, for `judge`."""
    lm: LM | None = None
    """The model of `judge`; None is the job's own."""

    @property
    def graded(self) -> bool:
        """Whether scores between 0 and 1 are usual, so that hardly any is 1."""
        return self.function is not None or self.name in _GRADED

    @property
    def lms(self) -> tuple[LM, ...]:
        """The models that it names."""
        return tuple(lm for metric in (self, *(part for _, part in self.parts)) if (lm := metric.lm) is not None)


def parse_metric(place: Place, outputs: Collection[str] | None) -> Metric:
    """The metric at a place: a name, `{:call, name}` or a map. Raises `ValidationError` with the path.

    Args:
        outputs: The signature's output fields, None when the signature is not known yet.
    """
    if names_function(place.term):
        return _of_function(place)
    if not isinstance(place.term, Mapping):
        name = place.choice(METRICS)
        if name not in COMPARISONS:
            raise place.refused(f"a map, as {name} needs more than its name")
        return Metric(name)
    return _of_map(place, outputs)


def _of_map(place: Place, outputs: Collection[str] | None, *beside: str) -> Metric:
    """A metric's map; `beside` are keys that stand in it and are read elsewhere."""
    named = place.required(place.entries(), "name")
    if names_function(named.term):
        return _of_function(named, place.only(("name", "threshold", *beside)))
    name = named.choice(METRICS)
    entries = place.only((*_KEYS[name], *beside))
    metric = Metric(name, _field(entries, outputs), _threshold(entries))
    match name:
        case "numeric" if given(entries, "tolerance"):
            return replace(metric, tolerance=entries["tolerance"].number(minimum=0))
        case "weighted":
            return replace(metric, parts=_parts(place.required(entries, "parts"), outputs))
        case "judge":
            rubric = place.required(entries, "rubric")
            if not 0 < len(rubric.text()) <= _MAX_RUBRIC_CHARACTERS:
                raise rubric.refused(f"1 to {_MAX_RUBRIC_CHARACTERS} characters")
            return replace(metric, rubric=rubric.text(), lm=parse_lm(entries["lm"]) if given(entries, "lm") else None)
    return metric


def _parts(place: Place, outputs: Collection[str] | None) -> tuple[tuple[float, Metric], ...]:
    if not 0 < len(place.elements()) <= _MAX_PARTS:
        raise place.refused(f"1 to {_MAX_PARTS} metrics")
    parts = []
    for item in place.items():
        part = _of_map(item, outputs, "weight")
        if part.parts:
            raise item.refused("a metric that is not weighted itself")
        entries = item.entries()
        weight = entries["weight"].number(minimum=0) if given(entries, "weight") else 1.0
        if weight == 0:
            raise entries["weight"].refused("a number above 0")
        parts.append((weight, part))
    return tuple(parts)


def _of_function(place: Place, entries: Mapping[str, Place] | None = None) -> Metric:
    function = parse_function(place)
    return Metric(function.text, threshold=_threshold(entries or {}), function=function)


def _field(entries: Mapping[str, Place], outputs: Collection[str] | None) -> str | None:
    if not given(entries, "field"):
        return None
    name = entries["field"].name()
    if outputs is not None and name not in outputs:
        raise entries["field"].refused(f"one of the output fields {', '.join(outputs)}")
    return name


def _threshold(entries: Mapping[str, Place]) -> float | None:
    return entries["threshold"].number(minimum=0, maximum=1) if given(entries, "threshold") else None


def metric_term(metric: Metric) -> dict[str, object]:
    """The metric as it stands in a stored program: what it compares, and no model."""
    return {
        "name": metric.name,
        "field": metric.field,
        "threshold": metric.threshold,
        "tolerance": metric.tolerance,
        "rubric": metric.rubric or None,
        "parts": [{"weight": weight, **metric_term(part)} for weight, part in metric.parts],
    }
