"""The verb `evaluate_pipeline`. Knows the result's shape; the loop over the examples is `evaluation`'s."""

from __future__ import annotations

from erlbridge.core.jobs import EvaluatePipeline, Outcome
from erlbridge.programs.evaluation import mean
from erlbridge.programs.intervals import interval95
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys


def evaluate(work: Work, job: EvaluatePipeline) -> Outcome:
    """Scores the program on each example."""
    examples = work.read(job.data)
    answers = work.runner.evaluate(work.start.build(), examples, work.scorer(), "evaluating")
    work.guard.progress.enter("finishing")
    results = [
        atom_keys(
            {
                "example": work.spelling.fields(example),
                "prediction": work.fields(answer),
                "score": answer.score,
                "error": answer.error,
                "feedback": answer.feedback,
            }
        )
        for example, answer in zip(examples, answers, strict=True)
    ]
    errors = [
        atom_keys({"index": index, "error": answer.error}) for index, answer in enumerate(answers) if answer.error
    ]
    result = {
        "status": atom("success"),
        "score": mean([answer.score for answer in answers]),
        "confidence_interval": list(interval95([answer.score for answer in answers])),
        "count": len(answers),
        "failures": len(errors),
        "errors": errors,
        "results": results,
        "metrics": work.metrics(),
        "warnings": work.warnings,
    }
    return Outcome(atom_keys(result))
