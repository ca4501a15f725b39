"""The verb `evaluate_pipeline`. Knows the result's shape; the loop over the examples is `evaluation`'s."""

from __future__ import annotations

from erlbridge.core.jobs import EvaluatePipeline, Outcome
from erlbridge.programs.evaluation import mean_score
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys


def evaluate(work: Work, job: EvaluatePipeline) -> Outcome:
    """Scores the program on each example."""
    examples = job.data.read(work.recipe.signature)
    answers = work.runner.evaluate(work.start.build(), examples, work.scorer(), "evaluating")
    work.guard.enter("finishing")
    results = [
        atom_keys(
            {
                "example": work.spelling.fields(example),
                "prediction": work.fields(answer),
                "score": answer.score,
                "error": answer.error,
            }
        )
        for example, answer in zip(examples, answers, strict=True)
    ]
    result = {
        "status": atom("success"),
        "score": mean_score(answers),
        "count": len(answers),
        "failures": sum(answer.error is not None for answer in answers),
        "results": results,
        "metrics": work.metrics(),
        "warnings": work.warnings,
    }
    return Outcome(atom_keys(result))
