"""Prompts of a workflow's steps, and whether what they refer to can be there when the step runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from erlbridge.core.problems import Problems, said
from erlbridge.core.signatures import Signature
from erlbridge.core.workflow_templates import Given, InputReference, StepReference, Template, as_text, parse_template
from erlbridge.limits import MAX_WORKFLOW_REFERENCES
from erlbridge.wire.place import Place, given, nearest

_WRITTEN_BESIDE: Final = ("reasoning", "rationale")
"""What modules give beside the outputs of their signature; which module it is, the request says."""

_KINDS: Final = ("static", "file", "previous_response")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a prompt: `static` text, what a step gave before (`previous_response`), or a `file` of the host.

    A file's text is what the request holds for its name; nothing is opened here, and no reference in it is followed.
    """

    kind: str
    path: str
    template: Template | None = None
    reference: StepReference | None = None
    file: str | None = None

    def render(self, known: Given) -> str:
        """The part as text; nothing for a file that the request does not hold."""
        if self.template is not None:
            return as_text(self.template.render(known))
        if self.file is not None:
            return known.files.get(self.file, "")
        return "" if self.reference is None else as_text(known.value(self.reference, self.path))


def parse_prompt(place: Place, steps: Sequence[str], problems: Problems) -> tuple[Part, ...]:
    """The parts of a prompt: one text, or a list of parts. What is wrong goes into `problems`."""
    if isinstance(place.term, str):
        return (Part("static", place.path, _template(place, steps, problems)),)
    if not isinstance(place.term, list):
        problems.error(place.path, said(place.refused("a text, or a list of prompt parts")))
        return ()
    parts = (_parse_part(item, steps, problems) for item in place.items())
    return tuple(part for part in parts if part is not None)


def _parse_part(place: Place, steps: Sequence[str], problems: Problems) -> Part | None:
    if isinstance(place.term, str):
        problems.warn(place.path, "a text in the place of `type: static` with `content`; understood")
        return Part("static", place.path, _template(place, steps, problems))
    entries = problems.attempt(place.entries)
    if entries is None:
        return None
    kind = problems.attempt(lambda: place.required(entries, "type").text())
    match kind:
        case "static":
            content = problems.attempt(place.required, entries, "content")
            return None if content is None else Part("static", place.path, _template(content, steps, problems))
        case "file":
            return Part("file", place.path, file=problems.attempt(lambda: place.required(entries, "path").text()))
        case "previous_response":
            step = problems.attempt(entries["step"].text) if given(entries, "step") else None
            extract = problems.attempt(entries["extract"].text) if given(entries, "extract") else None
            inner = tuple(extract.split(".")) if extract else ()
            return Part("previous_response", place.path, reference=StepReference(step, inner))
        case str():
            problems.warn(f"{place.path}.type", f"unknown prompt part `{kind[:60]}`{nearest(kind, _KINDS)}")
    return None


def _template(place: Place, steps: Sequence[str], problems: Problems) -> Template | None:
    text = problems.attempt(place.text)
    return None if text is None else checked_template(text, place.path, steps, problems)


def checked_template(text: str, path: str, steps: Sequence[str], problems: Problems) -> Template:
    """The text's template, with a warning for braces that stay as they are."""
    template = parse_template(text, path, steps)
    for braces in template.unread:
        problems.warn(path, f"`{braces[:60]}` is no reference that is known here; it stays as it is")
    return template


def render_prompt(parts: Sequence[Part], known: Given) -> str:
    """The prompt as one text, its parts below each other. Raises `ValidationError` when something is not there."""
    return "\n".join(text for part in parts if (text := part.render(known)))


# -- what refers to what ----------------------------------------------------------------------------------------------

Referring = tuple[str, str, Signature | None, Sequence[Template | Part]]
"""A step's name and path, its signature, and what in it may refer to other steps."""


def check_references(steps: Sequence[Referring], problems: Problems) -> None:
    """Reports references to steps that are not there, come later or form a circle, and to outputs that they lack."""
    names = [name for name, *_ in steps]
    count = sum(1 for *_, texts in steps for _ in _references(texts))
    if count > MAX_WORKFLOW_REFERENCES:
        problems.error("", f"expected at most {MAX_WORKFLOW_REFERENCES} references, got {count}")
        return
    graph = {
        name: {reference.step for _, reference in _references(texts) if isinstance(reference, StepReference)}
        for name, _, _, texts in steps
    }
    for index, (name, _, _, texts) in enumerate(steps):
        for path, reference in _references(texts):
            if isinstance(reference, InputReference):
                head = reference.path[0]
                if reference.bare and len(reference.path) > 1 and (hint := nearest(head, names)):
                    problems.warn(path, f"no step is called `{head}`{hint}; it is taken for an input of the workflow")
            elif reference.step is None:
                if index == 0:
                    problems.error(path, "there is no step before the first one")
            elif reference.step not in names:
                problems.error(path, f"no step is called `{reference.step[:60]}`{nearest(reference.step, names)}")
            elif names.index(reference.step) < index:
                _check_output(steps[names.index(reference.step)], reference, path, problems)
            elif circle := _way(graph, reference.step, name):
                problems.error(path, f"the steps refer to each other in a circle: {' → '.join([name, *circle])}")
            else:
                problems.error(path, f"the step `{reference.step}` comes later; it has given nothing yet")


def _check_output(step: Referring, reference: StepReference, path: str, problems: Problems) -> None:
    name, _, signature, _ = step
    if signature is None or not reference.path:
        return
    outputs = [output.name for output in signature.output_fields]
    if (wanted := reference.path[0]) not in (*outputs, *_WRITTEN_BESIDE):
        problems.error(
            path, f"the step `{name}` has no output `{wanted}`{nearest(wanted, outputs)}; it has {', '.join(outputs)}"
        )


def _references(texts: Sequence[Template | Part]) -> Iterator[tuple[str, StepReference | InputReference]]:
    for text in texts:
        if isinstance(text, Part) and text.reference is not None:
            yield text.path, text.reference
        template = text.template if isinstance(text, Part) else text
        if template is not None:
            for reference in template.references:
                yield template.path, reference


def _way(graph: dict[str, set[str | None]], start: str, goal: str) -> list[str] | None:
    """The steps from one to another along their references, both included."""
    waiting: list[list[str]] = [[start]]
    seen = {start}
    while waiting:
        way = waiting.pop(0)
        if way[-1] == goal:
            return way
        for following in sorted(step for step in graph.get(way[-1], ()) if step is not None and step not in seen):
            seen.add(following)
            waiting.append([*way, following])
    return None
