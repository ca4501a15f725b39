"""The arguments of `erlbridge vocabulary`: none."""

from __future__ import annotations

import argparse
import sys

from erlbridge.tools.command import runs, show_examples, whole
from erlbridge.tools.vocabulary import elixir_module


def declare(parser: argparse.ArgumentParser) -> None:
    """It takes nothing."""
    show_examples(parser, "erlbridge vocabulary > lib/pipeline/dspy/vocabulary.ex")
    runs(parser, lambda options: whole(options, _show))


def _show() -> int:
    sys.stdout.write(elixir_module())
    return 0
