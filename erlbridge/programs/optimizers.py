"""One compile: builds DSPy's optimizer from checked options, runs it, and gives back what it found.

Knows each optimizer's constructor, its defaults that suit small data, and its traps. One optimizer object serves one
job; they keep state on themselves.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from dspy import teleprompt  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.errors import MissingPackage
from erlbridge.programs.guard import Guard
from erlbridge.programs.metrics import Scorer

_CANDIDATES: Final = 6
"""Instructions and demo sets of MIPROv2 when the request names none: what DSPy's own `auto: "light"` takes."""

_RANDOM_CANDIDATES: Final = 8
"""Programs of a random search when the request names none. DSPy's 16 double the cost for little on small data."""

_WHOLE_VALSET: Final = 50
"""Up to here MIPROv2 scores each trial on all of the valset; minibatches of less tell too little."""

_MINIBATCH: Final = 35
"""Examples of a minibatch, as DSPy has it."""

_AUTO: Final[Mapping[str, tuple[int, int]]] = {"light": (6, 100), "medium": (12, 300), "heavy": (18, 1000)}
"""Candidates and largest valset of DSPy's `auto` settings."""

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {"mipro_v2": ("optuna", "numpy")}


@dataclass(frozen=True, slots=True)
class Search:
    """What an optimizer works with.

    Args:
        config: Optimizer, options, demos, seed.
        trainset: `dspy.Example`s that demos come from.
        valset: `dspy.Example`s that trials are scored on.
        scorer: The job's metric.
        guard: Told what to expect of the compile.
        task_lm: Answers as the program.
        prompt_lm: Writes instructions.
        teacher_lm: Answers while demos are bootstrapped.
        threads: How many examples a trial runs at once.
    """

    config: Config
    trainset: Sequence[Any]
    valset: Sequence[Any]
    scorer: Scorer
    guard: Guard
    task_lm: Any
    prompt_lm: Any
    teacher_lm: Any
    threads: int

    def compile(self, student: Any) -> Any:
        """The program that the optimizer found. Raises what DSPy raises, `MissingPackage`, or the guard's `Stop`."""
        for package in _NEEDS.get(self.config.optimizer, ()):
            _require(package, self.config.optimizer)
        match self.config.optimizer:
            case "labeled_few_shot":
                return self._labeled(student)
            case "bootstrap_few_shot":
                return self._bootstrap(student)
            case "bootstrap_few_shot_with_random_search":
                return self._random_search(student)
            case "mipro_v2":
                return self._mipro(student)
            case other:
                raise AssertionError(f"core.optimizers names {other!r}, which is not built here")

    @property
    def _max_errors(self) -> int:
        """Failed examples that an optimizer tolerates. DSPy's 10 end a compile for a few unparsable answers; dead
        endpoints are the guard's matter."""
        given = self.config.options.get("max_errors")
        return given if isinstance(given, int) else len(self.trainset) + len(self.valset) + 1

    @property
    def _shuffled(self) -> list[Any]:
        """The trainset in the order of the seed. The optimizers without a seed take demos in the order they get, so
        this is what a seed means to them; seed 0 leaves the order as it was sent."""
        examples = list(self.trainset)
        if self.config.seed:
            random.Random(self.config.seed).shuffle(examples)  # noqa: S311 - an order, not a secret
        return examples

    def _labeled(self, student: Any) -> Any:
        options = self.config.options
        optimizer = teleprompt.LabeledFewShot(k=options.get("k", self.config.max_labeled_demos))
        return optimizer.compile(student, trainset=self._shuffled, sample=options.get("sample", True))

    def _bootstrap(self, student: Any) -> Any:
        rounds = self._option("max_rounds", 1)
        self.guard.compiling(full_size=len(self.valset), bootstraps=len(self.trainset) * rounds, trials=None)
        optimizer = teleprompt.BootstrapFewShot(
            metric=self.scorer,
            teacher_settings={"lm": self.teacher_lm},
            max_bootstrapped_demos=self.config.max_demos,
            max_labeled_demos=self.config.max_labeled_demos,
            max_rounds=rounds,
            max_errors=self._max_errors,
        )
        return optimizer.compile(student, trainset=self._shuffled)

    def _random_search(self, student: Any) -> Any:
        candidates = self._option("num_candidate_programs", _RANDOM_CANDIDATES)
        enough = self.config.options.get("stop_at_score")
        # Besides its candidates it tries no demos, labeled demos, and one bootstrap in the given order.
        self.guard.compiling(full_size=len(self.valset), bootstraps=None, trials=candidates + 3)
        optimizer = teleprompt.BootstrapFewShotWithRandomSearch(
            metric=self.scorer,
            teacher_settings={"lm": self.teacher_lm},
            max_bootstrapped_demos=self.config.max_demos,
            max_labeled_demos=self.config.max_labeled_demos,
            max_rounds=self._option("max_rounds", 1),
            num_candidate_programs=candidates,
            num_threads=self.threads,
            max_errors=self._max_errors,
            stop_at_score=enough * 100 if isinstance(enough, int | float) else None,  # DSPy counts to 100
        )
        return optimizer.compile(student, trainset=self._shuffled, valset=list(self.valset))

    def _mipro(self, student: Any) -> Any:
        options = self.config.options
        auto, size = options.get("auto"), len(self.valset)
        if isinstance(auto, str):
            # DSPy draws its own valset and decides on minibatches; known here only to say how far the search is.
            candidates, largest = _AUTO[auto]
            size = min(size, largest)
            minibatch = size > _WHOLE_VALSET
        else:
            candidates = self._option("num_candidates", _CANDIDATES)
            minibatch = bool(options.get("minibatch", size > _WHOLE_VALSET))
        variables = 2 if self.config.max_demos or self.config.max_labeled_demos else 1
        trials = self._option("num_trials", _suggested_trials(candidates, variables))
        steps = self._option("minibatch_full_eval_steps", 5)
        self.guard.compiling(full_size=size, bootstraps=None, trials=_evaluations(trials, steps if minibatch else None))
        optimizer = teleprompt.MIPROv2(
            metric=self.scorer,
            prompt_model=self.prompt_lm,
            task_model=self.task_lm,
            teacher_settings={"lm": self.teacher_lm},
            max_bootstrapped_demos=self.config.max_demos,
            max_labeled_demos=self.config.max_labeled_demos,
            auto=auto,
            num_candidates=None if auto else candidates,
            num_threads=self.threads,
            max_errors=self._max_errors,
            init_temperature=float(options.get("init_temperature", 1.0)),  # type: ignore[arg-type]
            track_stats=False,  # its logs hold every program it tried
            **({"seed": self.config.seed} if self.config.seed else {}),
        )
        proposer = ("program_aware_proposer", "data_aware_proposer", "tip_aware_proposer", "fewshot_aware_proposer")
        return optimizer.compile(
            student,
            trainset=list(self.trainset),
            valset=list(self.valset),  # its own split would take four fifths of the trainset away
            num_trials=None if auto else trials,
            minibatch=minibatch,
            minibatch_size=min(self._option("minibatch_size", _MINIBATCH), size),
            minibatch_full_eval_steps=steps,
            view_data_batch_size=min(self._option("view_data_batch_size", 10), len(self.trainset)),
            **{name: options[name] for name in proposer if name in options},
        )

    def _option(self, name: str, default: int) -> int:
        given = self.config.options.get(name)
        return given if isinstance(given, int) else default


def _suggested_trials(candidates: int, variables: int) -> int:
    """DSPy's own advice for a search over instructions, or over instructions and demos."""
    return int(max(2 * variables * math.log2(candidates), 1.5 * candidates))


def _evaluations(trials: int, steps: int | None) -> int:
    """How often MIPROv2 evaluates: the default program, each trial, and the full evaluations between minibatches."""
    if steps is None:
        return trials + 1
    return trials + trials // steps + 1 + (trials % steps != 0)


def _require(package: str, optimizer: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f"{optimizer} needs the package `{package}` ({error}); install it with: pip install 'erlbridge[optimizers]'"
        ) from error
