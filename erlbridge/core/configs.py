"""How a job runs: models, metric, budget and optimizer options, read from `payload.config` and checked.

Knows settings as values; opens no connection and imports no DSPy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.core.lms import LM, parse_lm
from erlbridge.core.metrics import Metric, parse_metric
from erlbridge.core.modules import PREDICT, Module, parse_module
from erlbridge.core.optimizers import parse_optimizer, parse_options
from erlbridge.limits import MAX_SPAN_MS
from erlbridge.wire.place import Place, given

_CONFIG_KEYS: Final = (
    "optimizer", "module", "metric", "max_demos", "max_labeled_demos", "lm", "prompt_lm", "teacher_lm", "seed",
    "num_threads", "options", "budget", "cache", "result_cache", "call_timeout_ms", "report",
)  # fmt: skip
DEFAULT_OPTIMIZER: Final = "bootstrap_few_shot"
_BUDGET_KEYS: Final = ("max_lm_calls", "max_tokens", "max_cost_usd", "max_seconds")
_RANDOM_SEARCHES: Final = ("bootstrap_few_shot_with_random_search", "ensemble", "better_together")


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
    module: Module = PREDICT
    optimizer: str = "bootstrap_few_shot"
    metric: Metric = field(default_factory=Metric)
    max_demos: int = 4
    max_labeled_demos: int = 16
    seed: int = 0
    num_threads: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    budget: Budget = Budget()
    cache: bool = True
    result_cache: bool | None = None
    """Whether the whole job may be answered from the cache (`core.caching`); None leaves it to the node's setting."""
    call_timeout_ms: int | None = None
    """How long one call of an Elixir function may take; None is as long as the job may."""
    report: bool = False
    """Whether an optimization's result tells in a report how it went."""

    @property
    def lms(self) -> tuple[LM, ...]:
        """Every model that the job may ask."""
        named = (self.lm, self.prompt_lm, self.teacher_lm, *self.metric.lms)
        return tuple(lm for lm in named if lm is not None)


def parse_config(
    place: Place,
    metric: Place | None,
    *,
    count: int,
    outputs: Collection[str] | None,
    training: int | None = None,
    default: str = DEFAULT_OPTIMIZER,
) -> Config:
    """The config at a place. Raises `ValidationError` with the path of what is wrong.

    Args:
        place: The map under `payload.config`.
        metric: A metric given beside the config, which then wins over `config.metric`.
        count: How many examples trials are scored on; some options must not exceed it.
        outputs: The signature's output fields, None when the signature is not known yet.
        training: How many examples an optimizer learns from, None when they are the ones that trials are scored on.
        default: The optimizer where none is named.
    """
    config = place.only(_CONFIG_KEYS)
    optimizer = parse_optimizer(config["optimizer"]) if given(config, "optimizer") else default
    if metric is None or metric.term is None:
        metric = config.get("metric")
    options: dict[str, object] = {}
    if given(config, "options"):
        options = parse_options(optimizer, config["options"], validation_count=count, training_count=training)

    def integer(key: str, default: int, minimum: int, maximum: int) -> int:
        return config[key].integer(minimum=minimum, maximum=maximum) if given(config, key) else default

    max_demos = integer("max_demos", 4, 0, 1000)
    # MIPROv2 without demos searches instructions only; the default of labeled ones must not stand in its way.
    instructions_only = optimizer == "mipro_v2" and max_demos == 0
    max_labeled_demos = integer("max_labeled_demos", 0 if instructions_only else 16, 0, 1000)
    searches_demos = optimizer in _RANDOM_SEARCHES and "programs" not in options
    if max_demos == 0 and (searches_demos or (instructions_only and max_labeled_demos > 0)):
        # DSPy draws the size of a demo set from 1 to max_demos, and raises for 0.
        least = "at least 1, or 0 with max_labeled_demos 0" if instructions_only else "at least 1"
        raise config["max_demos"].refused(f"{least} for {optimizer}")
    if max_labeled_demos == 0 and optimizer == "bootstrap_few_shot_with_optuna":
        # Each trial is one demo of those at hand; where no bootstrap succeeds there would be none.
        raise config["max_labeled_demos"].refused(f"at least 1 for {optimizer}")
    return Config(
        lm=parse_lm(place.required(config, "lm")),
        prompt_lm=parse_lm(config["prompt_lm"]) if given(config, "prompt_lm") else None,
        teacher_lm=parse_lm(config["teacher_lm"]) if given(config, "teacher_lm") else None,
        module=parse_module(config["module"]) if given(config, "module") else PREDICT,
        optimizer=optimizer,
        metric=Metric() if metric is None or metric.term is None else parse_metric(metric, outputs),
        max_demos=max_demos,
        max_labeled_demos=max_labeled_demos,
        seed=integer("seed", 0, 0, 2**32 - 1),
        num_threads=integer("num_threads", 0, 1, 256) or None,
        options=options,
        budget=_parse_budget(config["budget"]) if given(config, "budget") else Budget(),
        cache=config["cache"].boolean() if given(config, "cache") else True,
        result_cache=config["result_cache"].boolean() if given(config, "result_cache") else None,
        call_timeout_ms=integer("call_timeout_ms", 0, 1, MAX_SPAN_MS) or None,
        report=given(config, "report") and config["report"].boolean(),
    )


def _parse_budget(place: Place) -> Budget:
    entries = place.only(_BUDGET_KEYS)

    def integer(key: str) -> int | None:
        return entries[key].integer(minimum=0) if given(entries, key) else None

    def number(key: str) -> float | None:
        return entries[key].number(minimum=0) if given(entries, key) else None

    return Budget(integer("max_lm_calls"), integer("max_tokens"), number("max_cost_usd"), number("max_seconds"))
