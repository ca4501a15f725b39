"""How far a job is, told to its host while DSPy works: the guard's other half, which spends and stops nothing.

The steps of a compile are read from DSPy's own events, as the guard hears them, or told by those optimizers that know
better. Called on many threads, under the guard's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any, Final

from erlbridge.core.jobs import Chunk, Observer, Progress
from erlbridge.programs.course import Course
from erlbridge.programs.history import History
from erlbridge.programs.ledger import Ledger

_PROPOSERS: Final = frozenset(
    {
        "GenerateModuleInstruction",  # MIPROv2
        "BasicGenerateInstruction",  # COPRO, before its first trial
        "RulesInductionProgram",  # InferRules
    }
)


class Telling:
    """Keeps a job's course and tells its observer of each step.

    Args:
        observer: Who is told.
        ledger: What is spent, told along.
        lock: Whose holder may change the course or the ledger.
        elapsed_s: Seconds since the job began.
        check: Raises `guard.Stop` when the job must not go on.

    Attributes:
        closed: The job is over, and nothing is told any more.
        trials: Programs that a search has scored.
        history: Kept from when somebody puts one here: for a report.
    """

    def __init__(
        self,
        observer: Observer,
        ledger: Ledger,
        lock: RLock,
        elapsed_s: Callable[[], float],
        check: Callable[[], None],
    ) -> None:
        self.closed = False
        self.course = Course()
        self.trials = 0
        self.history: History | None = None
        self._observer = observer
        self._ledger = ledger
        self._lock = lock
        self._elapsed_s = elapsed_s
        self._check = check
        self._evaluations: dict[str, tuple[Any, int]] = {}

    def close(self) -> None:
        """The last word has been told."""
        with self._lock:
            self.closed = True

    def enter(self, stage: str, total: int | None = None) -> None:
        """A stage of the job begins, of `total` steps."""
        self._check()
        with self._lock:
            self.course.begin(stage, total)
            self.tell()

    def step(self, score: float | None = None) -> None:
        """One step of the stage is done. With a score, the stage's own score is the mean over its steps so far."""
        with self._lock:
            self.course.step(score)
            self.tell()

    def passed(self, done: int) -> None:
        """So many steps of the stage are done."""
        with self._lock:
            self.course.done = done
            self.tell()

    def chunk(self, piece: Chunk) -> None:
        """A piece of an output is written; raises `Stop` when the job must not go on."""
        self._check()
        with self._lock:
            if not self.closed:
                self._observer.chunk(piece)

    def compiling(self, *, full_size: int, bootstraps: int | None, trials: int | None, listens: bool = True) -> None:
        """A compile begins. What comes next is read from DSPy's own events.

        Args:
            full_size: Examples in a full evaluation.
            bootstraps: Examples that bootstrapping goes through at most, None when not known.
            trials: Steps of the search, None when not known: the programs that it will evaluate.
            listens: Whether each of DSPy's evaluations is such a step. If not, `trial` and `reached` say so.
        """
        self._check()
        with self._lock:
            planned = {"bootstrapping": bootstraps, "searching": trials}
            self.course.compile(planned, full_size=full_size, listens=listens)
            self.tell()

    def trial(self, score: float, size: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """A search scored a program on `size` examples: its score counts as best when that is the whole set."""
        with self._lock:
            self.trials += 1
            whole = size >= self.course.full_size
            if self.history is not None:
                self.history.tried(score, whole=whole, at_s=self._elapsed_s(), lm_calls=self._ledger.lm_calls)
            if whole:
                self.course.candidate(score, state)
            if self.course.advance("searching"):
                if self.course.listens:
                    self.course.trial(score)
                else:
                    self.course.judge(score)
                self.tell()

    def reached(self, steps: int) -> None:
        """So many steps of the search are done, as the optimizer itself counts them."""
        with self._lock:
            self.course.reach(steps)
            self.tell()

    def candidate(self, score: float, state: Callable[[], Mapping[str, Any]]) -> None:
        """A program and its score on the whole set. The host gets the best of them when the job ends early."""
        with self._lock:
            self.course.candidate(score, state)

    def bootstrapped(self) -> None:
        """The metric judged a trace that bootstrapping made."""
        with self._lock:
            if self.course.advance("bootstrapping"):
                self.step()

    def training(self, message: str, done: int = 0, total: int | None = None) -> None:
        """How far a model's training is, in its provider's words. It may stand in the middle of a search, whose stage
        goes on behind it."""
        with self._lock:
            if self.closed:
                return
            self._observer.progress(
                Progress(
                    stage="training",
                    done=done,
                    total=total,
                    best_score=self.course.best_score,
                    lm_calls=self._ledger.lm_calls,
                    cost_usd=self._ledger.cost_usd,
                    message=message,
                )
            )

    # -- what DSPy's events say -----------------------------------------------------------------------------------

    def module_begins(self, module: Any) -> None:
        """A module runs; one of DSPy's proposers means that an instruction is being written."""
        with self._lock:
            if _proposes(module) and self.course.advance("proposing"):
                self.step()

    def evaluation_begins(self, call_id: str, program: Any, size: int) -> None:
        """A program is evaluated on so many examples: a trial of the search, where that listens."""
        with self._lock:
            self._evaluations[call_id] = (program, size)
            if self.course.listens:
                self.course.advance("searching")

    def evaluation_ends(self, call_id: str, outputs: Any | None) -> None:
        """It ended, with DSPy's `EvaluationResult` or, where it failed, with None."""
        with self._lock:
            program, size = self._evaluations.pop(call_id, (None, 0))
        if outputs is not None and program is not None and self.course.listens:
            self.trial(_mean(outputs), size, program.dump_state)

    # -- telling --------------------------------------------------------------------------------------------------

    def tell(self, message: str | None = None) -> None:
        """Tells the host how far the job is, and something in words if there is anything."""
        # Told under the lock, so that the last word about a stage is not overtaken by an earlier one.
        with self._lock:
            if self.closed:
                return
            course = self.course
            if self.history is not None:
                self.history.passed(self._elapsed_s(), course.stage, self._ledger)
            self._observer.progress(
                Progress(
                    stage=course.stage,
                    done=course.done,
                    total=course.total,
                    score=course.score,
                    best_score=course.best_score,
                    lm_calls=self._ledger.lm_calls,
                    cost_usd=self._ledger.cost_usd,
                    message=message,
                )
            )


def _proposes(module: Any) -> bool:
    """Whether a module of DSPy's writes instructions: one of its proposers, or a predictor with such a signature."""
    return {type(module).__name__, getattr(getattr(module, "signature", None), "__name__", "")} & _PROPOSERS != set()


def _mean(evaluated: Any) -> float:
    """The score of an evaluation. DSPy's own is rounded: a sixth would become better than a sixth."""
    scores = [float(score) for *_, score in evaluated.results]
    return sum(scores) / len(scores) if scores else float(evaluated.score) / 100
