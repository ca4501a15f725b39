"""The programs of one step: a signature and the module that answers it.

Knows how a recipe becomes a `dspy.Module`, what each module needs on this machine, and which fields each predictor
has. The classes stand in importable files because some of DSPy's optimizers read a program's source.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol

import dspy  # type: ignore[import-untyped]

from erlbridge.core.field_types import FieldType
from erlbridge.core.modules import PREDICT, Module, check_module
from erlbridge.core.signatures import Field, Signature
from erlbridge.errors import MissingPackage
from erlbridge.programs.attempts import Attempts, HostReward, Reward, RewardFunction
from erlbridge.programs.neighbours import Index, Nearest
from erlbridge.programs.signatures import REASONING, build_signature
from erlbridge.programs.tools import build_tool

TRAJECTORY: Final = "trajectory"
"""The output in which `react` shows its thoughts, the tools it called and what they said."""

_ANY_MAP: Final = FieldType("map", FieldType("any"))

RATIONALE: Final = "rationale"
"""The output that `multi_chain_comparison` puts before the signature's own."""


class Program(dspy.Module):  # type: ignore[misc]
    """Answers a signature with one module.

    Args:
        answer: The `dspy.Module` that answers.
    """

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, **inputs: Any) -> Any:
        return self.answer(**inputs)


class Comparison(dspy.Module):  # type: ignore[misc]
    """Reasons `m` times at a temperature, then compares what came out (`dspy.MultiChainComparison`)."""

    def __init__(self, signature: type[Any], *, m: int, temperature: float) -> None:
        super().__init__()
        self.attempt = dspy.ChainOfThought(signature)
        with _deprecations_ignored():
            self.compare = dspy.MultiChainComparison(signature, M=m, temperature=temperature)
        self.temperature = temperature
        self.m = m

    def forward(self, **inputs: Any) -> Any:
        # A rollout of its own for each attempt, or the cache would give the first answer m times.
        attempts = [
            self.attempt(**inputs, config={"rollout_id": number + 1, "temperature": self.temperature})
            for number in range(self.m)
        ]
        return self.compare(attempts, **inputs)


@contextmanager
def _deprecations_ignored() -> Iterator[None]:
    """DSPy's own modules still use what it deprecates, or are deprecated; the pinned minor has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


class Blueprint(Protocol):
    """What every recipe of a program knows, be it of one step, of several, or of several programs."""

    @property
    def signature(self) -> Signature:
        """What the whole program takes and gives; examples have these fields."""

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that an example or a request must give."""

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The fields of a prediction, in the order in which they are written."""

    @property
    def modules(self) -> tuple[Module, ...]:
        """Every module in it."""

    def build(self) -> Any:
        """A new program without demos; building twice gives two equal programs that share nothing."""

    def fields_of(self, name: str, predictor: Any) -> tuple[Field, ...]:
        """The fields of one of the program's predictors, inputs first."""

    def learned(self, examples: Sequence[Mapping[str, object]]) -> Blueprint:
        """The recipe with the training data, for the modules that answer by it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a program of one step is built from. `examples` are those that the module answers by, if it does."""

    signature: Signature
    module: Module = PREDICT
    examples: tuple[Mapping[str, object], ...] = ()

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that an example or a request must give."""
        return self.signature.input_fields

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The fields of a prediction, in the order in which the model writes them."""
        match self.module.name:
            case "multi_chain_comparison":
                return (Field(RATIONALE), *self.signature.output_fields)
            case "program_of_thought":
                return (Field(REASONING), *self.signature.output_fields)
            case "react":
                return (Field(TRAJECTORY, _ANY_MAP), Field(REASONING), *self.signature.output_fields)
            case _ if self.module.inner == "chain_of_thought":
                return (Field(REASONING), *self.signature.output_fields)
            case _:
                return self.signature.output_fields

    @property
    def modules(self) -> tuple[Module, ...]:
        """The one module."""
        return (self.module,)

    def answer(self) -> Any:
        """A new `dspy.Module` that answers the signature."""
        return _BUILDERS[self.module.name](self)

    def build(self) -> Program:
        """A new program, without demos."""
        return Program(self.answer())

    def fields_of(self, name: str, predictor: Any) -> tuple[Field, ...]:  # noqa: ARG002 - as `Blueprint` has it
        """A predictor's fields with our types; what a module adds of its own is text, but for a tool's arguments."""
        known = {item.name: item for item in self.signature.fields}
        names = (*predictor.signature.input_fields, *predictor.signature.output_fields)
        own = {"next_tool_args": Field("next_tool_args", _ANY_MAP)}
        return tuple(known.get(found) or own.get(found) or Field(found, FieldType("string")) for found in names)

    def learned(self, examples: Sequence[Mapping[str, object]]) -> Recipe:
        """The recipe with these examples, if its module answers by examples."""
        return replace(self, examples=tuple(examples)) if self.module.needs_examples else self


