"""What the verbs share while one job runs: its settings, program, models, guard and spelling. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import dspy  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.core.examples import Examples
from erlbridge.core.functions import Function
from erlbridge.core.jobs import GivenEnsemble, GivenProgram, Source, StoredProgram
from erlbridge.core.lazy import Lazy
from erlbridge.core.lms import LM
from erlbridge.core.metrics import Metric
from erlbridge.core.pipelines import Pipeline
from erlbridge.core.signatures import Signature, check_signature
from erlbridge.core.spelling import Spelling
from erlbridge.errors import BridgeError, InternalError, NotFound, ValidationError
from erlbridge.programs.artifacts import Artifact, capture, fresh, joined
from erlbridge.programs.dataset_sum import DatasetSum
from erlbridge.programs.ensembles import require_fields
from erlbridge.programs.envelopes import envelope, read_envelope, unpack
from erlbridge.programs.evaluation import Answer, Runner
from erlbridge.programs.failures import Secrets
from erlbridge.programs.guard import Guard
from erlbridge.programs.host import HostFunction
from erlbridge.programs.host_lm import build_host_lm
from erlbridge.programs.host_metric import HostMetric
from erlbridge.programs.judgements import Judge
from erlbridge.programs.lm_judge import LMJudge
from erlbridge.programs.metrics import Comparison, Scorer, Weighted
from erlbridge.programs.models import BridgeLM, build_lm
from erlbridge.programs.modules import Blueprint, recipe, require
from erlbridge.programs.pipelines import PipelineRecipe
from erlbridge.programs.providers import equip
from erlbridge.programs.trainers import Trained
from erlbridge.wire.place import Place
from erlbridge.wire.vocabulary import atom_keys

THREADS: Final = 8
"""Examples that run at once when the request does not say: a model call is waiting. The offline LM computes, under one
lock of the interpreter, and runs one at a time unless it is paced."""

_READ_AT_ONCE: Final = 100
"""Examples of a dataset that are gone through between two looks at whether the job shall stop."""

_LAST_CALLS_S: Final = 0.1
"""How long the end of a job that is stopped waits for its calls, which are ended with it."""


def resolve(source: Source, config: Config, programs: Mapping[str, bytes]) -> Artifact:
    """The program that a job starts from. Raises `MissingPackage` when this machine lacks what it needs."""
    artifact = _resolve(source, config, programs)
    require(artifact.recipe)
    return artifact


def _resolve(source: Source, config: Config, programs: Mapping[str, bytes]) -> Artifact:
    match source:
        case Signature():
            check_signature(source, "payload.signature")
            return fresh(recipe(source, config.module, "payload.config.module"))
        case Pipeline():
            for index, step in enumerate(source.steps):
                check_signature(step.signature, f"payload.pipeline.steps[{index}].signature")
            return fresh(PipelineRecipe(source.with_module(config.module, "payload.pipeline")))
        case StoredProgram(id=program_id):
            if program_id not in programs:
                raise NotFound(f"no program {program_id} is stored here", context={"program_id": program_id})
            return unpack(program_id, programs[program_id])
        case GivenProgram(place=place):
            return read_envelope(place)
        case GivenEnsemble(members=members, reduce=reduce):
            found = [
                (f"payload.program.members[{i}]", _resolve(one, config, programs)) for i, one in enumerate(members)
            ]
            return joined(found, reduce)
        case _:
            assert_never(source)


@dataclass(slots=True)
class Work:
    """One job at work: what its steps share."""

    config: Config
    start: Artifact
    guard: Guard
    secrets: Secrets
    spelling: Spelling
    found: Artifact | None = None
    score_before: float | None = None
    dataset: str | None = None
    programs: Mapping[str, bytes] = field(default_factory=dict)
    lms: list[BridgeLM] = field(default_factory=list)
    task_lm: BridgeLM = field(init=False)

    def __post_init__(self) -> None:
        self.task_lm = self.lm(self.config.lm, "payload.config.lm")

    def close(self) -> None:
        """Closes the models' connections. A call that a stop has not ended keeps its own."""
        remote = any(lm.remote for lm in self.config.lms)
        if self.guard.reason is None or (remote and self.guard.calls_end(_LAST_CALLS_S)):
            for lm in self.lms:
                lm.close()

    @property
    def recipe(self) -> Blueprint:
        """What the job's programs are built from."""
        return self.start.recipe

    @property
    def threads(self) -> int:
        """How many examples run at once."""
        lm = self.config.lm
        computes = lm.offline and not lm.latency_s and self.config.metric.function is None
        return self.config.num_threads or (1 if computes else THREADS)

    @property
    def runner(self) -> Runner:
        """Runs programs on many inputs."""
        return Runner(self.recipe, self.guard, self.secrets, self.threads)

    @property
    def duration_ms(self) -> int:
        """Milliseconds since the job began."""
        return round(self.guard.elapsed_s * 1000)

    def lm(self, lm: LM, path: str) -> BridgeLM:
        """A model of the job, closed with it."""
        if lm.function is not None:
            built: BridgeLM = build_host_lm(lm, self.host(lm.function), self.secrets)
        else:
            built = build_lm(lm, cache=self.config.cache, guard=self.guard, secrets=self.secrets, path=path)
        equip(built, lm, self.guard, self.programs)
        self.lms.append(built)
        return built

    def lm_or_task(self, lm: LM | None, path: str) -> BridgeLM:
        """The model that a request names for a part of its own, or the one that does everything."""
        return self.task_lm if lm is None else self.lm(lm, path)

    def host(self, function: Function) -> HostFunction:
        """An Elixir function that the request names."""
        return HostFunction(function, self.guard, self.config.call_timeout_ms)

    def scorer(self) -> Scorer:
        """The job's metric. Raises `ValidationError` when its field is none of the program's outputs."""
        metric, path = self.config.metric, "payload.config.metric"
        threshold = self.config.options.get("metric_threshold")
        return Scorer(
            metric,
            self._judge(metric, path),
            self._outputs,
            self.guard,
            float(threshold) if isinstance(threshold, int | float) else None,
        )

    @property
    def _outputs(self) -> list[str]:
        return [output.name for output in self.recipe.signature.output_fields]

    def _judge(self, metric: Metric, path: str) -> Judge:
        if metric.field is not None and metric.field not in self._outputs:
            # A stored program's signature is known only here.
            raise ValidationError(
                f"expected one of the output fields {', '.join(self._outputs)}, got {metric.field}", f"{path}.field"
            )
        if metric.function is not None:
            return HostMetric(self.host(metric.function), self.spelling)
        if metric.parts:
            parts = enumerate(metric.parts)
            return Weighted([(weight, self._judge(part, f"{path}.parts[{index}]")) for index, (weight, part) in parts])
        if metric.name == "judge":
            fields = self._outputs if metric.field is None else [metric.field]
            inputs = [given.name for given in self.recipe.inputs]
            return LMJudge(metric.rubric, self.lm_or_task(metric.lm, f"{path}.lm"), inputs, fields)
        return Comparison(metric, self._outputs)

    def read(self, data: Examples, *, learned: bool = False) -> Sequence[Mapping[str, object]]:
        """The examples, each of them right: who asks for any later finds no mistake that has been paid for. Those of a
        dataset are gone through once, and read again whenever they are asked for.

        Args:
            learned: Whether they are what the job learns from, whose name the program will hold.
        """
        found = data.read(self.recipe.signature)
        summed = DatasetSum(len(found)) if learned else None
        if data.stored:
            self.guard.progress.enter("reading", len(found))
            self._go_through(found, summed)
        elif summed is not None:
            for item in found:
                summed.add(item)
        self.dataset = self.dataset if summed is None else summed.hexdigest()
        return found

    def _go_through(self, found: Sequence[Mapping[str, object]], summed: DatasetSum | None) -> None:
        for number, item in enumerate(found, 1):
            if summed is not None:
                summed.add(item)
            if number % _READ_AT_ONCE == 0 or number == len(found):
                self.guard.check()
                self.guard.progress.passed(number)

    def examples(self, values: Sequence[Mapping[str, object]]) -> Sequence[Any]:
        """Field values as DSPy takes them: of a list another list, of a dataset each when it is asked for."""
        return values.mapped(self.example) if isinstance(values, Lazy) else [self.example(item) for item in values]

    def example(self, values: Mapping[str, object]) -> Any:
        """Field values as DSPy takes them."""
        return dspy.Example(dict(values)).with_inputs(*(given.name for given in self.recipe.inputs))

    def voters(self) -> list[tuple[str, Artifact]]:
        """The programs that `options.programs` names, each with its path."""
        given = self.config.options.get("programs", ())
        assert isinstance(given, tuple)  # noqa: S101 - `core.options` has read them
        return [(f"payload.config.options.programs[{index}]", self._beside(item)) for index, item in enumerate(given)]

    def teacher(self, given: str | Place, path: str) -> Artifact:
        """The program whose answers are learned. Raises `ValidationError` for one built in another way."""
        found = self._beside(given)
        require_fields(path, found.recipe.signature, self.recipe.signature, "the program that is trained")
        names, wanted = ([name for name, _ in made.build().named_predictors()] for made in (found.recipe, self.recipe))
        if names != wanted:
            raise ValidationError("expected a program with the steps and modules of the one that is trained", path)
        return found

    def _beside(self, given: str | Place) -> Artifact:
        """A program that the request names beside the job's own, by its id or as an envelope."""
        source = StoredProgram(given) if isinstance(given, str) else GivenProgram(given)
        return resolve(source, self.config, self.programs)

    def trained(self) -> dict[str, Trained]:
        """The models that trainings of this job gave, by name."""
        return {name: one for lm in self.lms for name, one in getattr(lm.provider, "trained", {}).items()}

    def fields(self, answer: Answer) -> dict[object, object] | None:
        """A prediction in the host's spelling."""
        return None if answer.prediction is None else self.spelling.fields(answer.prediction)

    def learn(self, examples: Sequence[Mapping[str, object]]) -> None:
        """Gives the training data to the modules that answer by it."""
        self.start = self.start.learned(examples)

    @property
    def warnings(self) -> list[str]:
        """What the host should know about how its request was understood."""
        return list(dict.fromkeys(self.start.warnings))

    def metrics(self) -> dict[object, object]:
        """What the job has spent, for its result."""
        return atom_keys({**self.guard.spent(), "duration_ms": self.duration_ms})

    def envelope(self, artifact: Artifact, score: float | None) -> dict[object, object]:
        """A program as it goes to the host and into the store."""
        return envelope(
            artifact,
            config=self.config,
            scores={"score_before": self.score_before, "score_after": score},
            usage=self.guard.spent(),
            dataset=self.dataset,
        )

    def stopped(self) -> BridgeError:
        """Why the guard stopped the job, with what it has found and spent until then."""
        reason = self.guard.reason or InternalError("the job was stopped without a reason")
        if models := [one.model for one in self.trained().values() if one.content is None]:
            reason.context["trained_models"] = models  # paid for, and there at the endpoint
        score, state = self.guard.progress.course.best_score, self.guard.progress.course.best_state
        artifact = None if state is None else capture(self.recipe, state)
        if self.found is not None and (self.guard.progress.trials == 0 or self.found.recipe != self.recipe):
            score, artifact = None, self.found  # compiled and paid for, but not measured yet
        if artifact is not None:
            reason.context["best_score"] = score
            reason.context["best_program"] = self.envelope(artifact, score)
        return reason
