"""GEPA: instructions that a model rewrites after reflecting on what went wrong, kept on a Pareto front.

Knows GEPA's budgets and its own events. Of its checkpoints, which are pickles, nothing is written or read: it gets no
`log_dir`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dspy import teleprompt  # type: ignore[import-untyped]

from erlbridge.programs.feedback import Feedback
from erlbridge.programs.optimizers.search import Found, Search

_FULL_EVALS: Final = 6
"""Metric calls when the request names none, in passes over all examples. DSPy's `auto: "light"` counts some hundreds
of calls whatever the size of the data."""

_MINIBATCH: Final = 3
"""Examples that one reflection sees, as DSPy has it."""

_AUTO: Final[Mapping[str, int]] = {"light": 6, "medium": 12, "heavy": 18}
"""Candidates of DSPy's `auto` settings."""


def gepa(search: Search, student: Any) -> Found:
    """Compiles with GEPA. A model call stops it as it stops every optimizer; between calls it asks the guard."""
    options = search.config.options
    listener = _Listener(search, student)
    optimizer = teleprompt.GEPA(
        metric=Feedback(search.scorer),
        max_metric_calls=(calls := _metric_calls(search, student)),
        reflection_lm=search.prompt_lm,
        reflection_minibatch_size=min(search.integer("reflection_minibatch_size", _MINIBATCH), len(search.trainset)),
        num_threads=search.threads,
        seed=search.config.seed,
        gepa_kwargs={"callbacks": [listener], "stop_callbacks": [listener]},
        **search.given(
            "candidate_selection_strategy", "skip_perfect_score", "add_format_failure_as_feedback",
            "component_selector", "use_merge", "max_merge_invocations",
        ),
    )  # fmt: skip
    enough = options.get("stop_at_score")
    listener.enough = float(enough) if isinstance(enough, int | float) else None
    search.guard.progress.compiling(full_size=len(search.valset), bootstraps=None, trials=calls, listens=False)
    found = optimizer.compile(student, trainset=search.trainset, valset=search.valset)
    search.guard.progress.reached(calls)
    return Found(found)


def _metric_calls(search: Search, student: Any) -> int:
    """How many metric calls the request allows, however it says so; the last candidate may go over it."""
    options, whole = search.config.options, len(search.trainset) + len(search.valset)
    auto = options.get("auto")
    if isinstance(auto, str):
        sized = teleprompt.GEPA(metric=Feedback(search.scorer), auto=auto, reflection_lm=search.prompt_lm)
        predictors = max(len(student.predictors()), 1)
        return int(sized.auto_budget(predictors, _AUTO[auto], len(search.valset)))
    calls = options.get("max_metric_calls")
    return calls if isinstance(calls, int) else search.integer("max_full_evals", _FULL_EVALS) * whole


class _Listener:
    """What GEPA calls while it runs: it tells the guard how far the search is, and says when to stop."""

    def __init__(self, search: Search, student: Any) -> None:
        self.enough: float | None = None
        self._guard = search.guard
        self._student = student.deepcopy()
        self._best = 0.0

    def __call__(self, _state: Any) -> bool:
        """GEPA's stopper, asked before each iteration. Raises the guard's `Stop` when the job must not go on: an
        iteration of nothing but perfect scores makes no new call that would be stopped."""
        self._guard.check_alive()
        return self.enough is not None and self._best >= self.enough

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """A candidate was scored on the valset."""
        score, instructions = float(event["average_score"]), event["candidate"]
        self._best = max(self._best, score)
        self._guard.progress.trial(score, event["num_examples_evaluated"], lambda: self._state(instructions))

    def on_budget_updated(self, event: Mapping[str, Any]) -> None:
        """The metric was called."""
        self._guard.progress.reached(event["metric_calls_used"])

    def _state(self, instructions: Mapping[str, str]) -> Mapping[str, Any]:
        program = self._student.deepcopy()
        for name, predictor in program.named_predictors():
            if name in instructions:
                predictor.signature = predictor.signature.with_instructions(instructions[name])
        state: Mapping[str, Any] = program.dump_state()
        return state
