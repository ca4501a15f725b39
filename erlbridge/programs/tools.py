"""An agent's tools as DSPy takes them, each an Elixir function.

What a model gives as arguments is checked before Elixir sees it. A failure, of the arguments or of the function, is an
observation that the model reads and may mend; only what stops the whole job gets past the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import dspy  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from erlbridge.core.bounds import check_patterns
from erlbridge.core.examples import plain, read_value
from erlbridge.core.functions import Function
from erlbridge.core.spelling import Spelling
from erlbridge.core.tools import Tool
from erlbridge.errors import CallbackFailed, ValidationError
from erlbridge.programs.host import HostFunction
from erlbridge.programs.predictions import text
from erlbridge.programs.signatures import annotation
from erlbridge.wire.place import Place, listed

_FAILED: Final = "error: "


class Elixir(Protocol):
    """What a tool needs of the job that it is called in. A program is built without it and answers within many."""

    spelling: Spelling

    def host(self, function: Function) -> HostFunction:
        """An Elixir function that the request names."""


@dataclass(frozen=True, slots=True)
class _Use:
    """One tool at work: arguments in, what the model shall read out."""

    tool: Tool

    def __call__(self, **arguments: Any) -> object:
        elixir: Elixir = dspy.settings.elixir  # of the job's context, which DSPy hands to each of its threads
        try:
            checked = self._checked(arguments)
            return elixir.host(self.tool.function)([elixir.spelling.fields(checked)], plain)
        except (CallbackFailed, ValidationError) as failure:
            return f"{_FAILED}{text(failure.message)}"

    def _checked(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments, each of its type and none unknown. One that may be missing is None then."""
        known = {field.name: field.type for field in self.tool.args}
        for name in arguments:
            if name not in known:
                raise ValidationError(f"unknown argument `{name[:60]}`; known are {listed(known)}", self.tool.name)
        found: dict[str, object] = {}
        for name, kind in known.items():
            if name in arguments:
                found[name] = read_value(Place(arguments[name], name), kind)
            elif kind.kind == "optional":
                found[name] = None
            else:
                raise ValidationError(f"expected the argument `{name}`", self.tool.name)
        return found


def build_tool(tool: Tool) -> Any:
    """The `dspy.Tool`, whose Elixir function gets one map of arguments. It works where `dspy.context(elixir=…)` names
    the job. Raises `ValidationError` for an argument's pattern that is none."""
    for field in tool.args:
        check_patterns(field.type, f"{tool.name}.{field.name}")
    schemas: dict[str, Any] = {}
    for field in tool.args:
        schema = TypeAdapter(annotation(field.type)).json_schema()
        schemas[field.name] = schema if field.description is None else {**schema, "description": field.description}
    # Any: DSPy checks the arguments by their schemas, and what it would convert them to is not for Elixir.
    types = dict.fromkeys(schemas, Any)
    return dspy.Tool(_tool_function(_Use(tool)), tool.name, tool.description, schemas, types)


def _tool_function(use: _Use) -> Any:
    def call(**arguments: Any) -> object:
        return use(**arguments)

    return call
