"""The arguments of `erlbridge ask`."""

from __future__ import annotations

import argparse
from pathlib import Path

from erlbridge.tools.command import runs, show_examples
from erlbridge.tools.jobs.arguments import show_exits, takes_meta, takes_node

_EXAMPLES = """
erlbridge ask health_check
erlbridge ask train_model --payload training.yaml --entry training_data=sha256:3f1c9a
erlbridge ask fetch_result --entry idempotency_key=nightly-2026-11-23
erlbridge ask predict --payload job.json --entry 'input:={"question": "How far is the moon?"}'

docs/wire/verbs.md says what each verb takes and gives.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """A verb and its payload."""
    parser.add_argument("verb", metavar="VERB", help="such as train_model, fetch_result, stats, clear_cache")
    parser.add_argument(
        "--entry",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="an entry of its payload; also NAME:=JSON, and NAME=@FILE",
    )
    parser.add_argument("--payload", type=Path, metavar="FILE", help="the payload as JSON, YAML or TOML")
    takes_meta(parser)
    takes_node(parser)
    show_examples(parser, _EXAMPLES)
    show_exits(parser)
    runs(parser, _ask)


def _ask(options: argparse.Namespace) -> int:
    from erlbridge.tools.jobs.asking import ask  # noqa: PLC0415 - what the help does without

    return ask(options)
