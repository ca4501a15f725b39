"""What the verbs share while one job runs: its settings, program, models, guard and spelling. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import dspy  # type: ignore[import-untyped]

from erlbridge.core.configs import Config
from erlbridge.core.functions import Function
from erlbridge.core.jobs import GivenProgram, Source, StoredProgram
from erlbridge.core.lms import LM
from erlbridge.core.signatures import Signature
from erlbridge.core.spelling import Spelling
from erlbridge.errors import BridgeError, InternalError, NotFound, ValidationError
from erlbridge.programs.artifacts import Artifact, capture, envelope, read_envelope, unpack
from erlbridge.programs.evaluation import Answer, Runner
from erlbridge.programs.failures import Secrets
from erlbridge.programs.guard import Guard
from erlbridge.programs.host import HostFunction
from erlbridge.programs.host_lm import build_host_lm
from erlbridge.programs.host_metric import HostMetric
from erlbridge.programs.metrics import Scorer
from erlbridge.programs.models import BridgeLM, build_lm
from erlbridge.programs.modules import Recipe, recipe
from erlbridge.wire.vocabulary import atom_keys

THREADS: Final = 8
"""Examples that run at once when the request does not say: a model call is waiting. The offline LM computes, under one
lock of the interpreter, and runs one at a time unless it is paced."""


def resolve(source: Source, config: Config, programs: Mapping[str, bytes]) -> Artifact:
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
    lms: list[BridgeLM] = field(default_factory=list)
    task_lm: BridgeLM = field(init=False)

    def __post_init__(self) -> None:
        self.task_lm = self.lm(self.config.lm, "payload.config.lm")

    def close(self) -> None:
        """Closes the models' connections; after a stop they are left to the calls that are still in flight."""
        if self.guard.reason is None:
            for lm in self.lms:
                lm.close()

    @property
    def recipe(self) -> Recipe:
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
        fields = [output.name for output in self.recipe.signature.output_fields]
        wanted = self.config.metric.field
        if wanted is not None and wanted not in fields:
            # A stored program's signature is known only here.
            raise ValidationError(
                f"expected one of the output fields {', '.join(fields)}, got {wanted}", "payload.config.metric.field"
            )
        threshold = self.config.options.get("metric_threshold")
        function = self.config.metric.function
        return Scorer(
            self.config.metric,
            fields,
            self.guard,
            float(threshold) if isinstance(threshold, int | float) else None,
            None if function is None else HostMetric(self.host(function), self.spelling),
        )

    def example(self, values: Mapping[str, object]) -> Any:
        """Field values as DSPy takes them."""
        return dspy.Example(dict(values)).with_inputs(*(given.name for given in self.recipe.inputs))

    def fields(self, answer: Answer) -> dict[object, object] | None:
        """A prediction in the host's spelling."""
        return None if answer.prediction is None else self.spelling.fields(answer.prediction)

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
        reason.context.setdefault("lm_calls", self.guard.lm_calls)
        reason.context.setdefault("failed_calls", self.guard.failed_calls)
        score, state = self.guard.course.best_score, self.guard.course.best_state
        artifact = None if state is None else capture(self.recipe, state)
        if self.found is not None and self.guard.trials == 0:
            score, artifact = None, self.found  # compiled and paid for, but not measured yet
        if artifact is not None:
            reason.context["best_score"] = score
            reason.context["best_program"] = self.envelope(artifact, score)
        return reason
