"""pipeline_ex's workflows: YAML text, or the same as a map, becomes a plan of steps; everything wrong is told at once.

Knows documents and plans as values; runs nothing. What a step's text may refer to is `workflow_templates`', its fields
`workflow_signatures`', its settings `workflow_settings`'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from erlbridge.core.examples import plain
from erlbridge.core.problems import Problem, Problems, said
from erlbridge.core.signatures import Signature
from erlbridge.core.workflow_prompts import Part, check_references, parse_prompt
from erlbridge.core.workflow_settings import ENVIRONMENTS, Settings, merged, parse_settings
from erlbridge.core.workflow_signatures import check_examples, field_templates, read_signature
from erlbridge.core.workflow_templates import Template
from erlbridge.core.yaml_text import Node, lines, read_yaml
from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_NODES, MAX_WORKFLOW_STEPS
from erlbridge.wire.place import Place, given, nearest

OPTIMIZED: Final = "dspy_optimized"
"""The key of a step under which what an optimization gave stands."""

_SIGNATURE_KEYS: Final = ("dspy_signature", "signature")
_ROOT_KEYS: Final = ("workflow", "pipeline", "steps", "environments", "dspy_config", "name", "version", "description")
_WORKFLOW_KEYS: Final = ("name", "description", "version", "steps", "dspy_config", "environments", "defaults")
_KNOWN_KEYS: Final = frozenset((*_ROOT_KEYS, *_WORKFLOW_KEYS))
_STEP_KEYS: Final = ("name", "type", "prompt", *_SIGNATURE_KEYS, "dspy_config", "examples", OPTIMIZED)
_DSPY_TYPES: Final = ("dspy_claude", "dspy_gemini", "dspy_chain")
_OPTIMIZED_KEYS: Final = (
    "made_from", "program_id", "optimizer", "module", "score_before", "score_after", "predictors", "examples",
)  # fmt: skip
_MAX_NAME_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Document:
    """A workflow as it was sent: plain data, and for YAML its text and where everything stands in it."""

    data: Any
    path: str
    problems: Problems
    text: str | None = None
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan.

    Attributes:
        place: The step as it stands in the document, and its path there.
        signature: What DSPy runs; None for a step that the host executes.
        signature_key: Under which key the signature stands.
        signature_term: The signature as `core.signatures` reads it, whatever stood in the document.
        templates: The templates of input fields, by field.
    """

    name: str
    type: str
    place: Place
    settings: Settings
    prompt: tuple[Part, ...] = ()
    signature: Signature | None = None
    signature_key: str = "signature"
    signature_term: object = None
    templates: Mapping[str, Template] = field(default_factory=dict)
    examples: Place | None = None
    optimized: Place | None = None

    @property
    def kind(self) -> str:
        """`dspy`, or `other` for what the host executes."""
        return "other" if self.signature is None else "dspy"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow that can be run. `settings` are its `dspy_config` for the chosen environment, as they stand."""

    name: str | None
    steps: tuple[Step, ...]
    settings: object
    warnings: tuple[Problem, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the files that prompts name, each once, as they stand there."""
        named = (part.file for step in self.steps for part in step.prompt if part.file is not None)
        return tuple(dict.fromkeys(named))


def yaml_document(place: Place, file: str | None) -> Document:
    """The document of a YAML text. Raises `ValidationError` like `parse_workflow`."""
    text = place.text()
    try:
        node = read_yaml(text, place.path)
    except ValidationError as error:
        problems = Problems(file=file, place=place.path)
        line = error.context.get("line")
        found = said(error).removeprefix(f"line {line}: ")
        problems.errors.append(Problem("", line if isinstance(line, int) else None, found))
        problems.check()
        raise
    return Document(node.data(), place.path, Problems(lines(node), file, place.path), text, node)


def map_document(place: Place, file: str | None) -> Document:
    """The document of a map, with text for its atoms. Raises `ValidationError`."""
    _check_size(place)
    return Document(plain(place, MAX_DOCUMENT_DEPTH), place.path, Problems(file=file, place=place.path))


def _check_size(place: Place) -> None:
    """Counts before anything is copied."""
    count, waiting = 0, [place.term]
    while waiting:
        part = waiting.pop()
        count += 1
        match part:
            case list() | tuple():
                waiting.extend(part)
            case dict() | Mapping():
                waiting.extend(part.values())
        if count + len(waiting) > MAX_DOCUMENT_NODES:
            raise place.refused(f"at most {MAX_DOCUMENT_NODES} values")


