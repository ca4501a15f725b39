"""What a worker is asked to do: a verb's payload, read and checked. Node and worker meet here.

The node reads a payload to refuse what is wrong before it costs anything; the worker reads the same payload again to
run it. Knows payloads as values; knows no DSPy, no process and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from erlbridge.codec import Atom
from erlbridge.core.configs import DEFAULT_OPTIMIZER, Config, parse_config
from erlbridge.core.ensembles import parse_members, parse_reduction
from erlbridge.core.examples import Examples
from erlbridge.core.modules import check_module
from erlbridge.core.pipelines import Pipeline, parse_pipeline
from erlbridge.core.requests import read_program_id
from erlbridge.core.signatures import Signature, parse_signature
from erlbridge.core.training import OPTIMIZER, TRAINING_KEYS, TrainModel, parse_training
from erlbridge.core.workflow_jobs import LoadWorkflow, RunPipeline, parse_load, parse_run
from erlbridge.errors import BridgeError, UnknownVerb, ValidationError
from erlbridge.wire.place import Place, given


@dataclass(frozen=True, slots=True)
class StoredProgram:
    """A program that the node keeps under this id."""

    id: str


@dataclass(frozen=True, slots=True)
class GivenProgram:
    """A program that the host sent along, as the envelope that it once got; not trusted, not read yet."""

    place: Place


@dataclass(frozen=True, slots=True)
class GivenEnsemble:
    """Several programs that answer together; `reduce` is one of `ensembles.REDUCTIONS`."""

    members: tuple[StoredProgram | GivenProgram, ...]
    reduce: str


Source: TypeAlias = Signature | Pipeline | StoredProgram | GivenProgram | GivenEnsemble
"""Where a job's program comes from."""


@dataclass(frozen=True, slots=True)
class OptimizeSignature:
    """Compile a program for a signature or a pipeline (or a stored program, to go on from it)."""

    source: Source
    training_data: Examples
    validation_data: Examples | None
    config: Config


@dataclass(frozen=True, slots=True)
class EvaluatePipeline:
    """Score a program on labelled examples."""

    source: Source
    data: Examples
    config: Config


@dataclass(frozen=True, slots=True)
class Predict:
    """Run a program on one input map, or on a list of them (`batch`), read in the worker like examples.

    With `stream`, which only one input may have, the text outputs are told while the model writes them.
    """

    source: Source
    place: Place
    batch: bool
    config: Config
    stream: bool = False

    @property
    def inputs(self) -> Iterator[Place]:
        """Each input map."""
        return self.place.items() if self.batch else iter((self.place,))


@dataclass(frozen=True, slots=True)
class PutProgram:
    """Check a program that the host sent, and give it to the node to keep."""

    place: Place


ModelJob: TypeAlias = OptimizeSignature | EvaluatePipeline | Predict | TrainModel
"""What runs a program with a model."""

Job: TypeAlias = ModelJob | PutProgram | LoadWorkflow | RunPipeline


def parse_job(verb: str, payload: object) -> Job:
    """The job that a verb's payload asks for. Raises `ValidationError` with the path, or `UnknownVerb`."""
    if verb not in _PARSERS:
        raise UnknownVerb(f"unknown verb `{verb[:60]}`; known to workers are {', '.join(sorted(_PARSERS))}")
    return _PARSERS[verb](Place(payload, "payload"))


def _parse_optimize(place: Place) -> OptimizeSignature:
    entries = place.only(("signature", "pipeline", "program", "training_data", "validation_data", "config"))
    source = _source(entries, place)
    training, validation = _data(entries, place)
    count = len(training if validation is None else validation)
    config = _config(entries, place, count, source, len(training))
    return OptimizeSignature(source, training, validation, config)


def _parse_evaluate(place: Place) -> EvaluatePipeline:
    entries = place.only(("program", "signature", "pipeline", "data", "metric", "config"))
    source = _source(entries, place)
    data = Examples.at(place.required(entries, "data"))
    return EvaluatePipeline(source, data, _config(entries, place, len(data), source))


def _parse_predict(place: Place) -> Predict:
    entries = place.only(("program", "signature", "pipeline", "input", "inputs", "stream", "config"))
    source = _source(entries, place)
    if ("input" in entries) == ("inputs" in entries):
        raise ValidationError("expected either `input`, one map, or `inputs`, a list of maps", place.path)
    batch = "inputs" in entries
    inputs = entries["inputs"] if batch else entries["input"]
    if batch and not inputs.elements():
        raise inputs.refused("a list of at least one map")
    if not batch:
        inputs.entries()
    stream = given(entries, "stream") and entries["stream"].boolean()
    if stream and batch:
        raise entries["stream"].refused("false beside `inputs`; what is streamed is one `input`")
    return Predict(source, inputs, batch, _config(entries, place, 1, source), stream)


def _parse_put(place: Place) -> PutProgram:
    program = place.required(place.only(("program",)), "program")
    if not isinstance(program.term, Mapping):
        raise program.refused("a program as the node once gave it, a map")
    return PutProgram(program)


def _parse_train(place: Place) -> TrainModel:
    entries = place.only(TRAINING_KEYS)
    source = _source(entries, place)
    training, validation = _data(entries, place)
    count = len(training if validation is None else validation)
    config = _config(entries, place, count, source, len(training), default=OPTIMIZER)
    return parse_training(entries, source, training, validation, config)


