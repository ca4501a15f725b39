"""What a step of a workflow runs with: its inputs, its examples and its config, from all the places that may say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from erlbridge.core.datasets import Dataset
from erlbridge.core.optimizers import OPTIONS
from erlbridge.core.signatures import Field, Signature
from erlbridge.core.workflow import Step
from erlbridge.core.workflow_prompts import render_prompt
from erlbridge.core.workflow_signatures import fits
from erlbridge.core.workflow_templates import Given, as_text
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_PROMPT_CHARACTERS
from erlbridge.wire.place import Place

DEFAULT_OPTIMIZER: Final = "bootstrap_few_shot"

ConfigTerm: TypeAlias = dict[str, object]
"""A payload's `config`, not read yet."""


def step_config(step: Step, entries: Mapping[str, Place]) -> ConfigTerm:
    """The step's config: what the request says, then the workflow, then the defaults."""
    config: ConfigTerm = {name: found.term for name, found in entries.items()}
    settings = step.settings
    for name, value in (
        ("optimizer", settings.optimizer or DEFAULT_OPTIMIZER),
        ("metric", settings.metric),
        ("max_demos", settings.max_demos),
        ("cache", settings.cache),
    ):
        if value is not None:
            config.setdefault(name, value)
    if settings.max_rounds is not None and "max_rounds" in OPTIONS.get(str(config["optimizer"]), {}):
        config.setdefault("options", {"max_rounds": settings.max_rounds})
    return config


def step_examples(
    step: Step, signature: Signature, sent: Place | None
) -> tuple[list[object] | Dataset, list[object] | Dataset | None]:
    """The training examples (none is an empty list) and the validation examples (None for none of their own).

    Those sent with the request win, then the step's own, then the workflow's where they fit the signature.
    """
    settings = step.settings
    found = sent or step.examples
    if found is None and settings.training is not None and fits(settings.training, signature):
        found = settings.training
    if found is None:
        return [], None
    data = found.term if isinstance(found.term, Dataset) else found.elements()
    size = settings.training_size or len(data)
    training, rest = _cut(data, 0, size), _cut(data, size, None)
    if settings.validation is not None and fits(settings.validation, signature):
        return training, settings.validation.elements()[: settings.validation_size]
    return training, (_cut(rest, 0, settings.validation_size) if settings.validation_size and len(rest) else None)


def _cut(data: list[object] | Dataset, start: int, stop: int | None) -> list[object] | Dataset:
    return data.cut(start, stop) if isinstance(data, Dataset) else data[start:stop]


def step_inputs(step: Step, signature: Signature, given: Given) -> dict[str, object]:
    """A value for each input field: its template's, the workflow's input of its name, or the newest output of its name.

    The one field that is left over gets the prompt. Raises `ValidationError` when nothing gives a field.
    """
    found: dict[str, object] = {}
    missing: list[Field] = []
    for field in signature.input_fields:
        outputs = _newest(given, field.name)
        if field.name in step.templates:
            found[field.name] = step.templates[field.name].render(given)
        elif field.name in given.inputs:
            found[field.name] = given.inputs[field.name]
        elif outputs is not None:
            found[field.name] = outputs[field.name]
        else:
            missing.append(field)
    if len(missing) == 1 and step.prompt:
        return {**found, missing[0].name: render_prompt(step.prompt, given)}
    required = [f"`{field.name}`" for field in missing if field.type.kind != "optional"]
    if required:
        raise ValidationError(
            f"nothing gives {', '.join(required)}: no template, no input of the workflow, no output of an earlier step",
            step.place.path,
        )
    return found


def host_prompt(step: Step, given: Given) -> tuple[str | None, str | None]:
    """The prompt of a step that the host executes, and why there is none.

    Such a step's braces may be its executor's own affair, so what cannot be resolved here is no error. A step of DSPy's
    that falls back and has no prompt is asked by its instructions and its fields.
    """
    unread = [part.file for part in step.prompt if part.file is not None and part.file not in given.files]
    if unread:
        return None, f"the request holds no text of the file `{unread[0][:200]}`"
    try:
        if step.prompt or step.signature is None:
            text = render_prompt(step.prompt, given)
        else:
            text = _asked_in_text(step.signature, step_inputs(step, step.signature, given))
    except ValidationError as error:
        return None, error.message
    if len(text) > MAX_PROMPT_CHARACTERS:
        return None, f"a prompt of {len(text)} characters, limit {MAX_PROMPT_CHARACTERS}"
    return text, None


def _asked_in_text(signature: Signature, inputs: Mapping[str, object]) -> str:
    wanted = ", ".join(f"`{field.name}`" for field in signature.output_fields)
    fields = "\n".join(f"{name}: {as_text(value)}" for name, value in inputs.items())
    return "\n\n".join(text for text in (signature.instructions, fields, f"Give {wanted}.") if text)


def _newest(given: Given, name: str) -> Mapping[str, object] | None:
    for outputs in reversed(given.outputs.values()):
        if isinstance(outputs, Mapping) and name in outputs:
            return outputs
    return None
