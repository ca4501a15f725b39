"""The arguments of `erlbridge doctor`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import printed, runs, show_examples, takes_json, takes_settings

_EXAMPLES = """
erlbridge doctor
erlbridge doctor --config node.toml --json
erlbridge doctor --lm openai/gpt-4o-mini --lm http://gpu:8000/v1

Exits with 1 when a line says `failed`: a node would not run, or an endpoint cannot be used.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """It has no commands below it, and takes every setting."""
    takes_json(parser)
    parser.add_argument(
        "--lm",
        action="append",
        default=[],
        metavar="MODEL|URL",
        help="a model's name, or its endpoint's address: is it there, and does it take the key? Nothing is paid for",
    )
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="the variable that holds its key (OPENAI_API_KEY and the like)"
    )
    takes_settings(parser)
    show_examples(parser, _EXAMPLES)
    runs(parser, _doctor)


def _doctor(options: argparse.Namespace) -> int:
    from erlbridge.tools.doctor import doctor  # noqa: PLC0415 - what starts workers, which the help does not

    return printed(
        options,
        lambda resolved: doctor(
            resolved.config, json=options.json, models=options.lm, key_variable=options.api_key_env
        ),
    )
