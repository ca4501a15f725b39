"""What every optimizer works with: the job's settings, data, metric and models, and how its options are read.

Knows no optimizer. One search serves one compile; DSPy's optimizers keep state on themselves, and so do these objects.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from erlbridge.core.configs import Config
from erlbridge.core.lazy import Lazy
from erlbridge.errors import MissingPackage
from erlbridge.programs.guard import Guard
from erlbridge.programs.metrics import Scorer


@dataclass(frozen=True, slots=True)
class Search:
    """What an optimizer works with.

    Args:
        config: Optimizer, options, demos, seed.
        trainset: `dspy.Example`s that demos come from.
        valset: `dspy.Example`s that trials are scored on, where the optimizer takes a set of its own for it.
        scorer: The job's metric.
        guard: Told what to expect of the compile.
        task_lm: Answers as the program.
        prompt_lm: Writes instructions.
        teacher_lm: Answers while demos are bootstrapped.
        threads: How many examples a trial runs at once.
        teacher: The program whose answers are learned where weights are trained; None is the student itself.
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
    teacher: Any = None

    @property
    def max_errors(self) -> int:
        """Failed examples that an optimizer tolerates. DSPy's 10 end a compile for a few unparsable answers; dead
        endpoints are the guard's matter."""
        given = self.config.options.get("max_errors")
        return given if isinstance(given, int) else len(self.trainset) + len(self.valset) + 1

    @property
    def shuffled(self) -> Sequence[Any]:
        """The trainset in the order of the seed. The optimizers without a seed take demos in the order they get, so
        this is what a seed means to them; seed 0 leaves the order as it was sent."""
        if not self.config.seed:
            return self.trainset
        order = array("Q", range(len(self.trainset)))
        random.Random(self.config.seed).shuffle(order)  # noqa: S311 - an order, not a secret
        return self.trainset.ordered(order) if isinstance(self.trainset, Lazy) else [self.trainset[i] for i in order]

    @property
    def bootstrapping(self) -> dict[str, Any]:
        """What every optimizer that bootstraps demos takes, by DSPy's names."""
        return {
            "metric": self.scorer,
            "teacher_settings": {"lm": self.teacher_lm},
            "max_bootstrapped_demos": self.config.max_demos,
            "max_labeled_demos": self.config.max_labeled_demos,
            "max_rounds": self.integer("max_rounds", 1),
        }

    def integer(self, name: str, default: int) -> int:
        """An option that counts something."""
        given = self.config.options.get(name)
        return given if isinstance(given, int) else default

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the options that the request gives, for DSPy's own defaults to stand elsewhere."""
        options = self.config.options
        return {name: options[name] for name in names if options.get(name) is not None}

    def percent(self, name: str) -> float | None:
        """A score that is an option, as DSPy counts it: to 100."""
        score = self.config.options.get(name)
        return score * 100 if isinstance(score, int | float) else None

    def require(self, *packages: str) -> None:
        """Raises `MissingPackage` where one of the packages is not installed."""
        for package in packages:
            try:
                import_module(package)
            except ImportError as error:
                raise MissingPackage(
                    f"{self.config.optimizer} needs the package `{package}` ({error}); "
                    "install it with: pip install 'erlbridge[optimizers]'"
                ) from error


@dataclass(frozen=True, slots=True)
class Found:
    """What a compile found.

    Attributes:
        program: The `dspy.Module` whose state is kept.
        voters: States of the programs that vote, where it is an ensemble; `program` is the best of them.
        neighbours: How many of the nearest examples are its demos, where it has others for each input.
        lms: The trained model of each predictor, in order, where weights were trained.
    """

    program: Any
    voters: tuple[Mapping[str, Any], ...] = ()
    neighbours: int | None = None
    lms: tuple[Any, ...] = ()
