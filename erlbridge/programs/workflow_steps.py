"""One step of a workflow at work: optimized and predicted by DSPy, or executed by the host.

Each part of it is a job of its own (an optimization, a prediction), with its own guard and what is left of the budget,
so that one step's dead endpoint need not end the workflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from erlbridge.core.examples import plain
from erlbridge.core.functions import Function
from erlbridge.core.jobs import ModelJob, Observer, OptimizeSignature, Outcome, Predict, Progress, parse_job
from erlbridge.core.signatures import Signature
from erlbridge.core.spelling import Spelling
from erlbridge.core.workflow import Step
from erlbridge.core.workflow_jobs import RunPipeline
from erlbridge.core.workflow_needs import ConfigTerm, host_prompt, step_config, step_examples, step_inputs
from erlbridge.core.workflow_templates import Given
from erlbridge.errors import (
    BridgeError,
    BudgetExceeded,
    CallbackFailed,
    DeadlineExceeded,
    InternalError,
    OperatorError,
    PythonRuntimeError,
    WorkerError,
)
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.host import HostFunction
from erlbridge.programs.workflow_programs import edit, made_from, optimized_program
from erlbridge.programs.workflow_results import Result, Spent, StepObserver
from erlbridge.store.reports import report_name
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom

EXECUTE_STEP: Final = b"execute_step"
"""The Elixir function that gets the steps which are not DSPy's: `(step, context) -> value`."""

_OF_THE_SEARCH: Final = (
    "optimizer", "options", "metric", "max_demos", "max_labeled_demos", "prompt_lm", "teacher_lm",
)  # fmt: skip
"""What of a config an answer has no use for; options are checked by the number of examples, of which it has none."""

RunJob: TypeAlias = Callable[[ModelJob, Guard, Mapping[str, bytes], Spelling], Outcome]
"""Runs one job under a guard; `programs.run` gives it, which knows all verbs."""


