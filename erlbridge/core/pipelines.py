"""Programs of several steps as a host writes them: what each step is, and where each of its inputs comes from.

Knows names, types and wiring as values; imports no DSPy. `programs.modules` builds one DSPy program of all steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from erlbridge.core.field_types import FieldType, Reading, fits
from erlbridge.core.modules import Module, check_module, parse_module
from erlbridge.core.signatures import Field, Signature, checked_name, parse_signature
from erlbridge.core.type_text import type_text
from erlbridge.errors import ValidationError
from erlbridge.wire.place import Place, given, nearest

MAX_STEPS: Final = 32
"""Most steps of one pipeline. All of them run for each example, one after the other."""

_STEP_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_PIPELINE_KEYS: Final = ("name", "steps", "outputs")
_STEP_KEYS: Final = ("name", "signature", "module", "from")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: an output of a step, or with `step` None an input of the pipeline."""

    step: str | None
    field: str

    def __str__(self) -> str:
        return self.field if self.step is None else f"{self.step}.{self.field}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a signature, how it is answered (None: as the request's config says), and a source for each input."""

    name: str
    signature: Signature
    module: Module | None
    sources: Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in the order in which they run. Its inputs are what no step provides; its outputs have sources, too."""

    steps: tuple[Step, ...]
    inputs: tuple[Field, ...]
    outputs: tuple[tuple[Field, Source], ...]
    name: str | None = None

    @property
    def interface(self) -> Signature:
        """What the whole pipeline takes and gives, as examples have it."""
        outputs = tuple(output for output, _ in self.outputs)
        warnings = tuple(warning for step in self.steps for warning in step.signature.warnings)
        return Signature(self.inputs, outputs, name=self.name, warnings=warnings)

    def with_module(self, module: Module, path: str) -> Pipeline:
        """The pipeline with this module wherever a step names none. Raises `ValidationError` when one does not fit."""
        steps = []
        for index, step in enumerate(self.steps):
            here = f"{path}.steps[{index}]"
            used = module if step.module is None else step.module
            check_module(used, step.signature, here)
            missing = [item.name for item in step.signature.fields if item not in self.interface.fields]
            if used.needs_examples and missing:
                raise ValidationError(
                    f"{used.name} answers by the training data, which has no `{missing[0]}` of this step", here
                )
            steps.append(replace(step, module=used))
        return replace(self, steps=tuple(steps))


def parse_pipeline(place: Place) -> Pipeline:
    """The pipeline at a place. Raises `ValidationError` with the path of what does not fit."""
    entries = place.only(_PIPELINE_KEYS)
    listed = place.required(entries, "steps")
    if not 1 <= len(listed.elements()) <= MAX_STEPS:
        raise listed.refused(f"a list of 1 to {MAX_STEPS} steps")
    reading, wiring = Reading(), _Wiring()
    steps = tuple(_parse_step(item, wiring, reading) for item in listed.items())
    if given(entries, "outputs"):
        outputs = tuple(_parse_outputs(entries["outputs"], wiring))
    else:
        last = steps[-1]
        outputs = tuple((output, Source(last.name, output.name)) for output in last.signature.output_fields)
    name = entries["name"].name() if given(entries, "name") else None
    pipeline = Pipeline(steps, tuple(wiring.inputs.values()), outputs, name)
    if not pipeline.inputs:
        raise listed.refused("steps with at least one input that no step provides")
    for output, _ in outputs:
        if output.name in wiring.inputs:
            raise ValidationError(f"`{output.name}` is an input and an output of the pipeline; rename one", place.path)
    return pipeline


class _Wiring:
    """What the steps read so far provide, and the inputs of the pipeline that they need."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Field]] = {}
        self.inputs: dict[str, Field] = {}

    def newest(self, name: str) -> Source:
        """The newest step that has this output, else an input of the pipeline."""
        found = next((step for step in reversed(self.steps) if name in self.steps[step]), None)
        return Source(found, name)

    def connect(self, wanted: Field, source: Source, path: str) -> Source:
        """The source, if its type fits what is wanted."""
        if source.step is None:
            given_type = self.inputs.setdefault(source.field, replace(wanted, name=source.field)).type
        else:
            given_type = self.steps[source.step][source.field].type
        if not fits(given_type, wanted.type):
            raise ValidationError(
                f"`{source}` is {_described(given_type)}, which does not fit `{wanted.name}`, "
                f"{_described(wanted.type)}",
                path,
            )
        return source

    def named(self, place: Place) -> Source:
        """The source that a text names: `step.field`, or an input of the pipeline."""
        step, dot, name = place.name().partition(".")
        if not dot:
            return Source(None, checked_name(step, place.path, {}))
        if step not in self.steps:
            raise place.refused(
                f"an earlier step before the dot{nearest(step, self.steps)}; there are {_names(self.steps)}"
            )
        if name not in self.steps[step]:
            raise place.refused(f"an output of the step `{step}` after the dot: {_names(self.steps[step])}")
        return Source(step, name)


def _parse_step(place: Place, wiring: _Wiring, reading: Reading) -> Step:
    entries = place.only(_STEP_KEYS)
    named = place.required(entries, "name")
    name = named.name()
    if not _STEP_NAME.match(name):
        raise named.refused("a letter, then at most 63 letters, digits and underscores")
    if name in wiring.steps:
        raise ValidationError(f"the step `{name}` is there twice", named.path)
    written = place.required(entries, "signature")
    signature = parse_signature(written, reading)
    given_sources = entries["from"].entries() if given(entries, "from") else {}
    sources: dict[str, Source] = {}
    for wanted in signature.input_fields:
        source = given_sources.pop(wanted.name, None)
        if source is None:
            sources[wanted.name] = wiring.connect(wanted, wiring.newest(wanted.name), written.path)
        else:
            sources[wanted.name] = wiring.connect(wanted, wiring.named(source), source.path)
    for unknown, source in given_sources.items():
        raise ValidationError(f"`{unknown}` is no input of the step `{name}`", source.path)
    wiring.steps[name] = {output.name: output for output in signature.output_fields}
    return Step(name, signature, parse_module(entries["module"]) if given(entries, "module") else None, sources)


def _parse_outputs(place: Place, wiring: _Wiring) -> Iterator[tuple[Field, Source]]:
    if not place.elements():
        raise place.refused("at least one output")
    seen: set[str] = set()
    for item in place.items():
        source = wiring.named(item) if "." in item.name() else wiring.newest(item.name())
        if source.step is None:
            raise item.refused("an output of one of the steps")
        if source.field in seen:
            raise ValidationError(f"the output `{source.field}` is there twice", item.path)
        seen.add(source.field)
        yield wiring.steps[source.step][source.field], source


def _described(kind: FieldType) -> str:
    return f"{'an' if type_text(kind)[0] in 'aeio' else 'a'} {type_text(kind)}"


def _names(known: Mapping[str, object]) -> str:
    return ", ".join(known) or "none yet"
