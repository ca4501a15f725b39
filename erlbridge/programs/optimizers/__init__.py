"""One compile: builds DSPy's optimizer from checked options, runs it, and gives back what it found.

Each module knows the constructors of a few optimizers, the defaults that suit small data, and their traps:
`few_shot` those that choose demos, `instructions` those that write instructions, `gepa` and `simba` these two, which
say in their own way how far they are, `weights` those that train a model. `search` is what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import dspy  # type: ignore[import-untyped]

from erlbridge.programs.optimizers.few_shot import bootstrap, ensemble, knn, labeled, optuna, random_search
from erlbridge.programs.optimizers.gepa import gepa
from erlbridge.programs.optimizers.instructions import copro, infer_rules, mipro
from erlbridge.programs.optimizers.search import Found, Search
from erlbridge.programs.optimizers.simba import simba
from erlbridge.programs.optimizers.weights import better_together, bootstrap_finetune, trains_weights
from erlbridge.programs.trainers import require_trainer

__all__ = ["Found", "Search", "check", "compile_program", "load"]

_COMPILES: Final[Mapping[str, Callable[[Search, Any], Found]]] = {
    "labeled_few_shot": labeled,
    "bootstrap_few_shot": bootstrap,
    "bootstrap_few_shot_with_random_search": random_search,
    "bootstrap_few_shot_with_optuna": optuna,
    "knn_few_shot": knn,
    "ensemble": ensemble,
    "copro": copro,
    "mipro_v2": mipro,
    "simba": simba,
    "gepa": gepa,
    "infer_rules": infer_rules,
    "bootstrap_finetune": bootstrap_finetune,
    "better_together": better_together,
}

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "bootstrap_few_shot_with_optuna": ("optuna",),
    "knn_few_shot": ("numpy",),
    "mipro_v2": ("numpy", "optuna"),  # in this order: optuna needs numpy itself, and would be named for it
    "simba": ("numpy",),
    "gepa": ("gepa",),
}
"""Packages that DSPy leaves to who uses the optimizer, and that come with the extra `optimizers`."""


def load() -> None:
    """Imports these packages as far as they are there: once in the process that workers are forked from, and not in the
    memory and the time of each that optimizes."""
    for name in sorted({name for names in _NEEDS.values() for name in names}):
        # Whatever is wrong with one, the optimizer that needs it says so. Some that are broken raise what is no
        # `Exception`, such as a panic of Rust's, and no worker would be forked any more.
        with suppress(BaseException):
            import_module(name)


def check(search: Search) -> None:
    """Raises `MissingPackage` or `ValidationError` where the optimizer cannot run here, before anything is spent."""
    search.require(*_NEEDS.get(search.config.optimizer, ()))
    if trains_weights(search.config):
        require_trainer(search.task_lm, search.config)


def compile_program(search: Search, student: Any) -> Found:
    """The program that the optimizer found. Raises what DSPy raises, a `BridgeError`, or the guard's `Stop`."""
    # Not every optimizer passes a limit on to the evaluations that it makes; those fall back to this one.
    with dspy.context(max_errors=search.max_errors):
        return _COMPILES[search.config.optimizer](search, student)