@dataclass(slots=True)
class Runner:
    """Runs the steps of one workflow, one after the other.

    Args:
        job: What the request says.
        given: The workflow's inputs, and the outputs so far, which grow with each step.
        warn: Takes a path and a warning.
    """

    job: RunPipeline
    observer: Observer
    programs: dict[str, bytes]
    run_job: RunJob
    given: Given
    workflow: str | None
    warn: Callable[[str, str], None]
    total: Spent = field(default_factory=Spent)
    started: float = field(default_factory=time.monotonic)

    def run(self, step: Step, number: int, count: int) -> Result:
        """Runs one step and keeps its outputs. Raises `BridgeError`, which names the step."""
        began = time.monotonic()
        result = Result(step)
        observer = StepObserver(self.observer, f"step {number} of {count}: {step.name}", self.total)
        observer.progress(Progress("executing", number - 1, count))
        try:
            if self.job.optimize_only:
                self._optimize(step, result, observer)
            elif step.signature is None:
                result.value = self._by_host(step, result, observer)
            else:
                self._by_dspy_or_host(step, step.signature, result, observer)
        except BridgeError as error:
            self._name_step(error, step)
            raise
        result.seconds = time.monotonic() - began
        self.given.outputs[step.name] = result.value
        return result

    def _name_step(self, error: BridgeError, step: Step) -> None:
        message = error.message
        if isinstance(error, BudgetExceeded):
            # The step knew only what was left of it.
            counts, seconds = self.total.counts, time.monotonic() - self.started
            tokens = counts["input_tokens"] + counts["output_tokens"]
            message = (
                f"the budget of the workflow is used up: {counts['lm_calls']} model calls, {tokens} tokens and "
                f"{seconds:.3f} seconds so far"
            )
            error.context.pop("limit", None)
        error.message = f"step `{step.name}`: {message}"
        error.args = (error.message,)
        error.context["step"] = step.name

    def _by_dspy_or_host(self, step: Step, signature: Signature, result: Result, observer: Observer) -> None:
        try:
            self._by_dspy(step, signature, result, observer)
        except Exception as error:
            failure = error if isinstance(error, BridgeError) else _as_bridge_error(error)
            if step.settings.fallback != "traditional" or not _is_dspys(failure):
                if failure is error:
                    raise
                raise failure from error
            result.fell_back(failure.message, self._by_host_instead(step, result, observer, failure))

    # -- the host's steps

    def _by_host(self, step: Step, result: Result, observer: Observer) -> object:
        guard = Guard(observer, replace(self.job.config.budget, max_seconds=self._seconds_left()))
        function = HostFunction(Function(EXECUTE_STEP), guard, self.job.config.call_timeout_ms)
        prompt, problem = host_prompt(step, self.given)
        context = {
            "workflow": self.workflow,
            "inputs": dict(self.given.inputs),
            "steps": dict(self.given.outputs),
            "previous": next(reversed(self.given.outputs), None),
            "prompt": prompt,
            "prompt_problem": problem,
        }
        try:
            return function([step.place.term, context], plain)
        except Stop:
            raise guard.reason or InternalError("the step was stopped without a reason") from None
        finally:
            guard.close()
            self._count(result, guard)

    def _by_host_instead(self, step: Step, result: Result, observer: Observer, failure: BridgeError) -> object:
        try:
            return self._by_host(step, result, observer)
        except BridgeError as error:
            # Without the first failure nobody could mend what led here.
            error.message = f"{error.message}; the host was asked because DSPy had failed: {failure.message}"
            raise error from failure

    def _seconds_left(self) -> float | None:
        limit = self.job.config.budget.max_seconds
        return None if limit is None else max(0.0, limit - (time.monotonic() - self.started))

    # -- DSPy's steps

    def _by_dspy(self, step: Step, signature: Signature, result: Result, observer: Observer) -> None:
        config = step_config(step, self.job.entries)
        inputs = step_inputs(step, signature, self.given)
        source = self._program(step, signature, config, result, observer)
        asked = {name: value for name, value in config.items() if name not in _OF_THE_SEARCH}
        payload = {**source, "input": inputs, "config": self._with_budget(asked)}
        prediction = self._sub_job("predict", payload, result, observer)[atom("prediction")]
        result.value = {name.decode(): value for name, value in prediction.items()}

    def _optimize(self, step: Step, result: Result, observer: Observer) -> None:
        """What running the step would do first. Nothing is asked for an answer, and nothing falls back to the host."""
        if step.signature is not None:
            self._program(step, step.signature, step_config(step, self.job.entries), result, observer)

    def _program(
        self, step: Step, signature: Signature, config: ConfigTerm, result: Result, observer: Observer
    ) -> dict[str, object]:
        """What answers, as `predict` takes it: a program that is known, one that is found now, or the signature."""
        training, validation = step_examples(step, signature, self.job.training.get(step.name))
        source = made_from(step, [training, validation], config)
        if step.name in self.job.programs:
            result.known(self.job.programs[step.name])
        elif step.optimized is not None:
            if step.settings.enabled and training:
                self._check_source(step.optimized, source)
            program_id, program = optimized_program(step, config.get("module"))
            self.programs[program_id] = program
            observer.keep(program_id, program)  # so that its id names something that the node has
            result.known(program_id)
        elif step.settings.enabled and training:
            payload = {
                "signature": step.signature_term,
                "training_data": training,
                "validation_data": validation,
                "config": self._with_budget(config),
            }
            result.found(self._sub_job("optimize_signature", payload, result, observer))
            assert result.program_id is not None  # noqa: S101 - `found` has set it
            result.edit = edit(step, signature, result.program_id, self.programs[result.program_id], source)
            if result.edit is None:
                self.warn(
                    step.place.path,
                    "an ensemble answers now, which has no place in a workflow; name it in the next request, as "
                    f"`programs: {step.name} => {result.program_id}`",
                )
        elif step.settings.enabled:
            self.warn(step.place.path, f"nothing was optimized: there are no examples for the step `{step.name}`")
        return {"signature": step.signature_term} if result.program_id is None else {"program": result.program_id}

    def _sub_job(self, verb: str, payload: Mapping[str, object], result: Result, observer: Observer) -> Any:
        job = parse_job(verb, payload)
        assert isinstance(job, OptimizeSignature | Predict)  # noqa: S101 - no other verb is asked for here
        guard = Guard(observer, job.config.budget)
        try:
            outcome = self.run_job(job, guard, self.programs, Spelling({}))
        finally:
            self._count(result, guard)
        if outcome.program_id is not None and outcome.program is not None:
            self.programs[outcome.program_id] = outcome.program
            observer.keep(outcome.program_id, outcome.program)
            if outcome.report is not None:
                observer.keep(report_name(outcome.program_id), outcome.report)
        for name, model in outcome.models.items():
            observer.keep(name, model)
        return outcome.result

    def _count(self, result: Result, guard: Guard) -> None:
        spent = guard.spent()
        result.spent.add(spent)
        self.total.add(spent)

    def _with_budget(self, config: ConfigTerm) -> dict[str, object]:
        left = self.total.left(self.job.config.budget, time.monotonic() - self.started)
        return {**config, "budget": left} if left else config

    def _check_source(self, optimized: Place, source: str) -> None:
        known = optimized.entries().get("made_from")
        if known is not None and known.term not in (None, source):
            self.warn(
                optimized.path,
                "was made from other fields, examples or settings than those here; it is used as it is, and optimized "
                "again once you take it out",
            )


def _is_dspys(failure: BridgeError) -> bool:
    """Whether DSPy failed. A budget, a deadline, a cancel and a mistake in the request are no failures of DSPy."""
    known = isinstance(failure, WorkerError | OperatorError | CallbackFailed)
    return known and not isinstance(failure, DeadlineExceeded)


def _as_bridge_error(error: Exception) -> BridgeError:
    return PythonRuntimeError(f"{type(error).__name__}: {error}", traceback=traceback_text(error))
