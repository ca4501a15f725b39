"""`erlbridge run`: a workflow's steps, in order, or what is wrong with it; the optimized text where it is wanted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_DOCUMENT_BYTES
from erlbridge.node.config import NodeConfig
from erlbridge.tools.documents import read_text
from erlbridge.tools.jobs import inputs
from erlbridge.tools.jobs.optimizing import costs, warned
from erlbridge.tools.jobs.running import Session, success, with_node
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.opening import written
from erlbridge.tools.wording import plain
from erlbridge.wire.answers import named, text


def run_workflow(options: argparse.Namespace) -> int:
    """Runs the workflow and prints each step's output as a JSON line; with `check` only says what it is."""
    return with_node(options, lambda session, config: _run(options, session, config))


def _run(options: argparse.Namespace, session: Session, config: NodeConfig) -> int:
    payload: dict[str, object] = {
        "yaml": read_text(options.workflow, MAX_DOCUMENT_BYTES),
        "file": str(options.workflow),
    }
    if options.environment is not None:
        payload["environment"] = options.environment
    try:
        loaded = session.ask("load_workflow", payload)
    except ValidationError as error:
        _print_problems(options, error)
        raise
    if options.check:
        return _print_plan(options, loaded)
    payload |= {
        "config": inputs.config(options),
        "inputs": inputs.entries(options.input, "--input"),
        "optimize_only": options.optimize_only,
        "programs": dict(_by_step(options.program, "--program")),
        "training_data": {
            step: inputs.dataset(config, [name], "--train") for step, name in _by_step(options.train, "--train")
        },
        "files": _files(options.workflow, loaded),
    }
    result = session.ask("run_pipeline", payload, inputs.meta(options))
    if options.output is not None:
        with written(options.output) as file:
            file.write(text(result["optimized_yaml"]).encode())
    if options.json:
        print(line(success(result)))
        return 0
    for step, output in named(result.get("outputs")).items():
        print(line({step: as_json(output, step, lenient=True)}))
    sys.stderr.write(f"{costs(named(result.get('metrics')))}\n")
    warned(result)
    return 0


def _by_step(texts: list[str], argument: str) -> Iterator[tuple[str, str]]:
    for given in texts:
        step, equals, value = given.partition("=")
        if not (step and equals and value):
            raise ValidationError(f"expected STEP=…, got {given!r}", argument)
        yield step, value


def _files(workflow: Path, loaded: Mapping[str, object]) -> dict[str, str]:
    """The texts of the files that its prompts name, out of the workflow's own directory alone: a workflow from
    elsewhere shall not have a key of this machine sent to a model. One that is not there is left out, which the
    result's warnings say."""
    home = workflow.resolve().parent
    found = {}
    named_files = loaded.get("files")
    for path in map(text, named_files if isinstance(named_files, list) else ()):
        file = (home / path).resolve()
        if not file.is_relative_to(home):
            raise ValidationError(f"a file outside of the workflow's own directory, {home}", path)
        if file.is_file():
            found[path] = read_text(file)
    return found


def _print_plan(options: argparse.Namespace, loaded: Mapping[str, object]) -> int:
    if options.json:
        print(line(success(loaded)))
        return 0
    print(f"{plain(text(loaded['name']))}: nothing is wrong with it")
    steps = loaded.get("steps")
    for step in steps if isinstance(steps, list) else ():
        entries = named(step)
        print("  " + plain(f"{text(entries['name'])}  {text(entries['type'])}, {text(entries['kind'])}"))
    warned(loaded)
    return 0


def _print_problems(options: argparse.Namespace, error: ValidationError) -> None:
    """Everything that is wrong with it, as compilers write it."""
    problems = error.context.get("errors")
    if options.json or not isinstance(problems, list):
        return
    for problem in map(named, problems):
        at = f"{options.workflow}:{problem['line']}" if problem.get("line") else str(options.workflow)
        sys.stderr.write(f"{at}: {plain(text(problem.get('path')))}: {plain(text(problem.get('message')))}\n")
