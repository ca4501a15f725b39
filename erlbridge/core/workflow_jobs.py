"""The payloads of `load_workflow` and `run_pipeline`. The node checks their outline; the worker reads the workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from erlbridge.core.configs import Config, parse_config
from erlbridge.core.examples import Examples
from erlbridge.core.requests import read_program_id
from erlbridge.core.workflow import Document, Workflow, map_document, parse_workflow, yaml_document
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_DOCUMENT_BYTES
from erlbridge.wire.place import Place, given

_SOURCE_KEYS = ("yaml", "workflow", "file", "environment", "signatures")
_ANY_COUNT = 1_000_000
"""In the place of a number of examples that is known only with the workflow."""


@dataclass(frozen=True, slots=True)
class WorkflowSource:
    """A workflow as it was sent, not read yet.

    Attributes:
        place: The YAML text, or the map.
        file: What the host calls it, for messages; nothing is opened.
        environment: Whose settings are laid over the workflow's.
        signatures: What signatures that are only names stand for.
    """

    place: Place
    is_yaml: bool
    file: str | None
    environment: str | None
    signatures: Mapping[str, Place]

    def document(self) -> Document:
        """The document. Raises `ValidationError`."""
        return (yaml_document if self.is_yaml else map_document)(self.place, self.file)

    def plan(self, document: Document) -> Workflow:
        """The plan of the document. Raises `ValidationError` with all of its errors."""
        return parse_workflow(document, self.environment, self.signatures)


@dataclass(frozen=True, slots=True)
class LoadWorkflow:
    """Read a workflow and say what it is, or everything that is wrong with it."""

    source: WorkflowSource


@dataclass(frozen=True, slots=True)
class RunPipeline:
    """Run a workflow's steps in order.

    Attributes:
        inputs: The workflow's inputs, a map; None for none.
        training: Examples for steps, by step; they win over those in the workflow.
        programs: Stored programs to use as they are, by step.
        optimize_only: Whether its DSPy steps are optimized and none is run.
        config: How its DSPy steps run, where the workflow does not say; what the request says wins.
        entries: The same, as the request has it.
    """

    source: WorkflowSource
    inputs: Place | None
    training: Mapping[str, Place]
    programs: Mapping[str, str]
    optimize_only: bool
    config: Config
    entries: Mapping[str, Place]


def parse_load(place: Place) -> LoadWorkflow:
    """The payload `%{yaml | workflow, file?, environment?, signatures?}`. Raises `ValidationError` with the path."""
    return LoadWorkflow(_source(place, place.only(_SOURCE_KEYS)))


def parse_run(place: Place) -> RunPipeline:
    """The same with `inputs`, `training_data`, `programs`, `optimize_only` and `config`.

    Raises `ValidationError` with the path.
    """
    entries = place.only((*_SOURCE_KEYS, "inputs", "training_data", "programs", "optimize_only", "config"))
    config = place.required(entries, "config")
    if given(entries, "inputs"):
        entries["inputs"].entries()
    return RunPipeline(
        _source(place, entries),
        entries["inputs"] if given(entries, "inputs") else None,
        {name: Examples.at(found).place for name, found in _map(entries, "training_data").items()},
        {name: read_program_id(found) for name, found in _map(entries, "programs").items()},
        given(entries, "optimize_only") and entries["optimize_only"].boolean(),
        parse_config(config, None, count=_ANY_COUNT, outputs=None),
        {name: found for name, found in config.entries().items() if found.term is not None},
    )


def _source(place: Place, entries: Mapping[str, Place]) -> WorkflowSource:
    if given(entries, "yaml") == given(entries, "workflow"):
        raise ValidationError("expected either `yaml`, a text, or `workflow`, a map", place.path)
    is_yaml = given(entries, "yaml")
    found = entries["yaml" if is_yaml else "workflow"]
    if not is_yaml:
        found.entries()
    elif not isinstance(found.term, bytes | str):
        raise found.refused("a binary")
    elif len(found.term) > MAX_DOCUMENT_BYTES:
        raise ValidationError(f"a text of {len(found.term)} bytes, limit {MAX_DOCUMENT_BYTES}", found.path)
    return WorkflowSource(
        found,
        is_yaml,
        entries["file"].text() if given(entries, "file") else None,
        entries["environment"].name() if given(entries, "environment") else None,
        _map(entries, "signatures"),
    )


def _map(entries: Mapping[str, Place], key: str) -> Mapping[str, Place]:
    return entries[key].entries() if given(entries, key) else {}
