"""The arguments of `erlbridge demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from erlbridge.tools.command import runs, show_examples, takes_json
from erlbridge.tools.jobs.arguments import show_exits

_EXAMPLES = """
erlbridge demo
erlbridge demo labeled_few_shot bootstrap_few_shot
erlbridge demo mipro_v2 --latency 20
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Optimizers to try, and what makes it slower to watch."""
    parser.add_argument(
        "optimizers",
        nargs="*",
        default=["bootstrap_few_shot_with_random_search"],
        metavar="OPTIMIZER",
        help="such as labeled_few_shot, bootstrap_few_shot or mipro_v2 (bootstrap_few_shot_with_random_search)",
    )
    parser.add_argument("--latency", type=int, default=0, metavar="MS", help="delay of each model call, to watch it")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="what is drawn at random (0)")
    parser.add_argument("-v", "--verbose", action="store_true", help="what it logs, on standard error")
    takes_json(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's settings; $ERLBRIDGE_CONFIG")
    parser.add_argument(
        "--node", action="append", default=[], metavar="NAME=VALUE", help="a setting of the node, such as workers=2"
    )
    show_examples(parser, _EXAMPLES)
    show_exits(parser)
    runs(parser, _demo)


def _demo(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs.demo import demo  # noqa: PLC0415 - what the help does without

    return demo(options)
