"""An agent's tools as DSPy takes them, each an Elixir function.

What a model gives as arguments is checked before Elixir sees it. A failure, of the arguments or of the function, is an
observation that the model reads and may mend; only what stops the whole job gets past the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dspy  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from erlbridge.core.examples import plain, read_value
from erlbridge.core.spelling import Spelling
from erlbridge.core.tools import Tool
from erlbridge.errors import CallbackFailed, ValidationError
from erlbridge.programs.host import HostFunction
from erlbridge.programs.predictions import text
from erlbridge.programs.signatures import annotation
from erlbridge.wire.place import Place, listed

_FAILED: Final = "error: "


@dataclass(frozen=True, slots=True)
class _Use:
    """One tool at work: arguments in, what the model shall read out."""

    tool: Tool
    function: HostFunction
    spelling: Spelling

    def __call__(self, **arguments: Any) -> object:
        try:
            checked = self._checked(arguments)
            return self.function([self.spelling.fields(checked)], plain)
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


def build_tool(tool: Tool, function: HostFunction, spelling: Spelling) -> Any:
    """The `dspy.Tool`.

    Args:
        tool: What the request says about it.
        function: The Elixir function behind it; gets one map of arguments.
        spelling: How the host writes the names of the arguments.
    """
    schemas: dict[str, Any] = {}
    for field in tool.args:
        schema = TypeAdapter(annotation(field.type)).json_schema()
        schemas[field.name] = schema if field.description is None else {**schema, "description": field.description}
    # Any: DSPy checks the arguments by their schemas, and what it would convert them to is not for Elixir.
    types = dict.fromkeys(schemas, Any)
    return dspy.Tool(_tool_function(_Use(tool, function, spelling)), tool.name, tool.description, schemas, types)


def _tool_function(use: _Use) -> Any:
    def call(**arguments: Any) -> object:
        return use(**arguments)

    return call
