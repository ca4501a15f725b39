"""The verb `train_model`: answers of a teacher, a training at the model's provider, measurement, result.

Knows their order and the result's shape. BootstrapFinetune (`optimizers.weights`) gathers the answers and starts the
training; the model's provider (`providers`) carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from erlbridge.core.jobs import Outcome
from erlbridge.core.training import TrainModel
from erlbridge.programs.envelopes import pack
from erlbridge.programs.evaluation import mean
from erlbridge.programs.optimizers import Search, check
from erlbridge.programs.optimizing import find, kept_models, named_models, rebuilt
from erlbridge.programs.trainers import Trained
from erlbridge.programs.work import Work
from erlbridge.wire.vocabulary import atom, atom_keys


def train(work: Work, job: TrainModel) -> Outcome:
    """Trains the program's model, and gives the model's name beside the program to be kept."""
    config = work.config
    training = work.read(job.training_data, learned=True)
    validation: Sequence[Mapping[str, object]] = [] if job.validation_data is None else work.read(job.validation_data)
    work.learn(training)
    scorer = work.scorer()
    search = Search(
        config=config,
        trainset=work.examples(training),
        valset=work.examples(validation),
        scorer=scorer,
        guard=work.guard,
        task_lm=work.task_lm,
        prompt_lm=work.task_lm,
        teacher_lm=work.lm_or_task(config.teacher_lm, "payload.config.teacher_lm"),
        threads=work.threads,
        teacher=None if job.teacher is None else work.teacher(job.teacher, "payload.teacher").build(),
    )
    check(search)
    student = work.start.build()
    if validation:
        work.score_before = mean(work.runner.score(student, validation, scorer, "baseline"))
        work.guard.progress.candidate(work.score_before, student.dump_state)
    work.found, lms = find(work, search, (), training)
    after = None
    if validation:
        after = mean(work.runner.score(rebuilt(work.found, lms), validation, scorer, "evaluating"))
    work.guard.progress.enter("finishing")
    term = work.envelope(work.found, after)
    program_id, data = pack(term)
    result = {
        "status": atom("success"),
        **named_models(lms),
        "program_id": program_id,
        "program": term,
        "metrics": _metrics(work, len(training), after, [*work.trained().values()]),
        "warnings": work.warnings,
    }
    return Outcome(atom_keys(result), program_id, data, kept_models(work, lms))


def _metrics(work: Work, examples: int, after: float | None, trainings: list[Trained]) -> dict[object, object]:
    tokens = [one.tokens for one in trainings if one.tokens is not None]
    return atom_keys(
        {
            "score_before": work.score_before,
            "score_after": after,
            "training_examples": examples,
            "trained_examples": sum(one.examples for one in trainings),
            "trained_tokens": sum(tokens) if tokens else None,
            **work.guard.spent(),
            "duration_ms": work.duration_ms,
            "seed": work.config.seed,
        }
    )
