"""The optimizers that a request may name and the options each takes: a table to check requests against.

Knows names, types, ranges and what depends on the number of examples; imports no DSPy. `programs.optimizers` builds
what is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from erlbridge.core.ensembles import MAX_MEMBERS
from erlbridge.core.options import Option
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, nearest

_COUNT: Final = Option("integer", 1, 1000)
_COUNT_OR_ZERO: Final = Option("integer", 0, 1000)
_BOOLEAN: Final = Option("boolean")
_AUTO: Final = Option("choice", choices=("light", "medium", "heavy"), nullable=True)
_SCORE: Final = Option("number", 0.0, 1.0, nullable=True)
_TEMPERATURE: Final = Option("number", 0.0, 2.0)

_BOOTSTRAP: Final = {
    "max_rounds": Option("integer", 1, 100),
    "metric_threshold": _SCORE,
    "max_errors": Option("integer", 0, 1_000_000),
}
_RANDOM_SEARCH: Final = {**_BOOTSTRAP, "num_candidate_programs": _COUNT, "stop_at_score": _SCORE}
_FINETUNE: Final = {
    "metric_threshold": _SCORE,
    "multitask": _BOOLEAN,
    "exclude_demos": _BOOLEAN,
    "train_kwargs": Option("map"),
}

OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = {
    "labeled_few_shot": {"k": _COUNT_OR_ZERO, "sample": _BOOLEAN},
    "bootstrap_few_shot": _BOOTSTRAP,
    "bootstrap_few_shot_with_random_search": _RANDOM_SEARCH,
    "bootstrap_few_shot_with_optuna": {**_BOOTSTRAP, "num_candidate_programs": _COUNT},
    "knn_few_shot": {"k": Option("integer", 1, 100)},
    "ensemble": {**_RANDOM_SEARCH, "programs": Option("programs"), "size": Option("integer", 2, MAX_MEMBERS)},
    "copro": {
        "breadth": Option("integer", 2, 100),
        "depth": Option("integer", 1, 100),
        "init_temperature": _TEMPERATURE,
        "max_errors": _BOOTSTRAP["max_errors"],
    },
    "mipro_v2": {
        "auto": _AUTO,
        "num_candidates": _COUNT,
        "num_trials": Option("integer", 1, 10_000),
        "minibatch": _BOOLEAN,
        "minibatch_size": _COUNT,
        "minibatch_full_eval_steps": _COUNT,
        "metric_threshold": _SCORE,
        "max_errors": _BOOTSTRAP["max_errors"],
        "init_temperature": _TEMPERATURE,
        "program_aware_proposer": _BOOLEAN,
        "data_aware_proposer": _BOOLEAN,
        "tip_aware_proposer": _BOOLEAN,
        "fewshot_aware_proposer": _BOOLEAN,
        "view_data_batch_size": _COUNT,
    },
    "simba": {
        "bsize": _COUNT,
        "num_candidates": Option("integer", 2, 100),
        "max_steps": Option("integer", 1, 1000),
        "temperature_for_sampling": Option("number", 0.01, 10.0),
        "temperature_for_candidates": Option("number", 0.01, 10.0),
        "demo_input_field_maxlen": Option("integer", 1, 1_000_000),
    },
    "gepa": {
        "auto": _AUTO,
        "max_full_evals": Option("integer", 1, 1000, nullable=True),
        "max_metric_calls": Option("integer", 1, 1_000_000, nullable=True),
        "reflection_minibatch_size": Option("integer", 1, 100),
        "candidate_selection_strategy": Option("choice", choices=("pareto", "current_best")),
        "skip_perfect_score": _BOOLEAN,
        "add_format_failure_as_feedback": _BOOLEAN,
        "component_selector": Option("choice", choices=("round_robin", "all")),
        "use_merge": _BOOLEAN,
        "max_merge_invocations": Option("integer", 0, 1000),
        "stop_at_score": _SCORE,
    },
    "infer_rules": {**_BOOTSTRAP, "num_candidates": _COUNT, "num_rules": _COUNT},
    "bootstrap_finetune": _FINETUNE,
    "better_together": {
        **_FINETUNE,
        **_RANDOM_SEARCH,
        "strategy": Option("strategy"),
        "shuffle_trainset_between_steps": _BOOLEAN,
    },
}

ALIASES: Final[Mapping[str, str]] = {
    "LabeledFewShot": "labeled_few_shot",
    "BootstrapFewShot": "bootstrap_few_shot",
    "bootstrap": "bootstrap_few_shot",
    "BootstrapFewShotWithRandomSearch": "bootstrap_few_shot_with_random_search",
    "bootstrap_random_search": "bootstrap_few_shot_with_random_search",
    "random_search": "bootstrap_few_shot_with_random_search",
    "BootstrapFewShotWithOptuna": "bootstrap_few_shot_with_optuna",
    "optuna": "bootstrap_few_shot_with_optuna",
    "KNNFewShot": "knn_few_shot",
    "knn": "knn_few_shot",
    "Ensemble": "ensemble",
    "COPRO": "copro",
    "MIPROv2": "mipro_v2",
    "MIPRO": "mipro_v2",  # DSPy has no MIPRO any more
    "mipro": "mipro_v2",
    "miprov2": "mipro_v2",
    "SIMBA": "simba",
    "GEPA": "gepa",
    "InferRules": "infer_rules",
    "BootstrapFinetune": "bootstrap_finetune",
    "BetterTogether": "better_together",
}

BROKEN: Final[Mapping[str, str]] = dict.fromkeys(
    ("avatar", "avatar_optimizer", "Avatar", "AvatarOptimizer"),
    "DSPy 3.4.1 ships AvatarOptimizer broken: it calls dspy.TypedPredictor, which is gone; take simba or gepa",
)
"""Optimizers that DSPy names and nobody can run, with what to do instead."""


def parse_optimizer(place: Place) -> str:
    """The optimizer's own name for whatever spelling the host uses."""
    found = place.name()
    if found in BROKEN:
        raise ValidationError(BROKEN[found], place.path)
    name = ALIASES.get(found, found)
    if name not in OPTIONS:
        known = sorted((*OPTIONS, *ALIASES))
        raise place.refused(f"an optimizer{nearest(found, known)}; known are {', '.join(known)}")
    return name


