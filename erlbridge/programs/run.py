"""Runs one job in this process: from a checked `Job` to its `Outcome`. The one door to DSPy.

Each job has its own models, program, optimizer and guard, and its own `dspy.context`; nothing of DSPy is configured
globally. Knows what surrounds every verb: context, errors and secrets; each verb stands in a module of its own.
"""

from __future__ import annotations

import erlbridge.programs.environment  # noqa: F401 - before anything imports DSPy

# isort: split
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from typing import assert_never

import dspy  # type: ignore[import-untyped]

from erlbridge.core.jobs import (
    EvaluatePipeline,
    Job,
    ModelJob,
    Observer,
    OptimizeSignature,
    Outcome,
    Predict,
    PutProgram,
)
from erlbridge.core.spelling import Spelling
from erlbridge.core.training import TrainModel
from erlbridge.core.workflow_jobs import LoadWorkflow, RunPipeline
from erlbridge.errors import BridgeError, LMFailed, PythonRuntimeError
from erlbridge.programs import discretion, traces
from erlbridge.programs.evaluating import evaluate
from erlbridge.programs.failures import Secrets, traceback_text
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.leash import Bounds, leashed
from erlbridge.programs.optimizing import optimize
from erlbridge.programs.predicting import predict
from erlbridge.programs.putting import put_program
from erlbridge.programs.training import train
from erlbridge.programs.work import Work, resolve
from erlbridge.programs.workflows import load_workflow, run_pipeline
from erlbridge.wire.vocabulary import atom


def run(job: Job, observer: Observer, programs: Mapping[str, bytes], spelling: Spelling) -> Outcome:
    """Does what a job asks for.

    Args:
        job: What to do, checked as far as it can be without DSPy.
        observer: Told how far the job is; asked before and after each model call whether to stop.
        programs: The bytes of stored programs by id; the one that the job names must be among them.
        spelling: How the host writes the names of its fields.

    Returns:
        The result as a term with published atoms as keys, and for an optimization the program to keep.

    Raises:
        ValidationError: The data or a given program is not what the job needs, with its path.
        NotFound: The stored program is not there.
        OptimizationError: DSPy refused or failed the work, or the metric raised; with Python's traceback.
        LMFailed: The endpoint refused for good, or answered none of the calls.
        MissingPackage: An optimizer needs a package that is not installed.
        BridgeError: What `observer.stop_reason()` or the budget said, with the best result so far in its context.
    """
    match job:
        case PutProgram():
            return put_program(job)
        case LoadWorkflow():
            return load_workflow(job)
        case RunPipeline():
            return run_pipeline(job, observer, programs, spelling, run_guarded)
        case _:
            return run_guarded(job, Guard(observer, job.config.budget), programs, spelling)


def run_guarded(job: ModelJob, guard: Guard, programs: Mapping[str, bytes], spelling: Spelling) -> Outcome:
    """The same for what runs one program, under a guard that the caller may ask what was spent."""
    lms = job.config.lms
    secrets = Secrets.of_process((lm.api_key_env for lm in lms), given=(lm.api_key for lm in lms))
    discretion.keep(secrets)
    try:
        start = resolve(job.source, job.config, programs)
        work = Work(job.config, start, guard, secrets, spelling, programs=programs)
        with _leash(job, guard):
            return _in_context(work, job)
    except BridgeError as error:
        secrets.scrub(error)
        if isinstance(error, LMFailed):
            error.context["kind"] = atom(error.kind)  # a term from here on, as everything in a context
        if guard.reason is not None or guard.ledger.lm_calls:  # paid for, whatever became of it
            error.context = guard.spent() | error.context
        raise
    except Exception as error:
        secrets.scrub(error)
        traceback = traceback_text(error)
        if secrets.show_in(traceback):
            # Some errors, such as pydantic's, write what they hold, not their arguments.
            message = secrets.redact(f"{type(error).__name__}: {error}")
            raise PythonRuntimeError(message, traceback=secrets.redact(traceback)) from None
        raise
    finally:
        guard.close()


def _leash(job: ModelJob, guard: Guard) -> AbstractContextManager[None]:
    """Bounds the calls of a job that has an endpoint; the offline LM computes, and Elixir answers for its own."""
    timeouts = [lm.timeout_s for lm in job.config.lms if lm.remote]
    if not timeouts:
        return nullcontext()
    streams = isinstance(job, Predict) and job.stream
    return leashed(guard, Bounds(None if streams else max(timeouts)))


def _in_context(work: Work, job: ModelJob) -> Outcome:
    context = dspy.context(
        lm=work.task_lm,
        callbacks=[*traces.callbacks(work.guard), work.guard],
        usage_tracker=work.guard,
        num_threads=work.threads,
        elixir=work,  # for the tools of agents
        trace=None,  # the global trace would keep every call of the worker's life
        provide_traceback=False,
        warn_on_type_mismatch=False,  # inputs are checked against their types already; DSPy wants models for objects
    )
    try:
        with context, closing(work):
            match job:
                case OptimizeSignature():
                    return optimize(work, job)
                case EvaluatePipeline():
                    return evaluate(work, job)
                case Predict():
                    return predict(work, job)
                case TrainModel():
                    return train(work, job)
                case _:
                    assert_never(job)
    except Stop:
        raise work.stopped() from None
