"""SIMBA: demos and rules added where a program's answers differ most, on one mini-batch after the other.

It makes no evaluation that DSPy would report. Which step it is at stands in its log; what a program scored is known
from the metric, which is called on the thread that has just run the program.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from dspy import teleprompt
from dspy.utils.callback import BaseCallback  # type: ignore[import-untyped]

from erlbridge.programs.optimizers.search import Found, Search

_BATCH: Final = 32
"""Examples of a mini-batch, as DSPy has it, where there are so many."""

_STEPS: Final = 8
_LOG: Final = "dspy.teleprompt.simba"
_STARTS: Final = re.compile(r"Starting batch (\d+) of")
_SCORES: Final = re.compile(r"(?:VALIDATION|Batch \d+): Evaluating \d+ programs on")


def simba(search: Search, student: Any) -> Found:
    """Compiles with SIMBA. Its programs are scored on mini-batches, and the winners on the whole trainset at the end;
    until then the best of a mini-batch is the best there is."""
    size = min(search.integer("bsize", _BATCH), len(search.trainset))
    steps = search.integer("max_steps", _STEPS)
    # One step more: its last one scores the winners.
    search.guard.progress.compiling(full_size=size, bootstraps=None, trials=steps + 1, listens=False)
    tally = _Tally(search, type(student), size, steps)
    optimizer = teleprompt.SIMBA(
        metric=tally.metric,
        bsize=size,
        max_steps=steps,
        max_demos=search.config.max_demos,
        prompt_model=search.prompt_lm,
        # It writes a rollout into the teacher that it gets; without one it draws all its samples from the task's model.
        teacher_settings=None if search.teacher_lm is search.task_lm else {"lm": search.teacher_lm.copy()},
        num_threads=search.threads,
        **search.given(
            "num_candidates", "temperature_for_sampling", "temperature_for_candidates", "demo_input_field_maxlen"
        ),
    )
    log = logging.getLogger(_LOG)
    log.addHandler(tally.reader)
    try:
        with dspy.context(callbacks=[*dspy.settings.callbacks, tally]):
            found = optimizer.compile(student, trainset=search.trainset, seed=search.config.seed)
    finally:
        log.removeHandler(tally.reader)
    search.guard.progress.reached(steps + 1)
    return Found(found)


class _Tally(BaseCallback):  # type: ignore[misc]
    """Adds up what each program scores while SIMBA scores programs; its samples of single answers are left out."""

    def __init__(self, search: Search, kind: type, batch: int, steps: int) -> None:
        super().__init__()
        self.reader = _Reader(self)
        self._guard, self._scorer, self._kind = search.guard, search.scorer, kind
        self._batch, self._whole, self._steps = batch, len(search.trainset), steps
        self._size = 0
        self._scores: dict[int, tuple[Any, list[float]]] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 - DSPy's shape
        """A program runs on this thread; what it calls inside, even of its own kind, is not it."""
        if isinstance(instance, self._kind) and getattr(self._thread, "call", None) is None:
            self._thread.call, self._thread.program = call_id, instance

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        if getattr(self._thread, "call", None) == call_id:
            self._thread.call = None

    def metric(self, example: Any, prediction: Any) -> float:
        """SIMBA's metric, called after each run of a program; a run that failed has no prediction."""
        score = 0.0 if prediction is None else float(self._scorer(example, prediction))
        program = getattr(self._thread, "program", None)
        if self._size and program is not None:
            with self._lock:
                _, scores = self._scores.setdefault(id(program), (program, []))
                scores.append(score)
                done = len(scores) == self._size
            if done:
                self._guard.progress.trial(sum(scores) / len(scores), len(scores), program.dump_state)
        return score

    def starts(self, step: int) -> None:
        """A step begins, with samples of single answers."""
        self._scores, self._size = {}, 0
        self._guard.progress.reached(step - 1)

    def scores(self, *, winners: bool) -> None:
        """Programs are scored next, on the mini-batch, or the winners on everything."""
        self._scores, self._size = {}, self._whole if winners else self._batch
        if winners:
            self._guard.progress.reached(self._steps)


class _Reader(logging.Handler):
    """Reads from SIMBA's log where it is."""

    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self._tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if found := _STARTS.match(line):
            self._tally.starts(int(found[1]))
        elif _SCORES.match(line):
            self._tally.scores(winners=line.startswith("VALIDATION"))
