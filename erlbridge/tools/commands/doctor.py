"""The arguments of `erlbridge doctor`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import printed, runs, show_examples, takes_json, takes_settings


def declare(parser: argparse.ArgumentParser) -> None:
    """It has no commands below it, and takes every setting."""
    takes_json(parser)
    takes_settings(parser)
    show_examples(parser, "erlbridge doctor\nerlbridge doctor --config node.toml --json")
    runs(parser, _doctor)


def _doctor(options: argparse.Namespace) -> int:
    from erlbridge.tools.doctor import doctor  # noqa: PLC0415 - what starts workers, which the help does not

    return printed(options, lambda resolved: doctor(resolved.config, json=options.json))
