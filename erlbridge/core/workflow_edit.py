"""Puts what optimizations found into a workflow: into its data, and into the very YAML text it came from.

Only what changes is written anew, so that comments, order and layout of everything else stay. The text is read again
afterwards; where it does not say exactly what it should (aliases, odd layouts), the whole of it is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from erlbridge.core.workflow import OPTIMIZED, Document, Step
from erlbridge.core.yaml_text import Node, Pair, read_yaml, write_yaml
from erlbridge.errors import ValidationError

_PART: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Edit:
    """What one step's optimization changes.

    Attributes:
        step: The step as it stood.
        instructions: The new instructions of its signature, None to leave them.
        signature: The whole signature with them, for where the workflow has a text or a name.
        optimized: What stands under `dspy_optimized`.
    """

    step: Step
    instructions: str | None
    signature: Mapping[str, object]
    optimized: Mapping[str, object]


def edited_data(document: Document, edits: Sequence[Edit]) -> Any:
    """The document's data with the edits in place."""
    data = deepcopy(document.data)
    for edit in edits:
        step = _at(data, edit.step)
        if edit.instructions is not None:
            key = edit.step.signature_key
            step[key] = _signature(step[key], edit)
        step[OPTIMIZED] = dict(edit.optimized)
    return data


def edited_yaml(document: Document, edits: Sequence[Edit]) -> tuple[str, bool]:
    """The document's text with the edits in place, and whether everything else in it is as it was."""
    assert document.text is not None  # noqa: S101 - what came as a map goes back as one
    assert document.node is not None  # noqa: S101
    wanted = edited_data(document, edits)
    text = document.text
    changes = [change for edit in edits for change in _changes(text, _node_at(document.node, edit.step), edit)]
    for start, end, new in sorted(changes, key=lambda change: change[0], reverse=True):
        text = f"{text[:start]}{new}{text[end:]}"
    try:
        if read_yaml(text, document.path).data() == wanted:
            return text, True
    except ValidationError:
        pass  # a layout that cannot be added to
    return write_yaml(wanted), False


Change = tuple[int, int, str]
"""The characters from one index to another, and what comes in their place."""


def _changes(text: str, step: Node, edit: Edit) -> list[Change]:
    changes = [_put(text, step, OPTIMIZED, dict(edit.optimized))]
    if edit.instructions is None:
        return changes
    key = edit.step.signature_key
    signature = step.value[key].value
    if isinstance(signature.value, dict) and not signature.flow:
        return [*changes, _put(text, signature, "instructions", edit.instructions)]
    return [*changes, _put(text, step, key, _signature(signature.data(), edit))]


def _put(text: str, node: Node, key: str, value: object) -> Change:
    """Sets an entry of a map in block layout: in its place, or behind the last one."""
    pair: Pair | None = node.value.get(key)
    if pair is None:
        last: Pair = next(reversed(node.value.values()))
        at = _line_end(text, last.last)
        missing = "" if at == 0 or text[at - 1] == "\n" else "\n"
        return at, at, f"{missing}{' ' * last.column}{_written(key, value, last.column)}"
    end = pair.last
    written = _written(key, value, pair.column)
    if end > 0 and text[end - 1] == "\n":
        return pair.start, end, written
    line_end = _line_end(text, end)
    comment = text[end:line_end].strip()
    above = f"{comment}\n{' ' * pair.column}" if comment else ""
    return pair.start, line_end, f"{above}{written}"


def _written(key: str, value: object, column: int) -> str:
    first, *rest = write_yaml({key: value}).removesuffix("\n").split("\n")
    lines = [first, *(f"{' ' * column}{line}" if line else "" for line in rest)]
    return "\n".join(lines) + "\n"


def _line_end(text: str, index: int) -> int:
    """The index behind the line that a value ends in; a block of text ends behind its last line already."""
    if index > 0 and text[index - 1] == "\n":
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _signature(there: object, edit: Edit) -> dict[str, object]:
    if isinstance(there, Mapping):
        return {**there, "instructions": edit.instructions}
    return dict(edit.signature)


def _at(data: Any, step: Step) -> Any:
    for key in _path(step):
        data = data[key]
    return data


def _node_at(node: Node, step: Step) -> Node:
    for key in _path(step):
        node = node.value[key] if isinstance(key, int) else node.value[key].value
    return node


def _path(step: Step) -> list[str | int]:
    return [int(index) if index else name for name, index in _PART.findall(step.place.path)]
