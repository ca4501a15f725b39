"""The arguments of `erlbridge decode`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import runs, show_examples, whole
from erlbridge.tools.decode import FORMATS, decode


def declare(parser: argparse.ArgumentParser) -> None:
    """Takes a source and how to show what is in it."""
    show_examples(
        parser,
        "erlbridge decode --hex 8368027702 6f6b6101\n"
        "erlbridge decode frames.bin --format erlang\n"
        "erlbridge decode frames.bin --tags --limit 200\n"
        "xxd -p term.bin | erlbridge decode --hex -",
    )
    parser.add_argument(
        "source",
        nargs="+",
        metavar="FILE",
        help="terms one after another, or frames with lengths of four bytes; `-` is standard input",
    )
    parser.add_argument("--hex", action="store_true", help="FILE is no file, it is the bytes themselves in hexadecimal")
    parser.add_argument("--format", choices=FORMATS, default="elixir", help="the notation of the terms (elixir)")
    parser.add_argument("--tags", action="store_true", help="show what every byte means")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="leave out of a term what is beyond about N characters (elixir, erlang)"
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    runs(parser, _decode)


def _decode(options: argparse.Namespace) -> int:
    options.json = options.format == "json"  # errors too
    return whole(
        options,
        lambda: decode(options.source, hex=options.hex, form=options.format, tags=options.tags, limit=options.limit),
    )
