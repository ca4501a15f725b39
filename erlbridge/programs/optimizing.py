"""The verb `optimize_signature`: baseline, compile, measurement, result. Knows their order and the result's shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from erlbridge.core.jobs import OptimizeSignature, Outcome
from erlbridge.core.modules import INNER, Module
from erlbridge.errors import BridgeError, MissingPackage, OptimizationError, ValidationError
from erlbridge.programs.artifacts import Artifact, capture, joined
from erlbridge.programs.ensembles import EnsembleRecipe, ensemble_recipe
from erlbridge.programs.envelopes import pack
from erlbridge.programs.evaluation import mean
from erlbridge.programs.failures import traceback_text
from erlbridge.programs.modules import Blueprint, Recipe
from erlbridge.programs.optimizers import Found, Search, check, compile_program
from erlbridge.programs.reporting import Reporting, reported
from erlbridge.programs.showing import optimized
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys

_MAJORITY: Final = "majority"
"""How the programs of an ensemble that an optimizer made agree."""

_Voters: TypeAlias = Sequence[tuple[str, Artifact]]


def optimize(work: Work, job: OptimizeSignature) -> Outcome:
    """Compiles the program, measures it before and after, and gives it back to be kept."""
    training = work.read(job.training_data, learned=True)
    validation = training if job.validation_data is None else work.read(job.validation_data)
    work.learn(training)
    scorer = work.scorer()
    config = work.config
    search = Search(
        config=config,
        trainset=work.examples(training),
        valset=work.examples(validation),
        scorer=scorer,
        guard=work.guard,
        task_lm=work.task_lm,
        prompt_lm=work.lm_or_task(config.prompt_lm, "payload.config.prompt_lm"),
        teacher_lm=work.lm_or_task(config.teacher_lm, "payload.config.teacher_lm"),
        threads=work.threads,
    )
    voters = work.voters()
    _check(work, search, voters)
    student = work.start.build()
    reporting = Reporting(work) if config.report else None
    score = work.runner.score if reporting is None else reporting.score
    before = mean(score(student, validation, scorer, "baseline"))
    work.score_before = before
    work.guard.progress.candidate(before, student.dump_state)
    work.found, lms = find(work, search, voters, training)
    compiled = rebuilt(work.found, lms)
    after = mean(score(compiled, validation, scorer, "evaluating"))
    if work.found.recipe == work.recipe:
        work.guard.progress.candidate(after, compiled.dump_state)
    work.guard.progress.enter("finishing")
    outcome = _optimized(work, work.found, before, after, lms)
    return outcome if reporting is None else reported(outcome, lambda: reporting.record(student, compiled, validation))


def _check(work: Work, search: Search, voters: _Voters) -> None:
    """Raises what keeps the optimizer from running here, before anything is spent."""
    check(search)
    if work.config.optimizer == "knn_few_shot":
        _require_one_answer(work.recipe)
    if work.config.optimizer == "ensemble" and isinstance(work.recipe, EnsembleRecipe):
        raise ValidationError("an ensemble cannot be a member of one", "payload.config.optimizer")
    if voters:
        ensemble_recipe([("payload", work.recipe), *((path, member.recipe) for path, member in voters)], _MAJORITY)


def find(
    work: Work, search: Search, voters: _Voters, training: Sequence[Mapping[str, object]]
) -> tuple[Artifact, Sequence[Any]]:
    """What the optimizer found, as it is kept, and the models that it trained, one for each predictor.

    Raises the bridge's errors, and the guard's `Stop`.
    """
    if voters:
        return joined(voters, _MAJORITY), ()
    found = _compile(work, search)
    if len(found.voters) > 1:
        states = enumerate(found.voters)
        return joined([(f"candidate {number}", capture(work.recipe, state)) for number, state in states], _MAJORITY), ()
    if found.neighbours is not None:
        return _by_neighbours(_require_one_answer(work.recipe), found.program, found.neighbours, training), ()
    return capture(work.recipe, found.program.dump_state()), found.lms


def _require_one_answer(made: Blueprint) -> Recipe:
    if isinstance(made, Recipe) and made.module.name in INNER:
        return made
    raise ValidationError(
        f"knn_few_shot needs a program of one step and the module {' or '.join(INNER)}", "payload.config.optimizer"
    )


def _by_neighbours(made: Recipe, program: Any, count: int, training: Sequence[Mapping[str, object]]) -> Artifact:
    """The program with the examples nearest to each input as demos, beside those that it has."""
    module = Module("knn", {"k": count, "module": made.module.name})
    nearest = replace(made, module=module, examples=tuple(training))
    built = nearest.build()
    for new, old in zip(built.predictors(), program.predictors(), strict=True):
        new.load_state(old.dump_state())
    return capture(nearest, built.dump_state())


def _compile(work: Work, search: Search) -> Found:
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


def rebuilt(artifact: Artifact, lms: Sequence[Any]) -> Any:
    """The program from what is kept of it, so that a score is that of the program the host gets."""
    compiled = artifact.build()
    for predictor, lm in zip(compiled.predictors(), lms, strict=bool(lms)):
        predictor.lm = lm  # what is kept names no model; the trained one is the host's to name from now on
    return compiled


def named_models(lms: Sequence[Any]) -> dict[str, object]:
    """The models that were trained, for the result: one name, or one for each predictor."""
    models = [lm.model for lm in lms]
    return {"model": models[0] if len(set(models)) == 1 else models} if models else {}


def kept_models(work: Work, lms: Sequence[Any]) -> dict[str, bytes]:
    """Those of them that are kept here, by name."""
    trained = {lm.model: work.trained().get(lm.model) for lm in lms}
    return {name: one.content for name, one in trained.items() if one is not None and one.content is not None}


def _optimized(work: Work, artifact: Artifact, before: float, after: float, lms: Sequence[Any]) -> Outcome:
    spent = work.guard.spent()
    term = work.envelope(artifact, after)
    program_id, data = pack(term)
    config = work.config
    metrics = {
        "score_before": before,
        "score_after": after,
        "trials": work.guard.progress.trials,
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
    result |= named_models(lms)
    return Outcome(atom_keys(result), program_id, data, kept_models(work, lms))
