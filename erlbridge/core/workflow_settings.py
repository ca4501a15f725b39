"""`dspy_config` of a workflow, of an environment and of a step: what it says about optimizing, checked.

Each level is read by itself, so that a problem has its own place, and then laid over the one above it. Settings that
only the host can follow are checked for their kind and handed back as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias

from erlbridge.core.metrics import parse_metric
from erlbridge.core.optimizers import parse_optimizer
from erlbridge.core.problems import Problems, said
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, given, nearest

ENVIRONMENTS: Final = ("development", "production", "testing")
FALLBACKS: Final = ("traditional", "none")

Reader: TypeAlias = Callable[[Place], object]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a workflow says about optimizing; None is what it does not say.

    `metric` is a name or map as `core.metrics` reads it; `training` and `validation` are examples as they stand.
    """

    enabled: bool | None = None
    optimizer: str | None = None
    metric: object = None
    max_demos: int | None = None
    max_rounds: int | None = None
    training: Place | None = None
    validation: Place | None = None
    training_size: int | None = None
    validation_size: int | None = None
    cache: bool | None = None
    fallback: str | None = None

    def over(self, below: Settings) -> Settings:
        """These settings, and those below where these say nothing."""
        said = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}
        return replace(below, **said)


def parse_settings(place: Place, problems: Problems, *, of_step: bool) -> Settings:
    """The settings at a place; what is wrong goes into `problems`."""
    if place.term is None:
        return Settings()
    entries = problems.attempt(place.entries)
    if entries is None:
        return Settings()
    known = _STEP if of_step else _WORKFLOW
    found: dict[str, object] = {}
    for name, entry in entries.items():
        if name not in known:
            hint = (
                "; it belongs to the workflow's dspy_config" if of_step and name in _WORKFLOW else nearest(name, known)
            )
            problems.warn(entry.path, f"unknown setting `{name}`{hint}; it changes nothing")
        elif entry.term is not None:
            found[name] = problems.attempt(known[name], entry)
    optimization = _parse_block(entries, "optimization", _OPTIMIZATION, problems)
    _parse_block(entries, "python_bridge", _PYTHON_BRIDGE, problems)
    _warn_without_effect(entries, problems)
    return Settings(**_settings(found, optimization, entries, problems))


