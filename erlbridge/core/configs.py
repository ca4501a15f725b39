"""How a job runs: models, metric, budget and optimizer options, read from `payload.config` and checked.

Knows settings as values; opens no connection and imports no DSPy.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.codec import Atom
from erlbridge.core.optimizers import parse_optimizer, parse_options
from erlbridge.errors import ValidationError
from erlbridge.limits import LM_TIMEOUT_S
from erlbridge.wire.place import Place

MODULES: Final = ("predict", "chain_of_thought")
METRICS: Final = ("exact_match", "normalized_match", "f1", "contains", "numeric")

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}\Z")
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_CONFIG_KEYS: Final = (
    "optimizer", "module", "metric", "max_demos", "max_labeled_demos", "lm", "prompt_lm", "teacher_lm", "seed",
    "num_threads", "options", "budget", "cache",
)  # fmt: skip
_LM_KEYS: Final = ("model", "api_base", "api_key_env", "timeout_ms", "temperature", "max_tokens", "latency_ms")
_METRIC_KEYS: Final = ("name", "field", "threshold", "tolerance")
_BUDGET_KEYS: Final = ("max_lm_calls", "max_tokens", "max_cost_usd", "max_seconds")
_DAY_MS: Final = 86_400_000
_RANDOM_SEARCH: Final = "bootstrap_few_shot_with_random_search"


@dataclass(frozen=True, slots=True)
class LM:
    """A language model: `offline`, or a name as DSPy takes it. Its key is named by its variable, never given."""

    model: str
    api_base: str | None = None
    api_key_env: str | None = None
    timeout_s: float = LM_TIMEOUT_S
    temperature: float | None = None
    max_tokens: int | None = None
    latency_s: float = 0.0

    @property
    def offline(self) -> bool:
        """Whether this is the embedded offline LM."""
        return self.model == "offline"


@dataclass(frozen=True, slots=True)
class Metric:
    """How a prediction is scored, 0.0 to 1.0, on one output `field` or on all; from `threshold` on it has passed."""

    name: str = "exact_match"
    field: str | None = None
    threshold: float | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may spend; None is no limit."""

    max_lm_calls: int | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """How a job runs. `num_threads` None lets the worker choose; `seed` 0 is DSPy's own default."""

    lm: LM
    prompt_lm: LM | None = None
    teacher_lm: LM | None = None
    module: str = "predict"
    optimizer: str = "bootstrap_few_shot"
    metric: Metric = Metric()
    max_demos: int = 4
    max_labeled_demos: int = 16
    seed: int = 0
    num_threads: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    budget: Budget = Budget()
    cache: bool = True


def parse_config(place: Place, metric: Place | None, *, count: int, outputs: Collection[str] | None) -> Config:
    """The config at a place. Raises `ValidationError` with the path of what is wrong.

    Args:
        place: The map under `payload.config`.
        metric: A metric given beside the config, which then wins over `config.metric`.
        count: How many examples trials are scored on; some options must not exceed it.
        outputs: The signature's output fields, None when the signature is not known yet.
    """
    config = place.only(_CONFIG_KEYS)
    optimizer = parse_optimizer(config["optimizer"]) if _given(config, "optimizer") else "bootstrap_few_shot"
    if metric is None or metric.term is None:
        metric = config.get("metric")
    options: dict[str, object] = {}
    if _given(config, "options"):
        options = parse_options(optimizer, config["options"], validation_count=count)

    def integer(key: str, default: int, minimum: int, maximum: int) -> int:
        return config[key].integer(minimum=minimum, maximum=maximum) if _given(config, key) else default

    max_demos = integer("max_demos", 4, 0, 1000)
    # MIPROv2 without demos searches instructions only; the default of labeled ones must not stand in its way.
    instructions_only = optimizer == "mipro_v2" and max_demos == 0
    max_labeled_demos = integer("max_labeled_demos", 0 if instructions_only else 16, 0, 1000)
    if max_demos == 0 and (optimizer == _RANDOM_SEARCH or (instructions_only and max_labeled_demos > 0)):
        # DSPy draws the size of a demo set from 1 to max_demos, and raises for 0.
        least = "at least 1" if optimizer == _RANDOM_SEARCH else "at least 1, or 0 with max_labeled_demos 0"
        raise config["max_demos"].refused(f"{least} for {optimizer}")
    return Config(
        lm=_parse_lm(place.required(config, "lm")),
        prompt_lm=_parse_lm(config["prompt_lm"]) if _given(config, "prompt_lm") else None,
        teacher_lm=_parse_lm(config["teacher_lm"]) if _given(config, "teacher_lm") else None,
        module=config["module"].choice(MODULES) if _given(config, "module") else "predict",
        optimizer=optimizer,
        metric=Metric() if metric is None or metric.term is None else _parse_metric(metric, outputs),
        max_demos=max_demos,
        max_labeled_demos=max_labeled_demos,
        seed=integer("seed", 0, 0, 2**32 - 1),
        num_threads=integer("num_threads", 0, 1, 256) or None,
        options=options,
        budget=_parse_budget(config["budget"]) if _given(config, "budget") else Budget(),
        cache=config["cache"].boolean() if _given(config, "cache") else True,
    )


