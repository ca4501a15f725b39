"""What a step of a workflow runs with: its inputs, its examples and its config, from all the places that may say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from erlbridge.core.optimizers import OPTIONS
from erlbridge.core.signatures import Field, Signature
from erlbridge.core.workflow import Step
from erlbridge.core.workflow_signatures import fits
from erlbridge.core.workflow_templates import Given
from erlbridge.errors import ValidationError
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


def step_examples(step: Step, signature: Signature, sent: Place | None) -> tuple[list[object], list[object] | None]:
    """The training examples (none is an empty list) and the validation examples (None for none of their own).

    Those sent with the request win, then the step's own, then the workflow's where they fit the signature.
    """
    settings = step.settings
    found = sent or step.examples
    if found is None and settings.training is not None and fits(settings.training, signature):
        found = settings.training
    if found is None:
        return [], None
    data = found.elements()
    size = settings.training_size or len(data)
    training, rest = data[:size], data[size:]
    if settings.validation is not None and fits(settings.validation, signature):
        return training, settings.validation.elements()[: settings.validation_size]
    return training, (rest[: settings.validation_size] if settings.validation_size and rest else None)


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
        texts = [part.render(given) for part in step.prompt]
        return {**found, missing[0].name: "\n".join(text for text in texts if text)}
    required = [f"`{field.name}`" for field in missing if field.type.kind != "optional"]
    if required:
        raise ValidationError(
            f"nothing gives {', '.join(required)}: no template, no input of the workflow, no output of an earlier step",
            step.place.path,
        )
    return found


def _newest(given: Given, name: str) -> Mapping[str, object] | None:
    for outputs in reversed(given.outputs.values()):
        if isinstance(outputs, Mapping) and name in outputs:
            return outputs
    return None
