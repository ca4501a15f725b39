"""The arguments of `erlbridge run`."""

from __future__ import annotations

import argparse
from pathlib import Path

from erlbridge.tools.command import runs, show_examples
from erlbridge.tools.jobs.arguments import show_exits, takes_config, takes_meta, takes_node

_EXAMPLES = """
erlbridge run triage.yaml --check
erlbridge run triage.yaml --input 'subject=Charged twice' --input body=@mail.txt --lm openai/gpt-4o-mini
erlbridge run triage.yaml --optimize-only --train classify=tickets.jsonl --lm offline -o triage.yaml

Steps that are not DSPy's are the host's own in Elixir, and fail here.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """A workflow and its inputs, and how."""
    parser.add_argument("workflow", type=Path, metavar="FILE", help="a workflow as YAML (docs/workflows.md)")
    parser.add_argument("--check", action="store_true", help="only say what it is, or all that is wrong with it")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="an input of the workflow; also NAME:=JSON, and NAME=@FILE",
    )
    parser.add_argument("--environment", metavar="NAME", help="whose settings are laid over the workflow's")
    parser.add_argument(
        "--train", action="append", default=[], metavar="STEP=FILE|DATASET", help="what a step is optimized with"
    )
    parser.add_argument(
        "--program", action="append", default=[], metavar="STEP=ID", help="a stored program that a step uses as it is"
    )
    parser.add_argument("--optimize-only", action="store_true", help="optimize its steps and run none")
    takes_config(parser, optimizer=True)
    parser.add_argument("-o", "--output", metavar="FILE", help="write the workflow with what was optimized in it")
    takes_meta(parser)
    takes_node(parser)
    show_examples(parser, _EXAMPLES)
    show_exits(parser)
    runs(parser, _run)


def _run(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs.workflows import run_workflow  # noqa: PLC0415 - what the help does without

    return run_workflow(options)
