"""The verb `optimize_signature`: baseline, compile, measurement, result. Knows their order and the result's shape."""

from __future__ import annotations

from typing import Any

from erlbridge.core.jobs import OptimizeSignature, Outcome
from erlbridge.errors import BridgeError, MissingPackage, OptimizationError, ValidationError
from erlbridge.programs.artifacts import Artifact, capture_found, dataset_sha256, pack
from erlbridge.programs.evaluation import mean_score
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.optimizers import Found, Search, check, compile_program
from erlbridge.programs.signatures import signature_term
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys


def optimize(work: Work, job: OptimizeSignature) -> Outcome:
    """Compiles the program, measures it before and after, and gives it back to be kept."""
    signature = work.recipe.signature
    training = job.training_data.read(signature)
    validation = training if job.validation_data is None else job.validation_data.read(signature)
    work.dataset = dataset_sha256(training)
    scorer = work.scorer()
    config = work.config
    if work.start.assembled:
        raise ValidationError(
            "expected a single program to go on from, got an ensemble or a nearest-neighbour program",
            "payload.signature",
        )
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
        members=[member.build().dump_state() for member in work.members()],
    )
    check(search)
    student = work.start.build()
    before = mean_score(work.runner.evaluate(student, validation, scorer, "baseline"))
    work.score_before = before
    work.guard.candidate(before, student.dump_state)
    found = find(work, search)
    work.found = capture_found(work.recipe, found)
    compiled = rebuilt(work.found, found)
    after = mean_score(work.runner.evaluate(compiled, validation, scorer, "evaluating"))
    if not work.found.assembled:
        work.guard.candidate(after, compiled.dump_state)
    work.guard.enter("finishing")
    return _optimized(work, work.found, before, after, found)


def rebuilt(artifact: Artifact, found: Found) -> Any:
    """The program from what is kept of it, so that a score is that of the program the host gets."""
    compiled = artifact.build()
    for predictor, lm in zip(compiled.predictors(), found.lms, strict=bool(found.lms)):
        predictor.lm = lm  # what is kept names no model; the trained one is the host's to name from now on
    return compiled


def named_models(found: Found) -> dict[str, object]:
    """The models that were trained, for the result: one name, or one for each predictor."""
    models = [lm.model for lm in found.lms]
    return {"model": models[0] if len(set(models)) == 1 else models} if models else {}


def kept_models(work: Work, found: Found) -> dict[str, bytes]:
    """Those of them that are kept here, by name."""
    trained = {lm.model: work.trained().get(lm.model) for lm in found.lms}
    return {name: one.content for name, one in trained.items() if one is not None and one.content is not None}


def find(work: Work, search: Search) -> Found:
    """What the optimizer finds. Raises the bridge's errors, and the guard's `Stop`."""
    try:
        found = compile_program(search, work.start.build())
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
    return found


def _optimized(work: Work, artifact: Artifact, before: float, after: float, found: Found) -> Outcome:
    spent = work.guard.spent()
    term = work.envelope(artifact, after)
    program_id, data = pack(term)
    config = work.config
    lms = [lm for lm in (config.lm, config.prompt_lm, config.teacher_lm) if lm is not None]
    metrics = {
        "score_before": before,
        "score_after": after,
        "trials": work.guard.trials,
        **spent,
        "duration_ms": work.duration_ms,
        "cached": False,
        "seed": config.seed,
        # Every optimizer here draws from seeded generators only, so the models and the metric decide.
        "repeatable": all(lm.offline for lm in lms) and config.metric.function is None,
    }
    shown = signature_term(artifact.signature, work.spelling.key)
    shown |= atom_keys({"demos": [work.spelling.fields(demo) for demo in artifact.demos]})
    result = {
        "status": atom("success"),
        "program_id": program_id,
        "program": term,
        "optimized_signature": shown,
        "optimization_metrics": atom_keys(metrics),
    }
    result |= named_models(found)
    return Outcome(atom_keys(result), program_id, data, kept_models(work, found))
