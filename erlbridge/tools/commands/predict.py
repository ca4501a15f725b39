"""The arguments of `erlbridge predict`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import runs, show_examples
from erlbridge.tools.jobs.arguments import show_exits, takes_config, takes_meta, takes_node, takes_source

_EXAMPLES = """
erlbridge predict --program program:9f86… --input 'question=How far is the moon?' --lm openai/gpt-4o-mini
erlbridge predict --signature 'text -> summary' --input text=@letter.txt --lm openai/gpt-4o-mini --stream
erlbridge predict --signature 'tags: list[string] -> title' --input 'tags:=["a","b"]' --lm offline --json
erlbridge predict --program triage.etf --inputs tickets.csv --lm offline -o answers.jsonl
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """A program, one input or many, and how."""
    takes_source(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="a field of the one input; also NAME:=JSON, and NAME=@FILE for the text of a file",
    )
    given.add_argument("--inputs", nargs="+", metavar="FILE", help="inputs by row: JSONL, CSV or Parquet")
    takes_config(parser)
    parser.add_argument("--stream", action="store_true", help="texts as the model writes them")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the answers to --inputs go (standard output)")
    takes_meta(parser)
    takes_node(parser)
    show_examples(parser, _EXAMPLES)
    show_exits(parser)
    runs(parser, _predict)


def _predict(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs.predicting import predict  # noqa: PLC0415 - what the help does without

    return predict(options)
