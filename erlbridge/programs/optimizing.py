"""The verb `optimize_signature`: baseline, compile, measurement, result. Knows their order and the result's shape."""

from __future__ import annotations

from erlbridge.core.jobs import OptimizeSignature, Outcome
from erlbridge.errors import BridgeError, MissingPackage, OptimizationError
from erlbridge.programs.artifacts import Artifact, capture, dataset_sha256, pack
from erlbridge.programs.evaluation import mean_score
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.optimizers import Search
from erlbridge.programs.showing import optimized
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys


def optimize(work: Work, job: OptimizeSignature) -> Outcome:
    """Compiles the program, measures it before and after, and gives it back to be kept."""
    signature = work.recipe.signature
    training = job.training_data.read(signature)
    validation = training if job.validation_data is None else job.validation_data.read(signature)
    work.dataset = dataset_sha256(training)
    work.learn(training)
    scorer = work.scorer()
    config = work.config
    search = Search(
        config=config,
        trainset=[work.example(item) for item in training],
        valset=[work.example(item) for item in validation],
        scorer=scorer,
        guard=work.guard,
        task_lm=work.task_lm,
        prompt_lm=work.lm_or_task(config.prompt_lm, "payload.config.prompt_lm"),
        teacher_lm=work.lm_or_task(config.teacher_lm, "payload.config.teacher_lm"),
        threads=work.threads,
    )
    student = work.start.build()
    before = mean_score(work.runner.evaluate(student, validation, scorer, "baseline"))
    work.score_before = before
    work.guard.candidate(before, student.dump_state)
    work.found = _compile(work, search)
    # Rebuilt from what is kept, so that the score is that of the program the host gets.
    compiled = work.found.build()
    after = mean_score(work.runner.evaluate(compiled, validation, scorer, "evaluating"))
    work.guard.candidate(after, compiled.dump_state)
    work.guard.enter("finishing")
    return _optimized(work, work.found, before, after)


def _compile(work: Work, search: Search) -> Artifact:
    try:
        compiled = search.compile(work.start.build())
    except BridgeError:
        raise
    except ImportError as error:
        raise MissingPackage(f"{error}; install it with: pip install 'erlbridge[optimizers]'") from error
    except Exception as error:
        work.guard.check_alive()  # a dead endpoint is why; DSPy says "Execution cancelled due to errors"
        raise OptimizationError(
            f"{work.config.optimizer} failed: {type(error).__name__}: {error}", traceback=traceback_text(error)
        ) from error
    work.guard.check_alive()
    return capture(work.recipe, compiled.dump_state())


def _optimized(work: Work, artifact: Artifact, before: float, after: float) -> Outcome:
    spent = work.guard.spent()
    term = work.envelope(artifact, after)
    program_id, data = pack(term)
    config = work.config
    metrics = {
        "score_before": before,
        "score_after": after,
        "trials": work.guard.trials,
        **spent,
        "duration_ms": work.duration_ms,
        "cached": False,
        "seed": config.seed,
        # Every optimizer draws from seeded generators only, so the models and the metric decide.
        "repeatable": all(lm.offline for lm in config.lms) and config.metric.function is None,
    }
    result = {
        "status": atom("success"),
        "program_id": program_id,
        "program": term,
        **optimized(artifact, work.spelling),
        "optimization_metrics": atom_keys(metrics),
        "warnings": work.warnings,
    }
    return Outcome(atom_keys(result), program_id, data)
