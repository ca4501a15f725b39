"""The optimizers that train a model's weights: BootstrapFinetune, and BetterTogether, which mixes it with prompts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy import teleprompt

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
    """BootstrapFinetune: trains the model on the answers of its teacher that the metric accepted."""
    search.guard.progress.compiling(
        full_size=len(search.valset), bootstraps=len(search.trainset), trials=None, listens=False
    )
    student.set_lm(search.task_lm)  # it trains the models of the predictors, and none of the context
    found = _finetune(search).compile(student, trainset=list(search.shuffled))
    return Found(found, lms=tuple(predictor.lm for predictor in found.predictors()))


def better_together(search: Search, student: Any) -> Found:
    """BetterTogether: random search (`p`) and BootstrapFinetune (`w`) in the order of `strategy`."""
    strategy = _strategy(search.config)
    # The program that it starts from is scored, and the one after each step; `w` runs the program on the trainset.
    steps = {"p": random_search_trials(search) + 1, "w": 2}
    trials = 1 + sum(steps[step] for step in strategy.split(" -> "))
    search.guard.progress.compiling(full_size=len(search.valset), bootstraps=None, trials=trials)
    student.set_lm(search.task_lm)
    prompts = _on_its_model(random_search_optimizer(search))
    optimizer = teleprompt.BetterTogether(metric=search.scorer, p=prompts, w=_finetune(search))
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
        search.guard.check_alive()  # whoever stopped the step knows why
        # It would give the best program so far, and nobody would know that a step is missing.
        raise OptimizationError(f"a step of `{strategy}` failed; the log lines of this job say which and why")
    lms = tuple(predictor.lm for predictor in found.predictors())
    trained = any(lm.model != search.task_lm.model for lm in lms)
    return Found(found, lms=lms if trained else ())


def _on_its_model(optimizer: Any) -> Any:
    """The optimizer, searching with the student's own model. DSPy's random search takes the models out of what it
    compiles: after a training it would choose demos for the model that was there before."""
    compile_program = optimizer.compile

    @functools.wraps(compile_program)  # BetterTogether asks for its parameters
    def compile_on_it(student: Any, **data: Any) -> Any:
        lms = {id(predictor.lm): predictor.lm for predictor in student.predictors()}
        with dspy.context(lm=next(iter(lms.values()))) if len(lms) == 1 else contextlib.nullcontext():
            return compile_program(student, **data)

    optimizer.compile = compile_on_it
    return optimizer


def _finetune(search: Search) -> _Finetune:
    def accepted(example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ARG001 - DSPy's shape
        # It never passes a trace, and would train on every answer whose score is not 0.
        return bool(prediction.keys()) and bool(search.scorer(example, prediction, ()))

    return _Finetune(search, accepted)


class _Finetune(teleprompt.BootstrapFinetune):  # type: ignore[misc]
    """DSPy's, with a teacher of its own and without three of its traps.

    One answer that cannot be read ends its compile; here that example teaches nothing. It leaves a `forward` in the
    program that copies of it would share. And it has a model trained on no data at all, when no answer was accepted.
    """

    def __init__(self, search: Search, metric: Any) -> None:
        super().__init__(metric=metric, **search.given("multitask", "exclude_demos", "train_kwargs"))
        self._search = search

    def compile(self, student: Any, trainset: list[Any], teacher: Any = None) -> Any:  # noqa: ARG002 - the search's
        """Trains the student's models on the teacher's answers."""
        search = self._search
        # It wants a thread for each training, and with models of their own there are as many as predictors.
        self.num_threads = max(search.threads, 1 if self.multitask else len(student.predictors()))
        teaching = student if search.teacher is None else search.teacher
        if teaching is student and search.teacher_lm is not search.task_lm:
            teaching = student.deepcopy()
        if teaching is not student:
            teaching.set_lm(search.teacher_lm)
        teaching.forward = _forgiving(object.__getattribute__(teaching, "forward"))  # DSPy warns of a plain access
        try:
            return super().compile(student, trainset, None if teaching is student else teaching)
        finally:
            vars(teaching).pop("forward", None)

    def _prepare_finetune_data(self, trace_data: list[Any], lm: Any, pred_ind: int | None = None) -> Any:
        data, data_format = super()._prepare_finetune_data(trace_data, lm, pred_ind)
        if not data:
            self._search.guard.check_alive()  # a dead endpoint may be why
            raise OptimizationError(
                f"there is nothing to train on: the metric accepted no answer to the {len(trace_data)} examples; "
                "take a better teacher (`teacher`, `teacher_lm`) or another metric"
            )
        return data, data_format


def _forgiving(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A program's `forward` whose failure is an answer without any field, which is not accepted."""

    def forgiven(**inputs: Any) -> Any:
        try:
            return forward(**inputs)
        except Exception:  # noqa: BLE001 - one example of many; the guard ends the job when the endpoint is dead
            return dspy.Prediction()

    return forgiven
