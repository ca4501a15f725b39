"""The arguments of `erlbridge bench`."""

from __future__ import annotations

import argparse
from typing import Final

from erlbridge.tools.command import runs, show_examples, takes_json, whole

_FOR_EACH: Final = {
    "write": "replace what docs/benchmarks.md has of each",
    "short": "only those that tell something within seconds",
    "gate": "fail where a ratio is several times worse than its aim",
}
"""What every benchmark takes itself."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Which one, and what goes to it."""
    parser.add_argument("--list", action="store_true", help="only say which there are")
    takes_json(parser)
    for name, about in _FOR_EACH.items():
        parser.add_argument(f"--{name}", action="store_true", help=about)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one; without it all, one after the other")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="what the benchmark itself takes")
    show_examples(
        parser,
        "erlbridge bench --list\nerlbridge bench codec\nerlbridge bench codec_lazy 5\nerlbridge bench --write\n"
        "erlbridge bench --short --gate",
    )
    runs(parser, _bench)


def _bench(options: argparse.Namespace) -> int:
    from erlbridge.tools import bench  # noqa: PLC0415 - what the help does without

    if options.list or options.json:
        return whole(options, lambda: bench.show(json=options.json))
    given = [f"--{name}" for name in _FOR_EACH if getattr(options, name)]
    if options.name is None:
        return whole(options, lambda: bench.run_all(given, short=options.short))
    return whole(options, lambda: bench.run(options.name, [*given, *options.arguments]))
