"""Runs one job in this process: from a checked `Job` to its `Outcome`. The one door to DSPy.

Knows the order of things in a job and the shape of its result; the parts know the rest. Each job has its own models,
program, optimizer and guard, and its own `dspy.context`; nothing of DSPy is configured globally.
"""

from __future__ import annotations

import erlbridge.programs.environment  # noqa: F401 - before anything imports DSPy

# isort: split
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import dspy  # type: ignore[import-untyped]

from erlbridge.core import configs
from erlbridge.core.examples import read_inputs
from erlbridge.core.jobs import (
    EvaluatePipeline,
    GivenProgram,
    Job,
    Observer,
    OptimizeSignature,
    Outcome,
    Predict,
    Source,
    StoredProgram,
)
from erlbridge.core.signatures import Signature
from erlbridge.core.spelling import Spelling
from erlbridge.errors import (
    BridgeError,
    InternalError,
    LMFailed,
    MissingPackage,
    NotFound,
    OptimizationError,
    PythonRuntimeError,
    ValidationError,
)
from erlbridge.programs.artifacts import Artifact, capture, dataset_sha256, envelope, pack, read_envelope, unpack
from erlbridge.programs.evaluation import Answer, Runner, mean_score
from erlbridge.programs.failures import Secrets, lm_failed, traceback_text
from erlbridge.programs.guard import Guard, Stop
from erlbridge.programs.metrics import Scorer
from erlbridge.programs.models import BridgeLM, build_lm
from erlbridge.programs.modules import Recipe, recipe
from erlbridge.programs.optimizers import Search
from erlbridge.programs.signatures import signature_term
from erlbridge.wire.vocabulary import atom, atom_keys

THREADS: Final = 8
"""Examples that run at once when the request does not say: a model call is waiting. The offline LM computes, under one
lock of the interpreter, and runs one at a time unless it is paced."""


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
    secrets = Secrets.of_process(
        lm.api_key_env for lm in (job.config.lm, job.config.prompt_lm, job.config.teacher_lm) if lm
    )
    guard = Guard(observer, job.config.budget)
    try:
        work = _Work(job.config, _resolve(job.source, job.config, programs), guard, secrets, spelling)
        return work.run(job)
    except BridgeError as error:
        secrets.scrub(error)
        if isinstance(error, LMFailed):
            error.context["kind"] = atom(error.kind)  # a term from here on, as everything in a context
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


def _resolve(source: Source, config: configs.Config, programs: Mapping[str, bytes]) -> Artifact:
    """The program that a job starts from."""
    match source:
        case Signature():
            made = recipe(source, config.module, "payload.signature")
            return capture(made, made.build().dump_state())
        case StoredProgram(id=program_id):
            if program_id not in programs:
                raise NotFound(f"no program {program_id} is stored here", context={"program_id": program_id})
            return unpack(program_id, programs[program_id])
        case GivenProgram(place=place):
            return read_envelope(place)
        case _:
            assert_never(source)