def _given(entries: Mapping[str, Place], key: str) -> bool:
    return key in entries and entries[key].term is not None


def _parse_lm(place: Place) -> LM:
    if isinstance(place.term, tuple):
        raise place.refused("a model's name, a map or :offline (this node calls no Elixir functions)")
    if not isinstance(place.term, Mapping):
        return LM(_model(place))
    entries = place.only(_LM_KEYS)

    def text(key: str, pattern: re.Pattern[str] | None, expected: str) -> str | None:
        if not _given(entries, key):
            return None
        found = entries[key].text()
        if pattern is not None and not pattern.match(found):
            raise entries[key].refused(expected)
        return found

    lm = LM(
        model=_model(place.required(entries, "model")),
        api_base=text("api_base", re.compile(r"https?://[^\s@]+\Z"), "an http(s) address without a user in it"),
        api_key_env=text("api_key_env", _ENVIRONMENT_NAME, "the name of an environment variable"),
        timeout_s=entries["timeout_ms"].integer(minimum=1, maximum=_DAY_MS) / 1000
        if _given(entries, "timeout_ms")
        else LM_TIMEOUT_S,
        temperature=entries["temperature"].number(minimum=0, maximum=2) if _given(entries, "temperature") else None,
        max_tokens=entries["max_tokens"].integer(minimum=1, maximum=10_000_000)
        if _given(entries, "max_tokens")
        else None,
        latency_s=entries["latency_ms"].integer(minimum=0, maximum=60_000) / 1000
        if _given(entries, "latency_ms")
        else 0.0,
    )
    if lm.offline and (lm.api_base or lm.api_key_env):
        raise ValidationError("the offline LM takes no api_base and no api_key_env", place.path)
    if lm.latency_s and not lm.offline:
        raise ValidationError("latency_ms belongs to the offline LM", place.path)
    return lm


def _model(place: Place) -> str:
    found = place.name()
    if not _MODEL.match(found):
        raise place.refused("a model's name such as `openai/gpt-4o-mini`, or :offline")
    if isinstance(place.term, Atom) and found != "offline":
        raise place.refused("a model's name as a binary, or :offline")
    return found


def _parse_metric(place: Place, outputs: Collection[str] | None) -> Metric:
    if isinstance(place.term, tuple):
        raise place.refused("a metric's name or map (this node calls no Elixir functions)")
    if not isinstance(place.term, Mapping):
        return Metric(place.choice(METRICS))
    entries = place.only(_METRIC_KEYS)
    name_of_field = entries["field"].name() if _given(entries, "field") else None
    if name_of_field is not None and outputs is not None and name_of_field not in outputs:
        raise entries["field"].refused(f"one of the output fields {', '.join(outputs)}")
    return Metric(
        name=place.required(entries, "name").choice(METRICS),
        field=name_of_field,
        threshold=entries["threshold"].number(minimum=0, maximum=1) if _given(entries, "threshold") else None,
        tolerance=entries["tolerance"].number(minimum=0) if _given(entries, "tolerance") else 0.0,
    )


def _parse_budget(place: Place) -> Budget:
    entries = place.only(_BUDGET_KEYS)

    def integer(key: str) -> int | None:
        return entries[key].integer(minimum=0) if _given(entries, key) else None

    def number(key: str) -> float | None:
        return entries[key].number(minimum=0) if _given(entries, key) else None

    return Budget(integer("max_lm_calls"), integer("max_tokens"), number("max_cost_usd"), number("max_seconds"))
