"""The `erlbridge` command. Reads arguments; what it starts lives in the other rooms and loads only when asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from erlbridge import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code: 0 done, 2 wrong arguments, else what `serve` ended with."""
    options = _parser().parse_args(arguments)
    match options.command:
        case "serve":
            return _serve(options)
        case _:
            from erlbridge.tools.vocabulary import elixir_module  # noqa: PLC0415

            sys.stdout.write(elixir_module())
            return 0


def _serve(options: argparse.Namespace) -> int:
    # The wire is taken before anything is imported that might print.
    from erlbridge.node.descriptors import take_wire  # noqa: PLC0415

    try:
        wire = take_wire(*options.fds)
    except OSError as error:
        sys.stderr.write(f"erlbridge serve: the wire's descriptors {options.fds} cannot be used: {error}\n")
        return 2
    from erlbridge.node.about import About  # noqa: PLC0415
    from erlbridge.node.config import NodeConfig, default_data, default_workers  # noqa: PLC0415

    config = NodeConfig(
        workers=options.workers or default_workers(),
        data=options.data or default_data(),
        max_frame_bytes=options.max_frame_bytes,
        max_queue=options.max_queue,
        credit=options.credit,
    )
    about = About(config)
    about.announce(wire[1])
    from erlbridge.node.node import serve  # noqa: PLC0415 - half of the start's time, which the host need not wait for

    return serve(config, about, wire)


def _parser() -> argparse.ArgumentParser:
    from erlbridge.limits import CREDIT, MAX_FRAME_BYTES, MAX_QUEUE  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="erlbridge", description="Drive DSPy from Elixir over a Port.")
    parser.add_argument("--version", action="version", version=f"erlbridge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the wire on standard input and output, as a Port's program")
    serve.add_argument(
        "--workers", type=_between(1, 256), help="worker processes (default: one a processor, at most 4)"
    )
    serve.add_argument("--data", type=Path, help="directory of what lasts (default: $ERLBRIDGE_DATA, else the user's)")
    serve.add_argument("--max-frame-bytes", type=_between(4096, 2**31 - 1), default=MAX_FRAME_BYTES)
    serve.add_argument("--max-queue", type=_between(0, 1_000_000), default=MAX_QUEUE, help="requests that may wait")
    serve.add_argument(
        "--credit", type=_between(0, 1_000_000), default=CREDIT, help="events before the host grants more"
    )
    serve.add_argument(
        "--fds", type=_descriptors, default=(0, 1), metavar="IN,OUT", help="3,4 for a Port's :nouse_stdio"
    )
    commands.add_parser("vocabulary", help="print the Elixir module of the atoms that the node may emit")
    return parser


class _between:  # noqa: N801 - reads as the function that argparse takes it for
    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def __call__(self, text: str) -> int:
        value = int(text)
        if not self.least <= value <= self.most:
            raise argparse.ArgumentTypeError(f"expected {self.least} to {self.most}, got {value}")
        return value

    def __repr__(self) -> str:
        return "whole number"


def _descriptors(text: str) -> tuple[int, int]:
    try:
        incoming, outgoing = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two descriptors such as 3,4, got {text!r}") from None
    return incoming, outgoing
