"""The verb `predict`. Knows the result's shape; the loop over the inputs is `evaluation`'s."""

from __future__ import annotations

import dspy  # type: ignore[import-untyped]

from erlbridge.core.examples import read_inputs
from erlbridge.core.jobs import Outcome, Predict
from erlbridge.errors import BridgeError, OptimizationError
from erlbridge.programs.evaluation import where
from erlbridge.programs.failures import lm_failed, traceback_text
from erlbridge.programs.streaming import streamed
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys


def predict(work: Work, job: Predict) -> Outcome:
    """Answers one input map, or each of a batch, in order."""
    inputs = [read_inputs(item, work.recipe.signature) for item in job.inputs]
    program = work.start.build()
    if job.stream:
        program = streamed(program, work)
    answers = work.runner.predict(program, inputs)
    if not job.batch and answers[0].failure is not None:
        raise _failed(work, answers[0].failure)
    work.guard.check_alive()
    work.guard.progress.enter("finishing")
    result: dict[str, object] = {"status": atom("success"), "metrics": work.metrics(), "warnings": work.warnings}
    if job.batch:
        result["predictions"] = [
            atom_keys({"prediction": work.fields(answer), "error": answer.error}) for answer in answers
        ]
    else:
        result["prediction"] = work.fields(answers[0])
    return Outcome(atom_keys(result))


def _failed(work: Work, error: Exception) -> Exception:
    """The error of a prediction that was the whole job."""
    if isinstance(error, BridgeError):
        return error
    if isinstance(error, dspy.LMError):
        return lm_failed(error, failed_calls=work.guard.ledger.failed_calls)
    if isinstance(error, dspy.AdapterParseError):
        return OptimizationError(
            f"the model's answer cannot be read: {error}{where(error)}", traceback=traceback_text(error)
        )
    return error