_PARSERS: Final[Mapping[str, Callable[[Place], Job]]] = {
    "optimize_signature": _parse_optimize,
    "evaluate_pipeline": _parse_evaluate,
    "predict": _parse_predict,
    "train_model": _parse_train,
    "put_program": _parse_put,
    "load_workflow": parse_load,
    "run_pipeline": parse_run,
}


def _data(entries: dict[str, Place], place: Place) -> tuple[Examples, Examples | None]:
    """What is learned from, and what is scored on if it is given."""
    training = Examples.at(place.required(entries, "training_data"))
    return training, Examples.at(entries["validation_data"]) if given(entries, "validation_data") else None


def _config(
    entries: dict[str, Place],
    parent: Place,
    count: int,
    source: Source,
    training: int | None = None,
    *,
    default: str = DEFAULT_OPTIMIZER,
) -> Config:
    known = source.interface if isinstance(source, Pipeline) else source
    outputs = [output.name for output in known.output_fields] if isinstance(known, Signature) else None
    place = parent.required(entries, "config")
    config = parse_config(
        place, entries.get("metric"), count=count, outputs=outputs, training=training, default=default
    )
    if isinstance(source, Pipeline):
        source.with_module(config.module, f"{parent.path}.pipeline")
    elif isinstance(source, Signature):
        check_module(config.module, source, f"{parent.path}.config.module")
    return config


WORKER_VERBS: Final = frozenset(_PARSERS)
"""The verbs that run in a worker; the node answers the others itself."""


def stored_programs(job: Job) -> tuple[str, ...]:
    """The names of what a job needs of the store beside its payload: its own program, its teacher, the members of an
    ensemble, and the offline models that were trained."""
    match job:
        case PutProgram() | LoadWorkflow():
            return ()
        case RunPipeline():
            named = list(job.programs.values())
        case _:
            sources = job.source.members if isinstance(job.source, GivenEnsemble) else (job.source,)
            named = [source.id for source in sources if isinstance(source, StoredProgram)]
    voters = job.config.options.get("programs", ())
    assert isinstance(voters, tuple)  # noqa: S101 - `core.options` has read them
    beside = (job.teacher, *voters) if isinstance(job, TrainModel) else voters
    models = (lm.model for lm in job.config.lms if lm.trained)
    return tuple(dict.fromkeys((*named, *(one for one in beside if isinstance(one, str)), *models)))


def endpoints(job: Job) -> tuple[str, ...]:
    """Who is asked by the models of a job's config, each named once, as `LM.limited_as` names it. Models that only a
    workflow's own text names are not known to the node."""
    match job:
        case PutProgram() | LoadWorkflow():
            return ()
        case _:
            return tuple(dict.fromkeys(lm.limited_as for lm in job.config.lms))


def _source(entries: dict[str, Place], place: Place) -> Source:
    named = [key for key in ("signature", "pipeline", "program") if key in entries]
    if len(named) != 1:
        raise ValidationError("expected one of `signature`, `pipeline` and `program`", place.path)
    found = entries[named[0]]
    match named[0]:
        case "pipeline":
            return parse_pipeline(found)
        case "program":
            return _parse_program(found)
        case _ if isinstance(found.term, bytes | str) and "->" not in found.text():
            return StoredProgram(read_program_id(found))
        case _:
            return parse_signature(found)


def _parse_program(place: Place) -> StoredProgram | GivenProgram | GivenEnsemble:
    if not isinstance(place.term, Mapping):
        return StoredProgram(read_program_id(place))
    entries = place.entries()
    if "members" not in entries or "format" in entries:
        return GivenProgram(place)
    place.only(("members", "reduce"))
    members = tuple(
        GivenProgram(member) if isinstance(member.term, Mapping) else StoredProgram(read_program_id(member))
        for member in parse_members(entries["members"])
    )
    return GivenEnsemble(members, parse_reduction(entries))


# -- what a running job says to its worker -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `stage` is one of `vocabulary.STAGES`; `done` of `total` counts the stage's steps."""

    stage: str
    done: int = 0
    total: int | None = None
    score: float | None = None
    best_score: float | None = None
    lm_calls: int = 0
    cost_usd: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of an output's text, in the host's spelling of the field; empty at most when it is the last."""

    field: Atom | bytes
    text: str
    is_last: bool


class Pending(Protocol):
    """A value that is on its way."""

    def result(self, timeout: float | None = None) -> object:
        """Waits for the value, at most so many seconds. Raises `TimeoutError`, or the error that came instead."""


class Observer(Protocol):
    """What a job may tell and ask while it runs. Every method is cheap and safe from any thread."""

    def progress(self, state: Progress) -> None:
        """Tells how far the job is; may be called as often as anything happens."""

    def chunk(self, piece: Chunk) -> None:
        """Tells a piece of an output; in order, and none is left out."""

    def keep(self, program_id: str, program: bytes) -> None:
        """Has the node keep a program at once, whatever becomes of the job."""

    def stop_reason(self) -> BridgeError | None:
        """Why the job shall stop at its next model call, or None to go on."""

    def call(self, name: Atom | bytes, arguments: list[object], timeout_ms: int | None) -> Pending:
        """Has the host call an Elixir function. What comes raises `CallbackFailed` for the function's own failure,
        and another `BridgeError` when the job is being stopped or too many calls are open."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job gave: the result term for the host; a program to keep, as id and bytes; trained models, by name; the
    report on how the program came to be, as it is kept."""

    result: object
    program_id: str | None = None
    program: bytes | None = None
    models: Mapping[str, bytes] = field(default_factory=dict)
    report: bytes | None = None