@dataclass(slots=True)
class _Work:
    """One job at work: what its steps share."""

    config: configs.Config
    start: Artifact
    guard: Guard
    secrets: Secrets
    spelling: Spelling
    found: Artifact | None = None
    score_before: float | None = None
    dataset: str | None = None
    lms: list[BridgeLM] = field(default_factory=list)

    def run(self, job: Job) -> Outcome:
        task = self._lm(self.config.lm, "payload.config.lm")
        context = dspy.context(
            lm=task,
            callbacks=[self.guard],
            usage_tracker=self.guard,
            num_threads=self._threads,
            trace=None,  # the global trace would keep every call of the worker's life
            provide_traceback=False,
        )
        try:
            with context, closing(self):
                match job:
                    case OptimizeSignature():
                        return self._optimize(job, task)
                    case EvaluatePipeline():
                        return self._evaluate(job)
                    case Predict():
                        return self._predict(job)
                    case _:
                        assert_never(job)
        except Stop:
            raise self._stopped() from None

    # -- the verbs ------------------------------------------------------------------------------------------------

    def _optimize(self, job: OptimizeSignature, task: BridgeLM) -> Outcome:
        signature = self._recipe.signature
        training = job.training_data.read(signature)
        validation = training if job.validation_data is None else job.validation_data.read(signature)
        self.dataset = dataset_sha256(training)
        scorer = self._scorer()
        config = self.config
        search = Search(
            config=config,
            trainset=[self._example(item) for item in training],
            valset=[self._example(item) for item in validation],
            scorer=scorer,
            guard=self.guard,
            task_lm=task,
            prompt_lm=task if config.prompt_lm is None else self._lm(config.prompt_lm, "payload.config.prompt_lm"),
            teacher_lm=task if config.teacher_lm is None else self._lm(config.teacher_lm, "payload.config.teacher_lm"),
            threads=self._threads,
        )
        student = self.start.build()
        before = mean_score(self._runner.evaluate(student, validation, scorer, "baseline"))
        self.score_before = before
        self.guard.candidate(before, student.dump_state)
        self.found = self._compile(search)
        # Rebuilt from what is kept, so that the score is that of the program the host gets.
        compiled = self.found.build()
        after = mean_score(self._runner.evaluate(compiled, validation, scorer, "evaluating"))
        self.guard.candidate(after, compiled.dump_state)
        self.guard.enter("finishing")
        return self._optimized(self.found, before, after)

    def _compile(self, search: Search) -> Artifact:
        try:
            compiled = search.compile(self.start.build())
        except BridgeError:
            raise
        except ImportError as error:
            raise MissingPackage(f"{error}; install it with: pip install 'erlbridge[optimizers]'") from error
        except Exception as error:
            self.guard.check_alive()  # a dead endpoint is why; DSPy says "Execution cancelled due to errors"
            raise OptimizationError(
                f"{self.config.optimizer} failed: {type(error).__name__}: {error}", traceback=traceback_text(error)
            ) from error
        self.guard.check_alive()
        return capture(self._recipe, compiled.dump_state())

    def _optimized(self, artifact: Artifact, before: float, after: float) -> Outcome:
        spent = self.guard.spent()
        term = self._envelope(artifact, after)
        program_id, data = pack(term)
        config = self.config
        lms = [lm for lm in (config.lm, config.prompt_lm, config.teacher_lm) if lm is not None]
        metrics = {
            "score_before": before,
            "score_after": after,
            "trials": self.guard.trials,
            **spent,
            "duration_ms": self._duration_ms,
            "cached": False,
            "seed": config.seed,
            # Every optimizer draws from seeded generators only, so the model alone decides.
            "repeatable": all(lm.offline for lm in lms),
        }
        shown = signature_term(artifact.signature, self.spelling.key)
        shown |= atom_keys({"demos": [self.spelling.fields(demo) for demo in artifact.demos]})
        result = {
            "status": atom("success"),
            "program_id": program_id,
            "program": term,
            "optimized_signature": shown,
            "optimization_metrics": atom_keys(metrics),
        }
        return Outcome(atom_keys(result), program_id, data)

    def _evaluate(self, job: EvaluatePipeline) -> Outcome:
        examples = job.data.read(self._recipe.signature)
        answers = self._runner.evaluate(self.start.build(), examples, self._scorer(), "evaluating")
        self.guard.enter("finishing")
        results = [
            atom_keys(
                {
                    "example": self.spelling.fields(example),
                    "prediction": self._fields(answer),
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
            "metrics": self._metrics(),
        }
        return Outcome(atom_keys(result))

    def _predict(self, job: Predict) -> Outcome:
        inputs = [read_inputs(item, self._recipe.signature) for item in job.inputs]
        answers = self._runner.predict(self.start.build(), inputs)
        if not job.batch and answers[0].failure is not None:
            raise self._failed(answers[0].failure)
        self.guard.check_alive()
        self.guard.enter("finishing")
        result: dict[str, object] = {"status": atom("success"), "metrics": self._metrics()}
        if job.batch:
            result["predictions"] = [
                atom_keys({"prediction": self._fields(answer), "error": answer.error}) for answer in answers
            ]
        else:
            result["prediction"] = self._fields(answers[0])
        return Outcome(atom_keys(result))

    def close(self) -> None:
        """Closes the models' connections; after a stop they are left to the calls that are still in flight."""
        if self.guard.reason is None:
            for lm in self.lms:
                lm.close()

    # -- their parts ----------------------------------------------------------------------------------------------

    @property
    def _recipe(self) -> Recipe:
        return self.start.recipe

    @property
    def _threads(self) -> int:
        lm = self.config.lm
        return self.config.num_threads or (1 if lm.offline and not lm.latency_s else THREADS)

    @property
    def _runner(self) -> Runner:
        return Runner(self._recipe, self.guard, self.secrets, self._threads)

    @property
    def _duration_ms(self) -> int:
        return round(self.guard.elapsed_s * 1000)

    def _lm(self, lm: configs.LM, path: str) -> BridgeLM:
        built = build_lm(lm, cache=self.config.cache, guard=self.guard, secrets=self.secrets, path=path)
        self.lms.append(built)
        return built

    def _scorer(self) -> Scorer:
        fields = [output.name for output in self._recipe.signature.output_fields]
        wanted = self.config.metric.field
        if wanted is not None and wanted not in fields:
            # A stored program's signature is known only here.
            raise ValidationError(
                f"expected one of the output fields {', '.join(fields)}, got {wanted}", "payload.config.metric.field"
            )
        threshold = self.config.options.get("metric_threshold")
        return Scorer(
            self.config.metric, fields, self.guard, float(threshold) if isinstance(threshold, int | float) else None
        )

    def _example(self, values: Mapping[str, object]) -> Any:
        return dspy.Example(dict(values)).with_inputs(*(given.name for given in self._recipe.inputs))

    def _fields(self, answer: Answer) -> dict[object, object] | None:
        return None if answer.prediction is None else self.spelling.fields(answer.prediction)

    def _metrics(self) -> dict[object, object]:
        return atom_keys({**self.guard.spent(), "duration_ms": self._duration_ms})

    def _envelope(self, artifact: Artifact, score: float | None) -> dict[object, object]:
        return envelope(
            artifact,
            config=self.config,
            scores={"score_before": self.score_before, "score_after": score},
            usage=self.guard.spent(),
            dataset=self.dataset,
        )

    def _failed(self, error: Exception) -> Exception:
        """The error of a prediction that was the whole job."""
        if isinstance(error, BridgeError):
            return error
        if isinstance(error, dspy.LMError):
            return lm_failed(error, failed_calls=self.guard.failed_calls)
        if isinstance(error, dspy.AdapterParseError):
            return OptimizationError(f"the model's answer cannot be read: {error}", traceback=traceback_text(error))
        return error

    def _stopped(self) -> BridgeError:
        """Why the guard stopped the job, with what it has found and spent until then."""
        reason = self.guard.reason or InternalError("the job was stopped without a reason")
        reason.context.setdefault("lm_calls", self.guard.lm_calls)
        reason.context.setdefault("failed_calls", self.guard.failed_calls)
        score, state = self.guard.course.best_score, self.guard.course.best_state
        artifact = None if state is None else capture(self._recipe, state)
        if self.found is not None and self.guard.trials == 0:
            score, artifact = None, self.found  # compiled and paid for, but not measured yet
        if artifact is not None:
            reason.context["best_score"] = score
            reason.context["best_program"] = self._envelope(artifact, score)
        return reason
