"""The optimizers that train a model's weights: BootstrapFinetune, and BetterTogether, which mixes it with prompts."""

from __future__ import annotations

from typing import Any, Final

from dspy import teleprompt  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.errors import OptimizationError
from erlbridge.programs.optimizers.few_shot import random_search_optimizer, random_search_trials
from erlbridge.programs.optimizers.search import Found, Search

_STRATEGY: Final = "p -> w -> p"


def trains_weights(config: Config) -> bool:
    """Whether a job needs a model whose weights can be trained."""
    match config.optimizer:
        case "bootstrap_finetune":
            return True
        case "better_together":
            return "w" in _strategy(config)
        case _:
            return False


def _strategy(config: Config) -> str:
    return str(config.options.get("strategy", _STRATEGY))


def bootstrap_finetune(search: Search, student: Any) -> Found:
    """BootstrapFinetune: trains the model on the answers of its own program that the metric accepted."""
    search.guard.compiling(full_size=len(search.valset), bootstraps=len(search.trainset), trials=None, listens=False)
    student.set_lm(search.task_lm)  # it trains the models of the predictors, and none of the context
    found = _finetune(search).compile(student, trainset=search.shuffled)
    return Found(found, lms=tuple(predictor.lm for predictor in found.predictors()))


def better_together(search: Search, student: Any) -> Found:
    """BetterTogether: random search (`p`) and BootstrapFinetune (`w`) in the order of `strategy`."""
    strategy = _strategy(search.config)
    # The program that it starts from is scored, and the one after each step; `w` runs the program on the trainset.
    steps = {"p": random_search_trials(search) + 1, "w": 2}
    trials = 1 + sum(steps[step] for step in strategy.split(" -> "))
    search.guard.compiling(full_size=len(search.valset), bootstraps=None, trials=trials)
    student.set_lm(search.task_lm)
    optimizer = teleprompt.BetterTogether(metric=search.scorer, p=random_search_optimizer(search), w=_finetune(search))
    found = optimizer.compile(
        student,
        trainset=list(search.trainset),
        valset=list(search.valset),
        num_threads=search.threads,
        max_errors=search.max_errors,
        seed=search.config.seed,
        strategy=strategy,
        **search.given("shuffle_trainset_between_steps"),
    )
    if found.flag_compilation_error_occurred:
        # It would give the best program so far, and nobody would know that a step is missing.
        raise OptimizationError(f"a step of `{strategy}` failed; the log lines of this job say which and why")
    lms = tuple(predictor.lm for predictor in found.predictors())
    trained = any(lm.model != search.task_lm.model for lm in lms)
    return Found(found, lms=lms if trained else ())


def _finetune(search: Search) -> Any:
    def accepted(example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ARG001 - DSPy's shape
        # It never passes a trace, and would train on every answer whose score is not 0.
        return bool(search.scorer(example, prediction, ()))

    return teleprompt.BootstrapFinetune(
        metric=accepted,
        num_threads=search.threads,
        **search.given("multitask", "exclude_demos", "train_kwargs"),
    )
