"""The modules that a request may name, the options each takes, and the fields each writes for itself.

Knows names and ranges; imports no DSPy. `programs.modules` builds what is named here. A new kind is a row in `OPTIONS`
(and in `OWN_FIELDS`, if it has some), and a builder there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from erlbridge.core.bounds import parse_bounds
from erlbridge.core.field_types import FieldType, Reading, bounded, innermost
from erlbridge.core.options import Option
from erlbridge.core.rewards import Judge, Wishes, parse_reward, reward_term
from erlbridge.core.signatures import Signature
from erlbridge.core.tools import Tool, parse_tools, tool_term
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, given, nearest

INNER: Final = ("predict", "chain_of_thought")
"""The modules that best_of_n, refine and knn may be built around."""

_INNER: Final = Option("choice", choices=INNER)
_THRESHOLD: Final = Option("number", 0.0, 1.0)

OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = {
    "predict": {},
    "chain_of_thought": {},
    "program_of_thought": {"max_iters": Option("integer", 1, 20)},
    "best_of_n": {"n": Option("integer", 1, 32), "threshold": _THRESHOLD, "module": _INNER},
    "refine": {"n": Option("integer", 2, 32), "threshold": _THRESHOLD, "module": _INNER},
    "multi_chain_comparison": {"m": Option("integer", 2, 10), "temperature": Option("number", 0.0, 2.0)},
    "knn": {"k": Option("integer", 1, 100), "module": _INNER},
    "react": {"max_iters": Option("integer", 1, 100)},
}

_DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "program_of_thought": {"max_iters": 3},
    "best_of_n": {"n": 3, "threshold": 1.0, "module": "predict"},
    "refine": {"n": 3, "threshold": 1.0, "module": "predict"},
    "multi_chain_comparison": {"m": 3, "temperature": 0.7},
    "knn": {"k": 3, "module": "predict"},
    "react": {"max_iters": 10},
}

ALIASES: Final[Mapping[str, str]] = {
    "Predict": "predict",
    "ChainOfThought": "chain_of_thought",
    "cot": "chain_of_thought",
    "ProgramOfThought": "program_of_thought",
    "BestOfN": "best_of_n",
    "Refine": "refine",
    "MultiChainComparison": "multi_chain_comparison",
    "KNN": "knn",
    "ReAct": "react",
    "agent": "react",
}

_REWARDED: Final = ("best_of_n", "refine")
_AGENT: Final = "react"


@dataclass(frozen=True, slots=True)
class Module:
    """How a signature is answered: a module's name and all of its options, those left out with their defaults.

    Attributes:
        wishes: What a reward holds output fields to beside their types: JSON Schema's bounds by field.
        tools: What an agent may call.
        judge: The Elixir function that is the reward, where one is.
    """

    name: str = "predict"
    options: Mapping[str, object] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=dict)
    tools: tuple[Tool, ...] = ()
    judge: Judge | None = None

    def count(self, name: str) -> int:
        """An option that is an integer."""
        value = self.options[name]
        assert isinstance(value, int)  # noqa: S101 - as `OPTIONS` has it
        return value

    def number(self, name: str) -> float:
        """An option that is a number."""
        value = self.options[name]
        assert isinstance(value, int | float)  # noqa: S101 - as above
        return float(value)

    @property
    def inner(self) -> str:
        """The module that writes the answers."""
        return str(self.options.get("module", self.name))

    @property
    def needs_examples(self) -> bool:
        """Whether its programs answer by the training data."""
        return self.name == "knn"

    @property
    def own_fields(self) -> tuple[str, ...]:
        """The fields that it adds to the signature's own."""
        match self.name:
            case "program_of_thought":
                return ("generated_code", "previous_code", "error", "final_generated_code", "code_output", "reasoning")
            case "multi_chain_comparison":
                return ("reasoning", "rationale", *(f"reasoning_attempt_{i + 1}" for i in range(self.count("m"))))
            case "react":
                return ("trajectory", "next_thought", "next_tool_name", "next_tool_args", "reasoning")
            case _:
                reasoning = ("reasoning",) if self.inner == "chain_of_thought" else ()
                return ("hint_", *reasoning) if self.name == "refine" else reasoning

    def wished(self, signature: Signature, path: str) -> dict[str, FieldType]:
        """The type that the reward holds each output field to. Raises `ValidationError` for a wish that is none of
        the signature's outputs, or a bound that its type does not know."""
        kinds = {output.name: output.type for output in signature.output_fields}
        for name, wish in self.wishes.items():
            here = f"{path}.reward.fields.{name}"
            if name not in kinds:
                raise ValidationError(f"expected one of the output fields {', '.join(kinds)}", here)
            bounds = parse_bounds(Place(wish, here).entries(), innermost(kinds[name]), Reading(), here)
            kinds[name] = bounded(kinds[name], bounds)
        return kinds


PREDICT: Final = Module()
"""What answers when a request names no module."""


def parse_module(place: Place) -> Module:
    """The module at a place: a name, or a map of a name and options. Raises `ValidationError` with the path."""
    if not isinstance(place.term, Mapping):
        name = _name(place)
        if name == _AGENT:
            raise place.refused("a map of name and tools, as an agent is nothing without tools")
        return Module(name, dict(_DEFAULTS.get(name, {})))
    entries = place.entries()
    name = _name(place.required(entries, "name"))
    table = OPTIONS[name]
    beside = ("reward",) if name in _REWARDED else ("tools",) if name == _AGENT else ()
    place.only(("name", *beside, *table))
    options = {key: option.read(entries[key]) for key, option in table.items() if given(entries, key)}
    wishes, judge = parse_reward(entries["reward"]) if given(entries, "reward") else ({}, None)
    tools = parse_tools(place.required(entries, "tools")) if name == _AGENT else ()
    return Module(name, {**_DEFAULTS.get(name, {}), **options}, wishes, tools, judge)


def check_module(module: Module, signature: Signature, path: str) -> None:
    """Raises `ValidationError` where a signature and a module do not fit together."""
    module.wished(signature, path)
    names = {item.name for item in signature.fields}
    if taken := [name for name in module.own_fields if name in names]:
        raise ValidationError(
            f"the field `{taken[0]}` is written by {module.name} itself; rename it, or use the module predict", path
        )


def module_term(module: Module) -> object:
    """The module as `parse_module` reads it: its name, or a map where it has options."""
    if not module.options:
        return module.name
    term: dict[str, object] = {"name": module.name, **module.options}
    if reward := reward_term(module.wishes, module.judge):
        term["reward"] = reward
    if module.tools:
        term["tools"] = [tool_term(tool) for tool in module.tools]
    return term


def _name(place: Place) -> str:
    found = place.name()
    name = ALIASES.get(found, found)
    if name not in OPTIONS:
        raise place.refused(f"one of {', '.join(sorted(OPTIONS))}{nearest(found, (*OPTIONS, *ALIASES))}")
    return name