def parse_options(
    optimizer: str, place: Place, *, validation_count: int, training_count: int | None = None
) -> dict[str, object]:
    """The optimizer's options by name, each checked.

    Args:
        optimizer: Its own name.
        place: The map under `payload.config.options`.
        validation_count: The size of the set that trials are scored on.
        training_count: The size of the set that is learned from; None when it is the same set.
    """
    table = OPTIONS[optimizer]
    options = {name: table[name].read(found) for name, found in place.only(table).items()}
    trained = validation_count if training_count is None else training_count
    if optimizer in _CHECKS:
        _CHECKS[optimizer](options, place.path, trained, validation_count)
    return options


# -- what depends on other options or on the data ---------------------------------------------------------------------

_Check = Callable[[Mapping[str, object], str, int, int], None]


def _at_most(options: Mapping[str, object], name: str, most: int, what: str, path: str) -> None:
    size = options.get(name)
    if isinstance(size, int) and size > most:
        raise ValidationError(f"expected at most {most}, the number of {what} examples, got {size}", f"{path}.{name}")


def _check_mipro(options: Mapping[str, object], path: str, _trained: int, validated: int) -> None:
    if options.get("minibatch", True):
        _at_most(options, "minibatch_size", validated, "validation", path)
    if options.get("auto") is not None:
        for name in ("num_candidates", "num_trials"):
            if name in options:
                raise ValidationError(
                    f"`{name}` is chosen by `auto: {options['auto']}`; give one of the two", f"{path}.{name}"
                )


def _check_gepa(options: Mapping[str, object], path: str, trained: int, validated: int) -> None:
    given = [name for name in ("auto", "max_full_evals", "max_metric_calls") if options.get(name) is not None]
    if len(given) > 1:
        raise ValidationError(f"`{given[0]}` and `{given[1]}` both say how long to search; give one", path)
    _at_most(options, "reflection_minibatch_size", trained, "training", path)
    calls = options.get("max_metric_calls")
    if isinstance(calls, int) and calls <= validated:
        raise ValidationError(
            f"expected more than {validated}, the number of validation examples, which the program that the search "
            f"starts from is scored on first, got {calls}",
            f"{path}.max_metric_calls",
        )


def _check_simba(options: Mapping[str, object], path: str, trained: int, _validated: int) -> None:
    _at_most(options, "bsize", trained, "training", path)


def _check_knn(options: Mapping[str, object], path: str, trained: int, _validated: int) -> None:
    _at_most(options, "k", trained, "training", path)


def _check_ensemble(options: Mapping[str, object], path: str, _trained: int, _validated: int) -> None:
    if "programs" not in options:
        return
    for name in options:
        if name != "programs":
            raise ValidationError(
                f"`{name}` belongs to a search for programs, and `programs` names them; give one of the two",
                f"{path}.{name}",
            )


_CHECKS: Final[Mapping[str, _Check]] = {
    "mipro_v2": _check_mipro,
    "gepa": _check_gepa,
    "simba": _check_simba,
    "knn_few_shot": _check_knn,
    "ensemble": _check_ensemble,
}