def parse_workflow(
    document: Document, environment: str | None, signatures: Mapping[str, Place], files: Collection[str] = ()
) -> Workflow:
    """The plan of a document.

    Args:
        environment: Whose `dspy_config` is laid over the workflow's.
        signatures: What a signature that is only a name stands for.
        files: The files whose texts are at hand.

    Raises `ValidationError`; its `context.errors` has every error as `%{path, line, message}`, warnings apart.
    """
    problems = document.problems
    root = _root(document)
    workflow = _parse_root(root, environment, signatures, problems) if root is not None else None
    problems.check()
    assert workflow is not None  # noqa: S101 - without a root there was an error
    _warn_of_files(workflow, files, problems)
    return replace(workflow, warnings=tuple(problems.warnings))


@dataclass(frozen=True, slots=True)
class _Root:
    """Where a workflow's own entries stand: under `workflow:`, or beside each other at the top."""

    entries: Mapping[str, Place]
    name: Place | None


def _root(document: Document) -> _Root | None:
    problems = document.problems
    if not isinstance(document.data, Mapping):
        problems.error("", Place(document.data, "").refused("a map with the key `workflow`").message.removeprefix(": "))
        return None
    top = {name: Place(value, name) for name, value in document.data.items()}
    for name, place in top.items():
        if name not in _KNOWN_KEYS and (hint := nearest(name, _ROOT_KEYS)):
            problems.warn(place.path, f"unknown key `{name}`{hint}; it changes nothing here")
    if "workflow" in top:
        inner = problems.attempt(top["workflow"].entries)
        if inner is None:
            return None
        beside = {name: top[name] for name in ("environments", "dspy_config") if name in top and name not in inner}
        return _Root({**inner, **beside}, inner.get("name"))
    if "steps" not in top:
        problems.error("", f"expected the key `workflow`, with `name` and `steps`, got {_names(top)}")
        return None
    pipeline = top.get("pipeline")
    if pipeline is None:
        problems.warn("steps", "`steps` at the top, without `workflow:` above them; understood")
        return _Root(top, top.get("name"))
    problems.warn("pipeline", "`pipeline:` beside `steps:` in the place of `workflow:`; understood")
    if not isinstance(pipeline.term, Mapping):
        return _Root(top, pipeline)
    inner = problems.attempt(pipeline.entries) or {}
    return _Root({**inner, **top}, inner.get("name", top.get("name")))


def _parse_root(
    root: _Root, environment: str | None, signatures: Mapping[str, Place], problems: Problems
) -> Workflow | None:
    entries = root.entries
    for key, place in entries.items():
        if key not in _KNOWN_KEYS and (hint := nearest(key, _WORKFLOW_KEYS)):
            problems.warn(place.path, f"unknown key `{key}`{hint}; it changes nothing here")
    if root.name is None or root.name.term is None:
        problems.warn("", "the workflow has no name")
    name = None if root.name is None or root.name.term is None else problems.attempt(root.name.text)
    settings, shown = _environment(entries, environment, problems)
    steps = _parse_steps(entries, settings, signatures, problems)
    check_references([(step.name, step.place.path, step.signature, _texts(step)) for step in steps], problems)
    return Workflow(name, tuple(steps), shown, ())


def _environment(entries: Mapping[str, Place], environment: str | None, problems: Problems) -> tuple[Settings, object]:
    """The workflow's settings with the environment's laid over them, checked and as they stand."""
    settings = Settings()
    shown: object = {}
    if given(entries, "dspy_config"):
        settings = parse_settings(entries["dspy_config"], problems, of_step=False)
        shown = entries["dspy_config"].term
    known = (problems.attempt(entries["environments"].entries) or {}) if given(entries, "environments") else {}
    for name, place in known.items():
        inner = problems.attempt(place.entries) if place.term is not None else None
        if name not in ENVIRONMENTS:
            problems.warn(place.path, f"unknown environment `{name}`{nearest(name, ENVIRONMENTS)}")
        if inner and given(inner, "dspy_config"):
            above = parse_settings(inner["dspy_config"], problems, of_step=False)
            if name == environment:
                settings, shown = above.over(settings), merged(shown, inner["dspy_config"].term)
    if environment is not None and environment not in (*known, *ENVIRONMENTS):
        problems.error("environments", f"no environment `{environment[:60]}`{nearest(environment, [*known])}")
    return settings, shown


