"""The arguments of `erlbridge config …`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import printed, runs, subcommand, subcommands, takes_json, takes_settings
from erlbridge.tools.config import show


def declare(parser: argparse.ArgumentParser) -> None:
    """`show`."""
    shown = subcommand(
        subcommands(parser),
        "show",
        "what is in force, and where each value came from",
        examples="erlbridge config show\nERLBRIDGE_WORKERS=2 erlbridge config show --config node.toml --json",
    )
    takes_json(shown)
    takes_settings(shown)
    runs(shown, lambda options: printed(options, lambda resolved: show(resolved, json=options.json)))
