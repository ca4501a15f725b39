"""The arguments of `erlbridge audit …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from erlbridge.tools.audit import verify
from erlbridge.tools.command import printed, runs, subcommand, subcommands, takes_data, takes_json, whole


def declare(parser: argparse.ArgumentParser) -> None:
    """`verify`."""
    verified = subcommand(
        subcommands(parser),
        "verify",
        "whether the log is what was written; exits with 1 when it is not",
        examples="erlbridge audit verify\nerlbridge audit verify /backup/audit --head 9f86d081884c7d65…",
    )
    verified.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="directories or files of a log (the data directory's)"
    )
    verified.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="SHA256",
        help="a `head` that health_check told, noted elsewhere: everything up to it must be there unchanged",
    )
    takes_json(verified)
    takes_data(verified)
    runs(verified, _verify)


def _verify(options: argparse.Namespace) -> int:
    if options.paths:
        return whole(options, lambda: verify(options.paths, options.head, json=options.json))
    return printed(options, lambda resolved: verify([resolved.config.data / "audit"], options.head, json=options.json))
