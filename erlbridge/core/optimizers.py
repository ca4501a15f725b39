"""The optimizers that a request may name and the options each takes: a table to check requests against.

Knows names, types and ranges; imports no DSPy. `programs.optimizers` builds what is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, nearest


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `kind` is integer, number, boolean or choice; bounds are inclusive; `nil` only where `nullable`."""

    kind: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False

    def read(self, place: Place) -> object:
        """The option's value, or `ValidationError` with its path."""
        if place.term is None and self.nullable:
            return None
        match self.kind:
            case "integer":
                return place.integer(
                    minimum=None if self.minimum is None else int(self.minimum),
                    maximum=None if self.maximum is None else int(self.maximum),
                )
            case "number":
                return place.number(minimum=self.minimum, maximum=self.maximum)
            case "boolean":
                return place.boolean()
            case _:
                return place.choice(self.choices)


_COUNT: Final = Option("integer", 1, 1000)
_COUNT_OR_ZERO: Final = Option("integer", 0, 1000)
_ERRORS: Final = Option("integer", 0, 1_000_000)
_SCORE: Final = Option("number", 0.0, 1.0, nullable=True)

_BOOTSTRAP: Final = {
    "max_rounds": Option("integer", 1, 100),
    "metric_threshold": _SCORE,
    "max_errors": _ERRORS,
}

OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = {
    "labeled_few_shot": {"k": _COUNT_OR_ZERO, "sample": Option("boolean")},
    "bootstrap_few_shot": _BOOTSTRAP,
    "bootstrap_few_shot_with_random_search": {
        **_BOOTSTRAP,
        "num_candidate_programs": Option("integer", 1, 1000),
        "stop_at_score": _SCORE,
    },
    "mipro_v2": {
        "auto": Option("choice", choices=("light", "medium", "heavy"), nullable=True),
        "num_candidates": Option("integer", 1, 1000),
        "num_trials": Option("integer", 1, 10_000),
        "minibatch": Option("boolean"),
        "minibatch_size": _COUNT,
        "minibatch_full_eval_steps": _COUNT,
        "metric_threshold": _SCORE,
        "max_errors": _ERRORS,
        "init_temperature": Option("number", 0.0, 2.0),
        "program_aware_proposer": Option("boolean"),
        "data_aware_proposer": Option("boolean"),
        "tip_aware_proposer": Option("boolean"),
        "fewshot_aware_proposer": Option("boolean"),
        "view_data_batch_size": _COUNT,
    },
}

ALIASES: Final[Mapping[str, str]] = {
    "LabeledFewShot": "labeled_few_shot",
    "BootstrapFewShot": "bootstrap_few_shot",
    "BootstrapFewShotWithRandomSearch": "bootstrap_few_shot_with_random_search",
    "random_search": "bootstrap_few_shot_with_random_search",
    "MIPROv2": "mipro_v2",
    "mipro": "mipro_v2",
    "miprov2": "mipro_v2",
}


def parse_optimizer(place: Place) -> str:
    """The optimizer's own name for whatever spelling the host uses."""
    found = place.name()
    name = ALIASES.get(found, found)
    if name not in OPTIONS:
        known = sorted((*OPTIONS, *ALIASES))
        raise place.refused(f"an optimizer{nearest(found, known)}; known are {', '.join(known)}")
    return name


def parse_options(optimizer: str, place: Place, *, validation_count: int) -> dict[str, object]:
    """The optimizer's options by name, each checked; `validation_count` is the size of the set that trials score on."""
    table = OPTIONS[optimizer]
    options = {name: table[name].read(found) for name, found in place.only(table).items()}
    size = options.get("minibatch_size")
    if isinstance(size, int) and options.get("minibatch", True) and size > validation_count:
        raise ValidationError(
            f"expected at most {validation_count}, the number of validation examples, got {size}",
            f"{place.path}.minibatch_size",
        )
    if options.get("auto") is not None:
        for name in ("num_candidates", "num_trials"):
            if name in options:
                raise ValidationError(
                    f"`{name}` is chosen by `auto: {options['auto']}`; give one of the two", f"{place.path}.{name}"
                )
    return options
