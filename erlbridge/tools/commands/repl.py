"""The arguments of `erlbridge repl`."""

from __future__ import annotations

import argparse
from pathlib import Path

from erlbridge.tools.command import EXIT_CONFIGURATION, EXIT_FAILED, runs, show_examples, takes_json, whole

_EXAMPLES = """
erlbridge repl                                     # type terms, send them to a fresh node
erlbridge repl node.capture                        # look at what was captured
erlbridge repl node.capture -c 'frames error' -c 'timeline 7'
echo 'stats verb=predict' | erlbridge repl node.capture --json
erlbridge repl node.capture -c replay --node '--workers 4 --data /var/lib/erlbridge'

`help` inside lists the commands. Without a terminal, or with -c, it exits with 1 when a command is refused or answers
of a replay differ.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """A capture, if any, and commands to carry out instead of asking for them."""
    show_examples(parser, _EXAMPLES)
    parser.add_argument("capture", nargs="?", type=Path, metavar="CAPTURE", help="a file that `serve --capture` wrote")
    parser.add_argument(
        "-c",
        "--command",
        dest="lines",
        action="append",
        default=[],
        metavar="LINE",
        help="carry this out and leave; may stand several times",
    )
    parser.add_argument(
        "--node",
        default="",
        metavar="ARGUMENTS",
        help="arguments of `serve` for the node that `send` and `replay` start",
    )
    parser.add_argument(
        "--background", choices=("dark", "light"), help="what the terminal is drawn on (the terminal is asked)"
    )
    takes_json(parser)
    runs(parser, _run)


def _run(options: argparse.Namespace) -> int:
    import shlex  # noqa: PLC0415 - for this command alone

    from erlbridge.errors import MissingPackage, ValidationError  # noqa: PLC0415
    from erlbridge.tools.failing import say_failed  # noqa: PLC0415
    from erlbridge.tools.repl.run import Arguments, run  # noqa: PLC0415
    from erlbridge.wire.capture import CaptureError  # noqa: PLC0415

    try:
        node = shlex.split(options.node)
    except ValueError as error:
        say_failed(options, ValidationError(f"{error}", "--node"))
        return EXIT_CONFIGURATION
    arguments = Arguments(options.capture, options.lines, node, options.json, options.background)
    try:
        return whole(options, lambda: run(arguments))
    except ImportError as error:
        say_failed(options, MissingPackage(f"{error.name} is missing: pip install 'erlbridge[repl]'"))
        return EXIT_CONFIGURATION
    except CaptureError as error:
        say_failed(options, ValidationError(f"{error}", f"{options.capture}"))
        return EXIT_FAILED
