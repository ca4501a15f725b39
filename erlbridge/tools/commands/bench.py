"""The arguments of `erlbridge bench`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import runs, show_examples, takes_json, whole


def declare(parser: argparse.ArgumentParser) -> None:
    """Which one, and what goes to it."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one; without it they are listed")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="what the benchmark itself takes")
    takes_json(parser)
    show_examples(parser, "erlbridge bench\nerlbridge bench codec\nerlbridge bench codec_lazy 5")
    runs(parser, _bench)


def _bench(options: argparse.Namespace) -> int:
    from erlbridge.tools import bench  # noqa: PLC0415 - what the help does without

    if options.name is None:
        return whole(options, lambda: bench.show(json=options.json))
    return whole(options, lambda: bench.run(options.name, options.arguments))
