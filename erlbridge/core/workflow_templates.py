"""`{{…}}` in the texts of a workflow: which step or input each names, and what becomes of it when the workflow runs.

    {{steps.x.y}}  {{x.y}}         the output `y` of the step `x`
    {{previous_response:x}}        all that the step `x` gave; without a name, what the step before gave
    {{y}}  {{inputs.y}}            an input of the workflow

Evaluates nothing: a reference is a path of names. What is no reference stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from erlbridge.errors import ValidationError
from erlbridge.wire.place import listed, nearest, shown

_BRACES: Final = re.compile(r"\{\{([^{}]{0,500})\}\}")
_PATH: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*\Z")
_PREVIOUS: Final = re.compile(r"previous_response(?::\s*(.*))?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StepReference:
    """What a step gave, or a part of it; `step` None is the step before."""

    step: str | None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputReference:
    """An input of the workflow, or a part of it. `bare` when nothing but its name says that it is one."""

    path: tuple[str, ...]
    bare: bool = True


Reference: TypeAlias = StepReference | InputReference


@dataclass(frozen=True, slots=True)
class Template:
    """A text and the references in it; `path` is where it stands."""

    text: str
    parts: tuple[str | Reference, ...]
    path: str
    unread: tuple[str, ...] = ()
    """What stands in braces and is no reference; it stays in the text."""

    @property
    def references(self) -> Iterator[Reference]:
        """The references, in order."""
        return (part for part in self.parts if not isinstance(part, str))

    def render(self, given: Given) -> object:
        """The value: that of the reference when the text is one reference and nothing else, otherwise text.

        Raises `ValidationError` when something that is named is not there.
        """
        values = [part if isinstance(part, str) else given.value(part, self.path) for part in self.parts]
        return values[0] if len(values) == 1 else "".join(map(as_text, values))


def parse_template(text: str, path: str, steps: Sequence[str]) -> Template:
    """A text's template. `steps` are the names of the workflow's steps, which may have dots in them."""
    parts: list[str | Reference] = []
    unread: list[str] = []
    end = 0
    for match in _BRACES.finditer(text):
        reference = parse_reference(match[1].strip(), steps)
        if reference is None:
            unread.append(match[0])
            continue
        parts += [text[end : match.start()]] if match.start() > end else []
        parts.append(reference)
        end = match.end()
    parts += [text[end:]] if end < len(text) or not parts else []
    return Template(text, tuple(parts), path, tuple(unread))


def parse_reference(text: str, steps: Sequence[str]) -> Reference | None:
    """What a text between braces names, None when it is no path of names."""
    if match := _PREVIOUS.match(text):
        wanted = (match[1] or "").strip()
        return _of_step(wanted, steps) if wanted else StepReference(None)
    if text.startswith("steps."):
        return _of_step(text.removeprefix("steps."), steps)
    if _longest(text, steps) is not None:
        return _of_step(text, steps)
    if not _PATH.match(text):
        return None
    if text.startswith("inputs."):
        return InputReference(tuple(text.split(".")[1:]), bare=False)
    return InputReference(tuple(text.split(".")))


def _of_step(text: str, steps: Sequence[str]) -> StepReference:
    name = _longest(text, steps)
    if name is None:
        name, _, rest = text.partition(".")
    else:
        rest = text[len(name) + 1 :]
    return StepReference(name, tuple(rest.split(".")) if rest else ())


def _longest(text: str, steps: Sequence[str]) -> str | None:
    return max((name for name in steps if text == name or text.startswith(f"{name}.")), key=len, default=None)


@dataclass(slots=True)
class Given:
    """What a workflow's steps may refer to while it runs: its inputs, the outputs so far in order, and texts of files.

    >>> given = Given({"topic": "tea"}, {"draft": {"text": "Tea is …"}})
    >>> parse_template("On {{topic}}: {{steps.draft.text}}", "prompt", ["draft"]).render(given)
    'On tea: Tea is …'
    """

    inputs: Mapping[str, object]
    outputs: dict[str, object]
    files: Mapping[str, str] = field(default_factory=dict)

    def value(self, reference: Reference, path: str) -> object:
        """What a reference names. Raises `ValidationError` when it is not there."""
        if isinstance(reference, InputReference):
            return _within(self.inputs, reference.path, "the inputs", path)
        step = next(reversed(self.outputs), None) if reference.step is None else reference.step
        if step is None or step not in self.outputs:
            raise ValidationError(f"expected a step that has run, got {'none' if step is None else f'`{step}`'}", path)
        return _within(self.outputs[step], reference.path, f"what the step `{step}` gave", path)


def _within(value: object, names: Sequence[str], where: str, path: str) -> object:
    for name in names:
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif not isinstance(value, Mapping):
            raise ValidationError(f"expected a map with `{name}` in {where}, got {shown(value)}", path)
        elif name not in value:
            known = [str(key) for key in value]
            raise ValidationError(f"expected `{name}` in {where}{nearest(name, known)}, got {listed(known)}", path)
        else:
            value = value[name]
    return value


def as_text(value: object) -> str:
    """A value inside of a text: text as it is, the rest as JSON.

    >>> as_text("tea"), as_text({"a": [1, None]})
    ('tea', '{"a": [1, null]}')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
