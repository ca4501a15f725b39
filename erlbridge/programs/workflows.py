"""The verbs `load_workflow` and `run_pipeline`. Knows the order of the steps and the results' shapes."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from erlbridge.core.examples import plain
from erlbridge.core.jobs import Observer, Outcome
from erlbridge.core.spelling import Spelling
from erlbridge.core.workflow import Document, Step, Workflow
from erlbridge.core.workflow_edit import Edit, edited_data, edited_yaml
from erlbridge.core.workflow_jobs import LoadWorkflow, RunPipeline, WorkflowSource
from erlbridge.core.workflow_templates import Given
from erlbridge.errors import BridgeError, ValidationError
from erlbridge.limits import MAX_DOCUMENT_BYTES
from erlbridge.programs.workflow_programs import optimized_program
from erlbridge.programs.workflow_results import Result
from erlbridge.programs.workflow_steps import RunJob, Runner
from erlbridge.wire.place import nearest
from erlbridge.wire.vocabulary import atom, atom_keys


def load_workflow(job: LoadWorkflow) -> Outcome:
    """What a workflow is: its steps, settings and warnings. Raises `ValidationError` with all of its errors."""
    _, workflow = _plan(job.source)
    return Outcome(
        atom_keys(
            {
                "status": atom("success"),
                "name": workflow.name,
                "steps": [_shown(step) for step in workflow.steps],
                "settings": workflow.settings,
                "files": list(workflow.files),
                "warnings": [problem.term() for problem in workflow.warnings],
            }
        )
    )


def run_pipeline(
    job: RunPipeline, observer: Observer, programs: Mapping[str, bytes], spelling: Spelling, run_job: RunJob
) -> Outcome:
    """Runs a workflow's steps in order. An error holds what the steps before it gave, and the programs found."""
    document, workflow = _plan(job.source, job.files)
    _check_names(job, workflow)
    inputs = {} if job.inputs is None else {name: plain(found) for name, found in job.inputs.entries().items()}
    runner = Runner(
        job, observer, dict(programs), run_job, Given(inputs, {}, job.files), workflow.name, document.problems.warn
    )
    results: list[Result] = []
    try:
        for number, step in enumerate(workflow.steps, 1):
            results.append(runner.run(step, number, len(workflow.steps)))
    except BridgeError as error:
        error.context["outputs"] = runner.given.outputs
        error.context["programs"] = {result.step.name: result.program_id for result in results if result.program_id}
        raise
    result = {
        "status": atom("success"),
        "name": workflow.name,
        "outputs": runner.given.outputs,
        "results": [result.term() for result in results],
        "metrics": atom_keys(runner.total.term(time.monotonic() - runner.started)),
        **_optimized(document, [result.edit for result in results if result.edit is not None], spelling),
        "warnings": [problem.term() for problem in document.problems.warnings],
    }
    return Outcome(atom_keys(result))


def _plan(source: WorkflowSource, files: Collection[str] = ()) -> tuple[Document, Workflow]:
    """The document and its plan, each optimized program in it read as well."""
    document = source.document()
    workflow = source.plan(document, files)
    for step in workflow.steps:
        if step.optimized is not None and step.signature is not None:
            document.problems.attempt(optimized_program, step, "predict")
    document.problems.check()
    return document, workflow


def _check_names(job: RunPipeline, workflow: Workflow) -> None:
    """What the request says about single steps must be about steps of DSPy's."""
    names = [step.name for step in workflow.steps if step.kind == "dspy"]
    for key, said in (("training_data", job.training), ("programs", job.programs)):
        for name in said:
            if name not in names:
                raise ValidationError(
                    f"no step with a signature is called `{name[:60]}`{nearest(name, names)}", f"payload.{key}"
                )


def _optimized(document: Document, edits: list[Edit], spelling: Spelling) -> dict[str, object]:
    """The workflow with what was found in place, as it came: as YAML text, or as a map."""
    if document.text is None:
        return {"optimized_workflow": _spelled(edited_data(document, edits), spelling)}
    text, kept = edited_yaml(document, edits) if edits else (document.text, True)
    if not kept:
        message = "the layout of the YAML could not be kept, nor its comments; aliases are written out"
        document.problems.warn("", message)
    if (size := len(text.encode())) > MAX_DOCUMENT_BYTES:
        message = (
            f"with its demos the workflow is {size} bytes, more than is read ({MAX_DOCUMENT_BYTES}); lower max_demos"
        )
        document.problems.warn("", message)
    return {"optimized_yaml": text}


def _spelled(value: object, spelling: Spelling) -> object:
    match value:
        case Mapping():
            return {spelling.key(name): _spelled(item, spelling) for name, item in value.items()}
        case list():
            return [_spelled(item, spelling) for item in value]
        case _:
            return value


def _shown(step: Step) -> dict[object, object]:
    signature = step.signature
    return atom_keys(
        {
            "name": step.name,
            "type": step.type,
            "kind": atom(step.kind),
            "inputs": [] if signature is None else [field.name for field in signature.input_fields],
            "outputs": [] if signature is None else [field.name for field in signature.output_fields],
        }
    )
