"""The tools of an agent as a request names them: an Elixir function each, with the arguments that a model may give it.

Knows tools as values; `programs.tools` makes them DSPy's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from erlbridge.core.field_types import Reading
from erlbridge.core.functions import Function, parse_function
from erlbridge.core.signatures import Field, field_term, parse_field
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, given
from erlbridge.wire.vocabulary import atom

MAX_TOOLS: Final = 64
_MAX_ARGUMENTS: Final = 32
_KEYS: Final = ("name", "description", "args", "call")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_TAKEN: Final = frozenset({"finish"})
"""The tool with which DSPy's ReAct says that it is done."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call: under which name, with which arguments, and the Elixir function behind it."""

    name: str
    description: str
    args: tuple[Field, ...]
    function: Function


def parse_tools(place: Place) -> tuple[Tool, ...]:
    """The tools at a place: a list of `%{name, description, args: [field…], call: {:call, name}}`, a field as in a
    signature. Raises `ValidationError` with the path."""
    if not 1 <= len(place.elements()) <= MAX_TOOLS:
        raise place.refused(f"a list of 1 to {MAX_TOOLS} tools")
    tools = tuple(_parse_tool(item) for item in place.items())
    names = [tool.name for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValidationError(f"the tool `{name}` is there twice", f"{place.path}[{index}].name")
    return tools


def _parse_tool(place: Place) -> Tool:
    entries = place.only(_KEYS)
    named = place.required(entries, "name")
    name = named.name()
    if not _NAME.match(name) or name in _TAKEN:
        raise named.refused("a letter, then letters, digits and underscores, and not `finish`")
    return Tool(
        name,
        entries["description"].text() if given(entries, "description") else "",
        _parse_args(entries["args"]) if given(entries, "args") else (),
        parse_function(place.required(entries, "call")),
    )


def _parse_args(place: Place) -> tuple[Field, ...]:
    if len(place.elements()) > _MAX_ARGUMENTS:
        raise place.refused(f"at most {_MAX_ARGUMENTS} arguments")
    reading = Reading()
    args = tuple(parse_field(item, reading) for item in place.items())
    for index, arg in enumerate(args):
        if not _NAME.match(arg.name) or arg.name in [other.name for other in args[:index]]:
            raise Place(arg.name, f"{place.path}[{index}]").refused("an argument's name: distinct, a letter first")
    return args


def tool_term(tool: Tool) -> dict[str, object]:
    """The tool as a map that `parse_tools` reads back. The function's name is a binary, for whoever asks for a stored
    program later need not know the atom; a function is found by either."""
    return {
        "name": tool.name,
        "description": tool.description,
        "args": [field_term(arg) for arg in tool.args],
        "call": (atom("call"), tool.function.text),
    }
