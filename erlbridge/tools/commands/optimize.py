"""The arguments of `erlbridge optimize`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import runs, show_examples
from erlbridge.tools.jobs.arguments import show_exits, takes_config, takes_meta, takes_node, takes_source

_EXAMPLES = """
erlbridge optimize --signature 'question -> answer' --train train.jsonl --lm openai/gpt-4o-mini
erlbridge optimize --signature triage.yaml --train tickets.csv --holdout 0.3 --lm offline --optimizer mipro_v2
erlbridge optimize --program program:9f86… --train sha256:3f1c9a --job job.yaml --set budget.max_cost_usd=5
erlbridge optimize --signature triage.yaml --train t.parquet --lm openai/gpt-4o-mini -o triage.etf --json

The program's id is printed alone, so that it can be kept: id=$(erlbridge optimize …). Ctrl-C cancels, and what was
found until then is stored and printed; Ctrl-C once more leaves at once.
Files of other shapes, with names to change or types to give: `erlbridge dataset import` first, then name the dataset.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """A program, examples, and how."""
    takes_source(parser)
    data = parser.add_argument_group("the examples", "JSONL, CSV and Parquet files, or a dataset such as sha256:3f1c9a")
    data.add_argument("--train", nargs="+", required=True, metavar="FILE|DATASET", help="what is learned from")
    chosen = data.add_mutually_exclusive_group()
    chosen.add_argument("--validation", nargs="+", metavar="FILE|DATASET", help="what programs are chosen by")
    chosen.add_argument("--holdout", type=_share, metavar="SHARE", help="or a share of the others, such as 0.3")
    takes_config(parser, optimizer=True)
    parser.add_argument("-o", "--output", metavar="FILE", help="write the program too, as .etf (exact) or .json")
    takes_meta(parser)
    takes_node(parser)
    show_examples(parser, _EXAMPLES)
    show_exits(parser)
    runs(parser, _optimize)


def _optimize(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs.optimizing import optimize  # noqa: PLC0415 - what the help does without

    return optimize(options)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, such as 0.3, got {text!r}")
    return share
