"""Runs a program on many inputs and scores it: our own loop, because DSPy's loses each example's error.

Knows programs, threads and the guard. The order of the results is the order of the inputs, whatever the threads do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from erlbridge.programs.failures import Secrets
from erlbridge.programs.guard import Guard
from erlbridge.programs.metrics import Scorer
from erlbridge.programs.modules import Blueprint
from erlbridge.programs.predictions import outputs, text

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program gave for one input: a prediction, or the error that took its place."""

    prediction: Mapping[str, object] | None
    failure: Exception | None = None
    error: str | None = None
    score: float = 0.0
    feedback: str | None = None


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the programs of one recipe within one job.

    Args:
        recipe: Names the inputs to pass and the outputs to read.
        guard: Told about each step.
        secrets: Kept out of the errors of single inputs.
        threads: How many inputs run at once.
    """

    recipe: Blueprint
    guard: Guard
    secrets: Secrets
    threads: int

    def answer(self, program: Any, inputs: Mapping[str, object]) -> Answer:
        """The program's answer to one input. Its failure is a value, so that one bad input spoils no batch."""
        try:
            prediction = program(**inputs)
            return Answer(outputs(prediction, (field.name for field in self.recipe.outputs)))
        except Exception as error:  # noqa: BLE001 - a failure of one input, listed with it
            self.secrets.scrub(error)
            # Redacted once more: pydantic's errors write what they hold, not their arguments.
            return Answer(None, error, text(self.secrets.redact(f"{type(error).__name__}: {error}{where(error)}")))

    def predict(self, program: Any, inputs: Sequence[Mapping[str, object]]) -> list[Answer]:
        """The answers to all inputs. Raises the guard's `Stop`."""

        def one(item: Mapping[str, object]) -> Answer:
            found = self.answer(program, item)
            self.guard.progress.step()
            return found

        self.guard.progress.enter("predicting", len(inputs))
        return self._each(one, inputs)

    def evaluate(
        self, program: Any, examples: Sequence[Mapping[str, object]], scorer: Scorer, stage: str
    ) -> list[Answer]:
        """The scored answers to all examples; a failure scores 0. Raises the guard's `Stop`, also when every model
        call of the job has failed."""
        return self.noted(program, examples, scorer, stage, lambda answer: answer)

    def score(self, program: Any, examples: Sequence[Mapping[str, object]], scorer: Scorer, stage: str) -> list[float]:
        """The scores alone; no answer is kept."""
        return self.noted(program, examples, scorer, stage, lambda answer: answer.score)

    def noted(
        self,
        program: Any,
        examples: Sequence[Mapping[str, object]],
        scorer: Scorer,
        stage: str,
        kept: Callable[[Answer], Result],
    ) -> list[Result]:
        """What `kept`, on any thread, makes of each scored answer; the answer itself is not kept."""
        names = [field.name for field in self.recipe.inputs]

        def one(example: Mapping[str, object]) -> Result:
            found = self.answer(program, {name: example[name] for name in names})
            if found.prediction is not None:
                judged = scorer.judge(example, found.prediction)
                found = Answer(found.prediction, score=judged.score, feedback=judged.feedback)
            self.guard.progress.step(found.score)
            return kept(found)

        self.guard.progress.enter(stage, len(examples))
        scored = self._each(one, examples)
        self.guard.check_alive()
        return scored

    def _each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        if self.threads == 1 or len(items) == 1:
            return [function(item) for item in items]
        threads = min(self.threads, len(items))
        waiting: Iterator[tuple[int, Item]] = iter(enumerate(items))
        lock = threading.Lock()

        def serve() -> list[tuple[int, Result]]:
            done: list[tuple[int, Result]] = []
            while True:
                with lock:
                    taken = next(waiting, None)
                if taken is None:
                    return done
                index, item = taken
                done.append((index, function(item)))

        pool = ThreadPoolExecutor(threads, thread_name_prefix="program")
        try:
            # Each thread runs in a copy of this context, in which DSPy keeps its settings, and takes item by item: ten
            # thousand of them are no ten thousand futures.
            futures = [pool.submit(copy_context().run, serve) for _ in range(threads)]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()  # a stop on any thread is a stop at once, whatever the others wait for
            found = dict(pair for future in futures for pair in future.result())
            return [found[index] for index in range(len(items))]
        finally:
            with lock:
                waiting = iter(())  # after a stop no thread begins another item
            # Not waited for: after a stop, a call in flight may take as long as its timeout.
            pool.shutdown(wait=False, cancel_futures=True)


def where(error: BaseException) -> str:
    """In which step of a pipeline an error arose, as its notes say; empty for programs of one step."""
    return "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def mean(scores: Sequence[float]) -> float:
    """The mean over all examples, 0.0 to 1.0."""
    return sum(scores) / len(scores)
