"""The optimizers that write instructions from what they see of data or scores: MIPROv2, COPRO, InferRules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from dspy import teleprompt  # type: ignore[import-untyped]

from erlbridge.programs.optimizers.search import Found, Search

_CANDIDATES: Final = 6
"""Instructions and demo sets of MIPROv2 when the request names none: what DSPy's own `auto: "light"` takes."""

_WHOLE_VALSET: Final = 50
"""Up to here MIPROv2 scores each trial on all of the valset; minibatches of less tell too little."""

_MINIBATCH: Final = 35
"""Examples of a minibatch, as DSPy has it."""

_AUTO: Final[Mapping[str, tuple[int, int]]] = {"light": (6, 100), "medium": (12, 300), "heavy": (18, 1000)}
"""Candidates and largest valset of DSPy's `auto` settings."""

_RULE_SETS: Final = 4
"""Rule sets that InferRules tries when the request names no number. DSPy's 10 cost as much again for each."""


def mipro(search: Search, student: Any) -> Found:
    """MIPROv2: instructions that a proposer writes and demo sets, searched together."""
    config, options = search.config, search.config.options
    auto, size = options.get("auto"), len(search.valset)
    if isinstance(auto, str):
        # DSPy draws its own valset and decides on minibatches; known here only to say how far the search is.
        candidates, largest = _AUTO[auto]
        size = min(size, largest)
        minibatch = size > _WHOLE_VALSET
    else:
        candidates = search.integer("num_candidates", _CANDIDATES)
        minibatch = bool(options.get("minibatch", size > _WHOLE_VALSET))
    kinds = 2 if config.max_demos or config.max_labeled_demos else 1
    variables = kinds * len(student.predictors())
    trials = search.integer("num_trials", _suggested_trials(candidates, variables))
    steps = search.integer("minibatch_full_eval_steps", 5)
    search.guard.progress.compiling(
        full_size=size, bootstraps=None, trials=_evaluations(trials, steps if minibatch else None)
    )
    optimizer = teleprompt.MIPROv2(
        metric=search.scorer,
        prompt_model=search.prompt_lm,
        task_model=search.task_lm,
        teacher_settings={"lm": search.teacher_lm},
        max_bootstrapped_demos=config.max_demos,
        max_labeled_demos=config.max_labeled_demos,
        auto=auto,
        num_candidates=None if auto else candidates,
        num_threads=search.threads,
        max_errors=search.max_errors,
        init_temperature=float(options.get("init_temperature", 1.0)),  # type: ignore[arg-type]
        track_stats=False,  # its logs hold every program it tried
        **({"seed": config.seed} if config.seed else {}),
    )
    proposer = ("program_aware_proposer", "data_aware_proposer", "tip_aware_proposer", "fewshot_aware_proposer")
    found = optimizer.compile(
        student,
        trainset=search.trainset,
        valset=search.valset,  # its own split would take four fifths of the trainset away
        num_trials=None if auto else trials,
        minibatch=minibatch,
        minibatch_size=min(search.integer("minibatch_size", _MINIBATCH), size),
        minibatch_full_eval_steps=steps,
        view_data_batch_size=min(search.integer("view_data_batch_size", 10), len(search.trainset)),
        **search.given(*proposer),
    )
    return Found(found)


def copro(search: Search, student: Any) -> Found:
    """COPRO: instructions proposed from earlier ones and their scores. The proposer sees no example, so all of them
    serve to score, as in DSPy."""
    breadth, depth = search.integer("breadth", 10), search.integer("depth", 3)
    predictors = len(student.predictors())
    # With one predictor a round scores its own proposals; with more, all of the earlier ones again.
    rounds = depth if predictors == 1 else depth * (depth + 1) // 2
    search.guard.progress.compiling(
        full_size=len(search.trainset), bootstraps=None, trials=predictors * breadth * rounds
    )
    optimizer = teleprompt.COPRO(  # takes any keyword without a word, so each of these is tested
        # With a model of its own it prints that model's history after each step.
        prompt_model=None if search.prompt_lm is search.task_lm else search.prompt_lm,
        metric=search.scorer,
        breadth=breadth,
        depth=depth,
        **search.given("init_temperature"),
    )
    scoring = {"num_threads": search.threads, "display_progress": False}
    return Found(optimizer.compile(student, trainset=search.shuffled, eval_kwargs=scoring))


class _SeparateRules(teleprompt.InferRules):  # type: ignore[misc]
    """InferRules whose candidates do not share their instructions.

    DSPy writes rules onto a candidate's signature class, which copies of a program share: its best program ends up
    with the rules of the last one tried. Here each candidate gets a class of its own before it is scored.
    """

    def evaluate_program(self, program: Any, dataset: Any) -> Any:
        for predictor in program.predictors():
            predictor.signature = predictor.signature.with_instructions(predictor.signature.instructions)
        return super().evaluate_program(program, dataset)


def infer_rules(search: Search, student: Any) -> Found:
    """InferRules: a bootstrap, then rules that a model reads from the trainset and that join the instructions."""
    candidates = search.integer("num_candidates", _RULE_SETS)
    bootstraps = len(search.trainset) * search.integer("max_rounds", 1)
    search.guard.progress.compiling(full_size=len(search.valset), bootstraps=bootstraps, trials=candidates)
    optimizer = _SeparateRules(
        **search.bootstrapping,
        num_candidates=candidates,
        num_rules=search.integer("num_rules", 10),
        num_threads=search.threads,
        max_errors=search.max_errors,
    )
    # It would let the teacher write the rules; who writes instructions is the prompt model's matter.
    optimizer.rules_induction_program.teacher_settings = {"lm": search.prompt_lm}
    return Found(optimizer.compile(student, trainset=search.shuffled, valset=search.valset))


def _suggested_trials(candidates: int, variables: int) -> int:
    """DSPy's own advice for a search over instructions, or over instructions and demos."""
    return int(max(2 * variables * math.log2(candidates), 1.5 * candidates))


def _evaluations(trials: int, steps: int | None) -> int:
    """How often MIPROv2 evaluates: the default program, each trial, and the full evaluations between minibatches."""
    if steps is None:
        return trials + 1
    return trials + trials // steps + 1 + (trials % steps != 0)