def _parse_steps(
    entries: Mapping[str, Place], settings: Settings, signatures: Mapping[str, Place], problems: Problems
) -> list[Step]:
    if "steps" not in entries:
        path = entries["name"].path.rpartition(".")[0] if "name" in entries else "workflow"
        problems.error(path, "expected the key `steps`, a list of at least one step")
        return []
    place = entries["steps"]
    if not isinstance(place.term, list) or not place.term:
        problems.error(place.path, said(place.refused("a list of at least one step")))
        return []
    if len(place.term) > MAX_WORKFLOW_STEPS:
        problems.error(place.path, said(place.refused(f"at most {MAX_WORKFLOW_STEPS} steps")))
        return []
    names = [item.term["name"] for item in place.items() if isinstance(item.term, Mapping) and "name" in item.term]
    names = [name for name in names if isinstance(name, str)]
    steps: list[Step] = []
    for item in place.items():
        step = _parse_step(item, names, settings, signatures, problems)
        if step is None:
            continue
        if any(other.name == step.name for other in steps):
            problems.error(f"{item.path}.name", f"another step is called `{step.name}` already")
        steps.append(step)
    return steps


def _parse_step(
    place: Place, names: Sequence[str], above: Settings, signatures: Mapping[str, Place], problems: Problems
) -> Step | None:
    entries = problems.attempt(place.entries)
    if entries is None:
        return None
    name = problems.attempt(_name, place, entries, "name")
    kind = problems.attempt(_name, place, entries, "type")
    for key, entry in entries.items():
        if key not in _STEP_KEYS and (hint := nearest(key, _STEP_KEYS)):
            problems.warn(entry.path, f"unknown key `{key}`{hint}; it is left to the host")
    if "dspy_config" in entries:
        above = parse_settings(entries["dspy_config"], problems, of_step=True).over(above)
    step = Step(
        name or "",
        kind or "",
        place,
        above,
        parse_prompt(entries["prompt"], names, problems) if given(entries, "prompt") else (),
    )
    found = [key for key in _SIGNATURE_KEYS if given(entries, key)]
    if len(found) == 2:
        problems.error(entries["signature"].path, "`dspy_signature` and `signature` are both there; give one of them")
    if found:
        step = _dspy_step(step, entries, names, signatures, problems)
    elif kind in _DSPY_TYPES and "chain_steps" not in _keys(entries.get("dspy_config")):
        problems.error(place.path, f"expected the key `dspy_signature` in a step of type `{kind}`")
    elif "examples" in entries and name is not None:
        problems.warn(entries["examples"].path, "examples of a step without a signature; they are left to the host")
    return step if name is not None and kind is not None else None


def _dspy_step(
    step: Step,
    entries: Mapping[str, Place],
    names: Sequence[str],
    signatures: Mapping[str, Place],
    problems: Problems,
) -> Step:
    key = next(key for key in _SIGNATURE_KEYS if given(entries, key))
    place = entries[key]
    if step.type in _DSPY_TYPES:
        problems.warn(entries["type"].path, f"pipeline_ex 0.1 does not load the type `{step.type}`; understood")
    if given(entries, "prompt") and isinstance(entries["prompt"].term, str):
        problems.warn(entries["prompt"].path, "a text as the prompt beside a signature; pipeline_ex 0.1 takes a list")
    term, signature = read_signature(place, signatures, problems)
    step = replace(
        step,
        signature=signature,
        signature_key=key,
        signature_term=term,
        templates=field_templates(place, names, problems),
    )
    if given(entries, OPTIMIZED):
        problems.attempt(_check_optimized, entries[OPTIMIZED])
        step = replace(step, optimized=entries[OPTIMIZED])
    if given(entries, "examples"):
        step = replace(step, examples=check_examples(entries["examples"], signature, problems))
    return step


def _check_optimized(place: Place) -> None:
    """The outline; its demos are read where the program is built."""
    entries = place.only(_OPTIMIZED_KEYS)
    for predictor in place.required(entries, "predictors").entries().values():
        predictor.only(("instructions", "fields", "demos"))


def _warn_of_files(workflow: Workflow, files: Collection[str], problems: Problems) -> None:
    """A step of the host gets no prompt at all then, and may read the file itself."""
    for step in workflow.steps:
        if step.signature is not None and any(part.file and part.file not in files for part in step.prompt):
            problems.warn(
                f"{step.place.path}.prompt",
                "no files are read here; the file's part is left out of the prompt unless the request holds its text, "
                "under `files`",
            )


def _name(parent: Place, entries: dict[str, Place], key: str) -> str:
    place = parent.required(entries, key)
    name = place.text()
    if not name or len(name) > _MAX_NAME_CHARACTERS:
        raise place.refused(f"a text of 1 to {_MAX_NAME_CHARACTERS} characters")
    return name


def _texts(step: Step) -> list[Template | Part]:
    return [*step.prompt, *step.templates.values()]


def _keys(place: Place | None) -> tuple[object, ...]:
    return tuple(place.term) if place is not None and isinstance(place.term, Mapping) else ()


def _names(entries: Mapping[str, Place]) -> str:
    return ", ".join(f"`{name[:60]}`" for name in list(entries)[:20]) or "an empty map"