def merged(below: object, above: object) -> object:
    """Plain settings laid over others: maps key by key, anything else as a whole."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: merged(below[key], value) if key in below else value for key, value in above.items()}}


def _settings(
    found: Mapping[str, Any], optimization: Mapping[str, Any], entries: Mapping[str, Place], problems: Problems
) -> dict[str, Any]:
    enabled = found.get("optimization_enabled")
    if optimization.get("enabled") is not None:
        if enabled is not None and enabled != optimization["enabled"]:
            message = f"says otherwise than `optimization_enabled: {str(enabled).lower()}`; nothing is optimized"
            problems.warn(entries["optimization"].path + ".enabled", message)
            enabled = False
        else:
            enabled = optimization["enabled"]
    shown = found.get("few_shot_examples")
    training = _examples(entries, ("training_examples", "global_training_data"), found)
    if training is None and isinstance(shown, Place):
        training = shown
    count = found.get("training_examples")
    wished = found.get("evaluation_metric")
    if isinstance(wished, str):
        problems.warn(entries["evaluation_metric"].path, wished)
    strategy = optimization.get("strategy") or optimization.get("default_strategy")
    return {
        "enabled": enabled,
        "optimizer": strategy or found.get("evaluation_mode"),
        "metric": wished.term if isinstance(wished, Place) else None,
        "max_demos": shown if isinstance(shown, int) else optimization.get("max_demos"),
        "max_rounds": found.get("bootstrap_iterations"),
        "training": training,
        "validation": _examples(entries, ("validation_examples",), found),
        "training_size": found.get("training_size") or (count if isinstance(count, int) else None),
        "validation_size": found.get("validation_size") or _count(found.get("validation_examples")),
        "cache": found.get("cache_enabled", optimization.get("cache_enabled")),
        "fallback": found.get("fallback_strategy"),
    }


def _examples(entries: Mapping[str, Place], names: tuple[str, ...], found: Mapping[str, Any]) -> Place | None:
    return next((entries[name] for name in names if isinstance(found.get(name), Place)), None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _parse_block(
    entries: Mapping[str, Place], name: str, known: Mapping[str, Reader], problems: Problems
) -> dict[str, Any]:
    inner = problems.attempt(entries[name].entries) if given(entries, name) else None
    found: dict[str, Any] = {}
    for key, entry in (inner or {}).items():
        if key not in known:
            problems.warn(entry.path, f"unknown setting `{key}`{nearest(key, known)}; it changes nothing")
        elif entry.term is not None:
            found[key] = problems.attempt(known[key], entry)
    return found


def _warn_without_effect(entries: Mapping[str, Place], problems: Problems) -> None:
    for name, instead in _WITHOUT_EFFECT.items():
        if given(entries, name) and entries[name].term is not False:
            problems.warn(entries[name].path, instead)


# -- readers of single settings -----------------------------------------------------------------------------------


def _boolean(place: Place) -> bool:
    return place.boolean()


def _text(place: Place) -> str:
    return place.text()


def _count_of(minimum: int, maximum: int = 1_000_000) -> Reader:
    return lambda place: place.integer(minimum=minimum, maximum=maximum)


def _fallback(place: Place) -> str:
    return place.choice(FALLBACKS)


def _anything(place: Place) -> object:
    return place


def _map(place: Place) -> object:
    return place.entries()


def _switch(place: Place) -> object:
    return place.entries() if isinstance(place.term, Mapping) else place.boolean()


def _span(place: Place) -> object:
    return place.number(minimum=0)


def _some_examples(place: Place) -> object:
    """A list of examples, or how many of them to use."""
    if isinstance(place.term, int):
        return place.integer(minimum=1, maximum=1_000_000)
    place.elements()
    return place if place.term else None


def _global_examples(place: Place) -> object:
    """A list of examples; anything else names data that only the host can find."""
    return place if isinstance(place.term, list) and place.term else None


def _metric(place: Place) -> object:
    """The place of a metric that is known here, or the warning about one that is not."""
    try:
        if parse_metric(place, None).lms:
            # A file must not choose where the operator's keys go.
            raise place.refused("a metric without `lm`; models are named by the request")
    except ValidationError as error:
        if isinstance(place.term, Mapping):
            raise
        return f"{said(error)}; the request's own metric is used, or exact_match"
    return place


_STEP: Final[Mapping[str, Reader]] = {
    "optimization_enabled": _boolean,
    "optimization_target": _anything,
    "few_shot_examples": _some_examples,
    "bootstrap_iterations": _count_of(1, 100),
    "cache_enabled": _boolean,
    "max_wait_time": _span,
    "fallback_strategy": _fallback,
    "collect_training_data": _boolean,
    "chain_steps": _anything,
    "evaluation_mode": parse_optimizer,
    "evaluation_metric": _metric,
    "training_examples": _some_examples,
    "validation_examples": _some_examples,
}

_WORKFLOW: Final[Mapping[str, Reader]] = {
    "optimization_enabled": _boolean,
    "evaluation_mode": parse_optimizer,
    "optimization_target": _anything,
    "evaluation_metric": _metric,
    "training_examples": _some_examples,
    "validation_examples": _some_examples,
    "training_size": _count_of(1),
    "validation_size": _count_of(1),
    "training_data_path": _text,
    "training_examples_path": _text,
    "global_training_data": _global_examples,
    "cache_enabled": _boolean,
    "fallback_strategy": _fallback,
    "optimization_frequency": _anything,
    "hybrid_mode": _switch,
    "training_data_collection": _switch,
    "real_time_optimization": _switch,
    "optimization_triggers": _map,
    "training_data_quality": _map,
    "python_bridge": _map,
    "optimization": _map,
}

_PYTHON_BRIDGE: Final[Mapping[str, Reader]] = {
    "pool_size": _count_of(1, 1024),
    "cache_ttl": _span,
    "max_retries": _count_of(0),
    "timeout": _span,
    "health_check_interval": _span,
}

_OPTIMIZATION: Final[Mapping[str, Reader]] = {
    "enabled": _boolean,
    "strategy": parse_optimizer,
    "strategies": _anything,
    "default_strategy": parse_optimizer,
    "max_demos": _count_of(0, 1000),
    "async_optimization": _boolean,
    "cache_enabled": _boolean,
    "cache_ttl": _span,
}

_READ_BY_HOST: Final = "no files are read here; send the examples with the request, as `training_data` of the step"
_BY_HOST: Final = "changes nothing here; it is left to the host"

_WITHOUT_EFFECT: Final = {
    "training_data_path": _READ_BY_HOST,
    "training_examples_path": _READ_BY_HOST,
    "chain_steps": "changes nothing here; make each of the chain's signatures a step",
    **dict.fromkeys(
        (
            "optimization_target", "optimization_frequency", "hybrid_mode", "training_data_collection",
            "collect_training_data", "real_time_optimization", "optimization_triggers", "training_data_quality",
            "max_wait_time",
        ),
        _BY_HOST,
    ),
}  # fmt: skip
