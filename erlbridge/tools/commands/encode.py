"""The arguments of `erlbridge encode`."""

from __future__ import annotations

import argparse

from erlbridge.tools.command import runs, show_examples, takes_json, whole
from erlbridge.tools.encode import NOTATIONS, encode


def declare(parser: argparse.ArgumentParser) -> None:
    """Takes a term and how to write its bytes."""
    show_examples(
        parser,
        "erlbridge encode '{:health_check, 1, %{}}'\n"
        'erlbridge encode --notation erlang "{ok, \'a b\', \\"charlist\\"}"\n'
        "erlbridge encode --raw --frame '{:stats, 1, %{}}' | erlbridge serve",
    )
    parser.add_argument("term", metavar="TERM", help="a term in Elixir's or Erlang's notation; `-` is standard input")
    parser.add_argument(
        "--notation",
        choices=NOTATIONS,
        help="the notation it is in; else Elixir's is tried, then Erlang's (\"a\" and 'a' are other terms there)",
    )
    parser.add_argument("--raw", action="store_true", help="write the bytes themselves, not hexadecimal")
    parser.add_argument("--frame", action="store_true", help="put its length in four bytes before it")
    parser.add_argument("--compressed", action="store_true", help="compress it if that makes it shorter")
    parser.add_argument("--deterministic", action="store_true", help="write maps in the order of their keys")
    takes_json(parser)
    runs(
        parser,
        lambda options: whole(
            options,
            lambda: encode(
                options.term,
                notation=options.notation,
                raw=options.raw,
                frame=options.frame,
                compressed=options.compressed,
                deterministic=options.deterministic,
                json=options.json,
            ),
        ),
    )
