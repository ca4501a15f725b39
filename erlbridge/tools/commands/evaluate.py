"""The arguments of `erlbridge evaluate`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import runs, show_examples
from erlbridge.tools.jobs.arguments import show_exits, takes_config, takes_meta, takes_node, takes_source

_EXAMPLES = """
erlbridge evaluate --program program:9f86… --examples held_out.jsonl --lm openai/gpt-4o-mini
erlbridge evaluate --signature 'question -> answer' --examples sha256:3f1c9a --lm offline --metric f1 --json
erlbridge evaluate --program triage.etf --examples tickets.csv --lm offline -o answers.jsonl
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """A program, examples, and how."""
    takes_source(parser)
    parser.add_argument(
        "--examples", nargs="+", required=True, metavar="FILE|DATASET", help="JSONL, CSV, Parquet, or sha256:3f1c9a"
    )
    takes_config(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write each example's answer and score, as JSON lines")
    takes_meta(parser)
    takes_node(parser)
    show_examples(parser, _EXAMPLES)
    show_exits(parser)
    runs(parser, _evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs.evaluating import evaluate  # noqa: PLC0415 - what the help does without

    return evaluate(options)
