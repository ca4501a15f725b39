"""The arguments of `erlbridge bench`."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from erlbridge.tools.command import EXIT_CONFIGURATION, runs, show_examples, takes_json, whole

_FOR_EACH: Final = {
    "write": "replace what docs/benchmarks.md has of each",
    "short": "only those that tell something within seconds",
    "gate": "fail where a ratio has become several times worse, of those that have aims",
}
"""What benchmarks take themselves."""


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
        "erlbridge bench --list\nerlbridge bench --list codec\nerlbridge bench codec\nerlbridge bench codec_lazy 5\n"
        "erlbridge bench --write\nerlbridge bench --short --gate",
    )
    runs(parser, _bench)


def _bench(options: argparse.Namespace) -> int:
    from erlbridge.tools import bench  # noqa: PLC0415 - what the help does without

    given = [f"--{name}" for name in _FOR_EACH if getattr(options, name)]
    if options.list or options.json:
        if beside := [*given, *options.arguments]:
            return _refused(options, f"--{'list' if options.list else 'json'} measures nothing: {' '.join(beside)}")
        return whole(options, lambda: bench.show(options.name, json=options.json))
    if options.write and options.short:
        return _refused(options, "--write takes whole measurements, and --short makes short ones")
    if options.name is None:
        return whole(options, lambda: bench.run_all(given, short=options.short))
    return whole(options, lambda: bench.run(options.name, [*given, *options.arguments]))


def _refused(options: argparse.Namespace, why: str) -> int:
    sys.stderr.write(f"{options.command}: {why}; see --help\n")
    return EXIT_CONFIGURATION