def recipe(signature: Signature, module: Module, path: str) -> Recipe:
    """The recipe, or `ValidationError` where the signature and the module do not fit together."""
    check_module(module, signature, path)
    return Recipe(signature, module)


def require(blueprint: Blueprint) -> None:
    """Raises `MissingPackage` when this machine lacks what a module needs, before a call is paid for."""
    for module in blueprint.modules:
        if module.name == "knn":
            _require_numpy()
        if module.name == "program_of_thought" and not _finds_deno():
            raise MissingPackage(
                "program_of_thought runs the program that the model writes in Deno, which is not here; "
                "install it with: pip install 'dspy[deno]'"
            )


def _require_numpy() -> None:
    try:
        import_module("numpy")
    except ImportError as error:
        raise MissingPackage(
            f"knn needs the package `numpy` ({error}); install it with: pip install 'erlbridge[optimizers]'"
        ) from error


def _finds_deno() -> bool:
    return shutil.which("deno") is not None or find_spec("deno") is not None


# -- builders ---------------------------------------------------------------------------------------------------------


def _predict(made: Recipe) -> Any:
    return dspy.Predict(build_signature(made.signature))


def _chain_of_thought(made: Recipe) -> Any:
    return dspy.ChainOfThought(build_signature(made.signature))


def _inner(made: Recipe) -> Any:
    return _BUILDERS[made.module.inner](made)


def _attempts(make: type[Any], made: Recipe) -> Any:
    module = made.module
    kinds = module.wished(made.signature, "module")
    reward: RewardFunction = Reward(kinds) if module.judge is None else HostReward(module.judge, kinds)
    return Attempts(
        make,
        _inner(made),
        n=module.count("n"),
        threshold=module.number("threshold"),
        reward=reward,
        criteria="" if module.judge is None else module.judge.description,
    )


def _comparison(made: Recipe) -> Any:
    module = made.module
    return Comparison(build_signature(made.signature), m=module.count("m"), temperature=module.number("temperature"))


def _program_of_thought(made: Recipe) -> Any:
    with _deprecations_ignored():
        built = dspy.ProgramOfThought(build_signature(made.signature), max_iters=made.module.count("max_iters"))
    if made.signature.instructions:
        # DSPy writes instructions of its own for its three steps and leaves the signature's out.
        for predictor in built.predictors():
            written = f"{made.signature.instructions}\n\n{predictor.signature.instructions}"
            predictor.signature = predictor.signature.with_instructions(written)
    return built


def _react(made: Recipe) -> Any:
    tools = [build_tool(tool) for tool in made.module.tools]
    return dspy.ReAct(build_signature(made.signature), tools, max_iters=made.module.count("max_iters"))


def _nearest(made: Recipe) -> Any:
    names = [given.name for given in made.inputs]
    return Nearest(_inner(made), Index(made.examples, names, made.module.count("k")))


_BUILDERS: Final[Mapping[str, Callable[[Recipe], Any]]] = {
    "predict": _predict,
    "chain_of_thought": _chain_of_thought,
    "program_of_thought": _program_of_thought,
    "best_of_n": lambda made: _attempts(dspy.BestOfN, made),
    "refine": lambda made: _attempts(dspy.Refine, made),
    "multi_chain_comparison": _comparison,
    "knn": _nearest,
    "react": _react,
}
"""How each module of `core.modules.OPTIONS` is built."""
